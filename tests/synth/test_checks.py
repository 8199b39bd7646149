"""Chains of checks."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from human.batch import PoseBatch
from human.errors import PosesynError
from synth.checks import Check, Checked, make_checks, run_checks


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


def test_checks_from_a_config() -> None:
    made = make_checks(["not_blank", {"name": "not_blank", "options": {"tiles": 9}}, {"name": "not_blank"}])
    assert [c.config()["tiles"] for c in made] == [4, 9, 4]
    assert make_checks(None) == []
    with pytest.raises(PosesynError, match=r"known: .*not_blank"):
        make_checks([{"name": "nothing_like_it"}])
    with pytest.raises(PosesynError, match=r"tilse.*it takes"):
        make_checks([{"name": "not_blank", "options": {"tilse": 9}}])
    with pytest.raises(PosesynError, match=r"checks\[0\]"):
        make_checks([{"check": "not_blank"}])
    with pytest.raises(PosesynError, match="options must be a mapping"):
        make_checks([{"name": "not_blank", "options": [1]}])


def test_flat_pictures_and_broken_labels_do_not_pass() -> None:
    batch = PoseBatch.blank(6, 64)
    noise = torch.Generator().manual_seed(0)
    batch.image[0] = torch.randint(0, 256, (3, 64, 64), generator=noise)
    batch.image[1] = 127
    batch.image[2] = torch.arange(64).expand(3, 64, 64) * 2  # a gradient
    batch.image[3] = torch.randint(0, 4, (3, 64, 64), generator=noise)  # a sensor's black
    batch.image[4:] = batch.image[0]
    batch.joints3d[4:, 3, 1] = torch.nan
    batch.joints3d_conf[5] = 1  # of the fourth it is not labelled
    (check,) = make_checks(["not_blank"])
    done = run_checks([check], batch)
    assert done.passed.tolist() == [True, False, False, False, True, False]
    assert done.removed == {"not_blank": 4}
    assert done.figures["not_blank/tiles"][1] == 0
    small = run_checks([check], batch[:1].replace(image=batch.image[:1, :, :5, :5]))
    assert small.passed.tolist() == [True]
