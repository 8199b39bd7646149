"""Warp starts and compiles without a word, and says what goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from human.warp_start import _without_line

ROOT = Path(__file__).resolve().parents[2]
COMPILE_ALL = """
import importlib
from pathlib import Path
import warp
for file in sorted(Path().glob("[!.]*/**/*_kernels.py")):
    importlib.import_module(".".join(file.with_suffix("").parts))
warp.force_load("cpu")
"""
FAULTY = """
import warp as wp
from human.warp_start import start_warp
start_warp()
@wp.func_native("return no_such_name;")
def wrong() -> int: ...
@wp.kernel
def kernel(out: wp.array[wp.int32]):
    out[0] = wrong()
wp.launch(kernel, 1, outputs=[wp.zeros(1, dtype=wp.int32, device="cpu")], device="cpu")
"""


def run(program: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """A program in a fresh process with an empty cache of kernels."""
    file = cache / "program.py"  # (Warp reads the sources of kernels)
    file.write_text(program)
    env = os.environ | {"WARP_CACHE_PATH": str(cache / "kernels"), "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, str(file)], cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.mark.slow  # compiles every kernel
def test_compiling_every_kernel_says_nothing(tmp_path: Path) -> None:
    done = run(COMPILE_ALL, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(list((tmp_path / "kernels").rglob("*.o"))) > 10


def test_starting_says_nothing_and_compile_errors_are_shown(tmp_path: Path) -> None:
    done = run(FAULTY, tmp_path)
    assert done.returncode != 0
    assert "no_such_name" in done.stderr
    assert "NVIDIA CUDA driver" not in done.stderr
    assert done.stdout == ""


def test_other_lines_come_through(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("human.warp_start._has_driver", lambda: False)
    with _without_line(b"of no use"):
        os.write(2, b"a line of no use\nan error\nno end")
    assert capfd.readouterr().err == "an error\nno end"
