"""Chains of checks."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from human.batch import PoseBatch
from synth.checks import Check, Checked, run_checks


class Weighs(Check):
    """Removes samples whose weight is below a limit, and adds one to the weights of the others."""

    name: ClassVar[str] = "weighs"

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def config(self) -> dict[str, Any]:
        return {"limit": self.limit}

    def __call__(self, batch: PoseBatch) -> Checked:
        weight = batch.weight.numpy().astype(float)
        return Checked(batch.replace(weight=batch.weight + 1), weight >= self.limit, {"weight": weight})


def test_each_check_sees_what_the_one_before_left() -> None:
    batch = PoseBatch.blank(4, 8)
    batch.weight[:] = batch.weight.new_tensor([0.0, 1.0, 2.0, 3.0])

    class Later(Weighs):
        name: ClassVar[str] = "later"

    done = run_checks([Weighs(1), Later(3.5)], batch)
    assert done.passed.tolist() == [False, False, False, True]
    assert done.removed == {"weighs": 1, "later": 2}
    assert done.batch.weight.tolist() == [1, 3, 4, 5]
    assert np.array_equal(done.figures["later/weight"], [np.nan, 2, 3, 4], equal_nan=True)


def test_nothing_left_to_check() -> None:
    done = run_checks([Weighs(9), Weighs(9)], PoseBatch.blank(2, 8))
    assert done.removed == {"weighs": 2}
    assert not done.passed.any()
    assert run_checks([], PoseBatch.blank(2, 8)).passed.all()
