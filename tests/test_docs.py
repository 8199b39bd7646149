"""The documentation: it builds, its commands are real, its errors are quoted."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.posesyn import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_STARTS = ("posesyn ", "lightning ", "python -m ", "make ")


def commands(page: Path) -> Iterator[list[str]]:
    """Every command of a page's code blocks, without prompt and comment; continued lines joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            said = re.sub(r"\s+#.*$", "", line.strip().removeprefix("$ "))
            said = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", said)
            if said.startswith(_STARTS) and "..." not in said and "…" not in said and "|" not in said:
                yield shlex.split(said)


EVERY = [(page, words) for page in PAGES for words in commands(page)]


def name(value: object) -> str:
    return value.stem if isinstance(value, Path) else " ".join(value)[:60] if isinstance(value, list) else str(value)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    warnings = [line for line in done.stderr.splitlines() if line.startswith(("WARNING", "ERROR"))]
    assert done.returncode == 0, warnings or done.stderr[-2000:]
    assert (tmp_path / "site" / "api" / "synthesis.html").read_text().count("synth.eem") > 3


def test_pages_name_many_commands() -> None:
    assert len(EVERY) > 40


@pytest.mark.parametrize(("page", "words"), [e for e in EVERY if e[1][0] == "posesyn"], ids=name)
def test_posesyn_commands_exist(page: Path, words: list[str]) -> None:
    assert len(words) > 1, f"{page}: a bare posesyn"
    if words[1].startswith("-") or words[1].isupper():
        return
    assert words[1] in COMMANDS, f"{page}: {words}"
    source = "".join(p.read_text() for folder in ("cli", "synth/fleet") for p in (ROOT / folder).rglob("*.py"))
    for option in (w.split("=")[0] for w in words[2:] if w.startswith("--")):
        # Options of a parser made from signatures stand there as arguments.
        field = re.search(rf"\b{option.removeprefix('--').split('.')[-1].replace('-', '_')}: ", source)
        assert f'"{option}"' in source or option == "--config" or field, f"{page}: {' '.join(words)} has no {option}"


@pytest.mark.parametrize(("page", "words"), [e for e in EVERY if e[1][:2] == ["python", "-m"]], ids=name)
def test_modules_exist_and_take_the_options(page: Path, words: list[str]) -> None:
    if not words[2].startswith(("benchmarks", "scripts", "tests", "cli")):
        return
    found = importlib.util.find_spec(words[2])
    assert found is not None, f"{page}: no module {words[2]}"
    assert found.origin is not None
    source = Path(found.origin).read_text()
    for option in (w.split("=")[0] for w in words[3:] if w.startswith("--")):
        assert f'"{option}"' in source, f"{page}: {words[2]} has no {option}"


@pytest.mark.parametrize(("page", "words"), [e for e in EVERY if e[1][0] == "make"], ids=name)
def test_make_targets_exist(page: Path, words: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert words[1] in targets, f"{page}: make {words[1]}"


@pytest.mark.parametrize(("page", "words"), [e for e in EVERY if e[1][0] == "lightning"], ids=name)
def test_lightning_commands_name_configs_that_are_there(page: Path, words: list[str]) -> None:
    """What the configs say is tested in tests/cli; here: they exist under the names that the pages give."""
    assert words[1] in {"fit", "validate", "test", "predict"}, f"{page}: {words}"
    for at, word in enumerate(words):
        if word == "--config" and words[at + 1].startswith("configs/") and not re.search("[A-Z]{3}", words[at + 1]):
            assert (ROOT / words[at + 1]).is_file(), f"{page}: there is no {words[at + 1]}"


def test_errors_are_quoted_as_they_are() -> None:
    """Between the dots, every message in the table of troubleshooting stands in the source."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    quoted = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(quoted) >= 8
    folders = ("human", "metrics", "synth", "datamodules", "lightning_modules", "callbacks", "cli")
    files = [p for folder in folders for p in (ROOT / folder).rglob("*.py")]
    # Messages are written over several lines, with names in braces and numbers as %d.
    source = re.sub(r'"\s*\n\s*f?"', "", "\n".join(p.read_text() for p in files))
    for message in quoted:
        for piece in (p.strip(" :") for p in message.split("...")):
            assert piece in source, f"no error says {piece!r}"
