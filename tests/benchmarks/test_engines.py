"""What engines cost: the figures are there, and an engine without weights says so."""

from __future__ import annotations

import pytest

from benchmarks.engines import flops, make_jobs, measure, packed, throughput
from synth.fleet.folder import EngineSpec

SPEC = EngineSpec("rendered", 32, "procedural", {"supersample": 1})


def test_operations_of_a_picture_are_counted() -> None:
    jobs = make_jobs(SPEC, 3)
    assert len({job.key() for job in jobs}) == 3
    found = flops(SPEC, jobs)
    assert found["gigaflop_per_picture"] > 0


def test_an_engine_that_cannot_be_had_says_so() -> None:
    assert "no engine is called 'rendred'" in measure(EngineSpec("rendred", 32), 1.0)["note"]


@pytest.mark.slow
def test_pictures_a_second() -> None:
    found = throughput(SPEC, 2, packed(make_jobs(SPEC, 8)), 1.0)
    assert found["per_second"] > 1
    assert found["memory_mb"] > 100
