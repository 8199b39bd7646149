"""What engines cost: the figures are there, and an engine without weights says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.engines import flops, make_jobs, measure, packed, throughput
from synth.fleet.folder import EngineSpec
from tests.synth.diffusion import tiny

SPEC = EngineSpec("rendered", 32, "procedural", {"supersample": 1})


def test_operations_of_a_picture_are_counted(tmp_path: Path) -> None:
    sd = tiny.unet()
    options = {
        "family": "sd",
        "model": str(tiny.save_sd(tmp_path / "sd")),
        "depth": str(tiny.save(tiny.controlnet(sd, 10), tmp_path / "depth")),
        "keypoints": str(tiny.save(tiny.controlnet(sd, 11), tmp_path / "keypoints")),
        "resolution": tiny.SIDE,
        "device": "cpu",
        "dtype": "fp32",
    }
    jobs = make_jobs(SPEC, 2)
    assert len({job.key() for job in jobs}) == 2
    two, four = (
        flops(EngineSpec("controlnet", 32, "procedural", {**options, "steps": n}), jobs)["gigaflop_per_picture"]
        for n in (2, 4)
    )
    assert 1.2 * two < four < 2 * two  # the decoder runs once, whatever the steps
    assert flops(SPEC, jobs)["gigaflop_per_picture"] == 0  # Warp's kernels are none of torch's operations


def test_an_engine_that_cannot_be_had_says_so() -> None:
    assert "no engine is called 'rendred'" in measure(EngineSpec("rendred", 32), 1.0)["note"]


@pytest.mark.slow
def test_pictures_a_second() -> None:
    found = throughput(SPEC, 2, packed(make_jobs(SPEC, 8)), 1.0)
    assert found["per_second"] > 1
    assert found["memory_mb"] > 100
