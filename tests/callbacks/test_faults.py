"""Faults in a tiny run, resumed: the same end to the last bit. The fast ones are a diagonal of the slow matrix."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from human.interruption import forget
from tests.callbacks.faults import FAULTS, MORE, POINTS, SLURM, Case, Outcome, check, run, same
from tests.tiny import write_data

ROOT = Path(__file__).resolve().parents[2]
FAST = [
    ("term", "mine"),
    ("exception", "render"),
    ("disk", "commit"),
    ("kill", "checkpoint"),
    ("requeue", "filter"),
]


@pytest.fixture(scope="module", autouse=True)
def _as_before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    threads, handlers = torch.get_num_threads(), [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSESYN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(threads)
    forget()
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == handlers


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run, beside its data."""
    folder = tmp_path_factory.mktemp("faults")
    write_data(folder / "data")
    run(Case(str(folder / "data"), str(folder / "whole"), light=True))
    return folder


@pytest.fixture(scope="module")
def ended(base: Path) -> dict[tuple[str, str], tuple[Case, int, str]]:
    """The fast cases, each in a process of its own: status, and what it said."""
    scontrol = base / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" "$SLURM_JOB_ID" >> {base}/scontrol.log\n')
    scontrol.chmod(0o755)
    cases = {
        (fault, point): Case(
            str(base / "data"), str(base / f"{fault}_{point}"), fault, point, light=True, slurm=fault == "requeue"
        )
        for fault, point in FAST
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.callbacks.faults", "--start", json.dumps([asdict(c) for c in cases.values()])],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{scontrol.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=900,
        check=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    return {name: (case, *one) for (name, case), one in zip(cases.items(), said, strict=True)}


def outcome(ended: dict[tuple[str, str], tuple[Case, int, str]], base: Path, fault: str, point: str) -> Outcome:
    case, status, said = ended[fault, point]

    def here(case: Case) -> tuple[int, str]:
        run(case)
        return 0, ""

    return check(case, base / "whole", lambda case: (status, said), here)


@pytest.mark.parametrize(("fault", "point"), FAST[:4])
def test_a_fault_costs_steps_and_nothing_else(
    ended: dict[tuple[str, str], tuple[Case, int, str]], base: Path, fault: str, point: str
) -> None:
    seen = outcome(ended, base, fault, point)
    assert seen.wrong == [], seen.said
    assert seen.step == {"mine": 4, "render": 3, "commit": 3, "checkpoint": 3}[point]
    if fault == "term":
        assert seen.resumed_from == "last-interrupted.ckpt"
        assert "SIGTERM: going to save and stop" in seen.said
        assert f"--ckpt_path {base}/term_mine/checkpoints/last-interrupted.ckpt" in seen.said
    if fault == "disk":
        assert "refresh 1 failed, training goes on with the pool as it is" in seen.said
        assert seen.said.count("could not be written") >= 2
        assert "Traceback" not in seen.said


def test_slurm_requeues_and_the_job_goes_on(
    ended: dict[tuple[str, str], tuple[Case, int, str]], base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a refresh; the resumed run is told nothing but what SLURM sets."""
    for name in SLURM:
        monkeypatch.setenv(name, SLURM[name])
    seen = outcome(ended, base, "requeue", "filter")
    assert seen.wrong == [], seen.said
    assert seen.resumed_from == "hpc_ckpt_1.ckpt"
    assert (base / "scontrol.log").read_text() == "requeue 4711 4711\n"
    assert "requeued job 4711" in seen.said


def test_the_comparison_sees_a_difference() -> None:
    """Of one bit in one tensor, anywhere."""
    a = {"x": [(0, {"y": torch.zeros(3)})], "z": 1.0}
    b = {"x": [(0, {"y": torch.tensor([0.0, 0.0, 1e-45])})], "z": 1.0}
    assert same(a, a)
    assert not same(a, b)
    assert not same(a, {**a, "z": 1.0000000000000002})
    assert not same(a, {"z": 1.0})


# -- the whole matrix ------------------------------------------------------------------------------------------------
def tell(*words: str) -> None:
    """``python -m tests.callbacks.faults`` with these words fails where one is not exact."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.callbacks.faults", *words], cwd=ROOT, capture_output=True, text=True, timeout=3000
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_the_matrix(point: str) -> None:
    tell("--only", ",".join(f"{fault}:{point}" for fault in FAULTS))


@pytest.mark.slow
def test_more_points() -> None:
    tell("--only", ",".join(":".join(pair) for pair in MORE))


@pytest.mark.slow
def test_resumed_with_other_loader_processes() -> None:
    tell("--only", "kill:render,term:train,term:mine", "--workers", "2")


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "point", "victim"), [("kill", "train", 1), ("kill", "mine", 0), ("term", "mine", 0)])
def test_two_ranks(tmp_path: Path, fault: str, point: str, victim: int) -> None:
    """Killed on one rank, the run ends on both; told to stop on one, both stop after the next step."""
    write_data(tmp_path / "data")
    env = {**os.environ, "POSESYN_CACHE": str(tmp_path / "cache")}

    def start(case: Case) -> tuple[int, str]:
        command = [sys.executable, "-m", "tests.callbacks.faults", "--case", json.dumps(asdict(case))]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600, check=False)
        return done.returncode, done.stdout + done.stderr

    whole = Case(str(tmp_path / "data"), str(tmp_path / "whole"), devices=2)
    status, said = start(whole)
    assert status == 0, said
    case = replace(whole, folder=str(tmp_path / "part"), fault=fault, point=point, victim=victim)
    seen = check(case, tmp_path / "whole", start, start)
    seen.wrong = [w for w in seen.wrong if not (fault == "kill" and victim and w.startswith("ended with"))]
    assert seen.wrong == [], seen.said
    assert seen.status != 0
