"""Commits of the hub's models: the manifest's, the user's own, and a warning where there is neither."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from cli.assets import run
from human import pins
from human.assets import fetch, load_manifest
from human.errors import PosesynError
from synth.diffusion.loading import DiffusionModel

COMMIT = "6f4df10" + "ab" * 16 + "c"
OTHER = "0123456789" * 4
MODEL = "Wan-AI/Wan2.2-Animate-14B-Diffusers"


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub's cache with Wan-Animate's files, all empty but there, as its branch "main" has them."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv(pins.VARIABLE, raising=False)
    repo = tmp_path / f"models--{MODEL.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    for member in load_manifest()["wan_animate"].members:
        file = repo / "snapshots" / COMMIT / member.path.replace("*", "part-1")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    return repo / "snapshots" / COMMIT


def test_what_is_not_pinned_is_read_and_told_once(cached: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("wan_animate", MODEL):
        assert DiffusionModel(name).where[0] == str(cached)
    assert fetch("wan_animate") == cached
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "'wan_animate' is not pinned" in caplog.text
    assert f"POSESYN_PINS=wan_animate={COMMIT}" in caplog.text  # what is here now
    caplog.clear()
    DiffusionModel("sd2_depth").where  # noqa: B018
    DiffusionModel("wan_animate", OTHER).where  # noqa: B018
    assert not caplog.records


def test_half_of_the_files_are_not_the_model(cached: Path) -> None:
    shutil.rmtree(cached / "tokenizer")
    assert DiffusionModel("wan_animate").where[0] == MODEL


def test_the_list_says_what_is_not_pinned(
    cached: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    run([])
    assert "cached, not pinned" in next(line for line in capsys.readouterr().out.splitlines() if "wan_animate" in line)
    monkeypatch.setenv(pins.VARIABLE, f"wan_animate={COMMIT}")
    run([])
    text = capsys.readouterr().out
    assert "not pinned" not in text
    assert "cached" in next(line for line in text.splitlines() if "wan_animate" in line)


def test_the_users_commit_holds(
    cached: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(pins.VARIABLE, f"wan_animate={COMMIT}, sd2_depth={OTHER}")
    model = DiffusionModel("wan_animate")
    assert model.where[0] == str(cached)
    assert model.config()["revision"] == COMMIT
    assert not caplog.records
    wan, depth = (load_manifest()[n] for n in ("wan_animate", "sd2_depth"))
    assert any(m.sha256 for m in wan.members)  # of files that the manifest knows whatever their commit
    assert depth.version == OTHER
    assert not any(m.sha256 or m.size for m in depth.members)  # another commit may hold other files
    monkeypatch.setenv(pins.VARIABLE, f"wan_animate={OTHER}")
    assert DiffusionModel("wan_animate").where[0] == MODEL  # not here
    assert OTHER in DiffusionModel("wan_animate").config().values()


@pytest.mark.parametrize("said", ["wan_animate", "wan_animate=main", "nothing=" + OTHER, "smpl=" + OTHER])
def test_wrong_pins_are_named(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pins.VARIABLE, said)
    with pytest.raises(PosesynError, match=f"POSESYN_PINS: '{said}' is not NAME=COMMIT"):
        load_manifest()
