"""The contract of synthesisers, and "variation" behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from human.body import load_body
from human.errors import PosesynError
from human.motion import load_motion_bank
from human.prediction import Prediction
from synth.synthesis import Challenges, Synthesised, Synthesiser, Variation
from synth.synthesisers import SYNTHESISERS, make_synthesiser
from synth.variation import VariationConfig, vary
from tests.synth.people import random_people
from tests.synth.test_variation import challenges as drawn

BODY, BANK = load_body(), load_motion_bank()
FEW = VariationConfig(best_of=3)


def some_challenges(count: int = 4, predictions: Prediction | None = None) -> Challenges:
    some = drawn(count)
    crops = random_people(count).replace(joints2d=some.joints2d, joints2d_conf=some.conf)
    return Challenges(
        predictions or some.prediction,
        crops,
        [f"people/{i}" for i in range(count)],
        np.linspace(200, 100, count),
        [""] * count,
    )


def parts(made: Synthesised) -> tuple[torch.Tensor, ...]:
    return made.betas, made.body_pose, made.global_orient, made.fit


def build(name: str, **options: Any) -> Synthesiser:
    return make_synthesiser(name, options, FEW)


def test_variation_is_what_it_was_before_it_had_a_name() -> None:
    some, slots, seeds = some_challenges(), np.array([0, 1, 2, 3, 0, 1]), [5, 6, 7, 8, 9, 10]
    made = build("variation").synthesise(some, slots, seeds, BODY)
    rows = torch.from_numpy(slots)
    crops = some.crops
    wanted = vary(some.predictions[rows], crops.joints2d[rows], crops.joints2d_conf[rows], seeds, BODY, BANK, FEW)
    for got, expected in zip(
        parts(made), (wanted.betas, wanted.body_pose, wanted.global_orient, wanted.fit), strict=True
    ):
        assert torch.equal(got, expected)
    assert made.report == {}


def test_a_prediction_that_is_nan_still_gets_a_pose_and_is_counted() -> None:
    some = some_challenges()
    pose = some.predictions.body_pose.clone()
    pose[1] = torch.nan
    broken = replace(some, predictions=replace(some.predictions, body_pose=pose))
    slots, seeds = np.arange(4), [1, 2, 3, 4]
    whole, made = (build("variation").synthesise(c, slots, seeds, BODY) for c in (some, broken))
    assert made.report == {"not_finite": 1}
    assert all(t.isfinite().all() for t in parts(made))
    others = [0, 2, 3]
    assert all(torch.equal(a[others], b[others]) for a, b in zip(parts(whole), parts(made), strict=True))


def test_settings_make_the_hash() -> None:
    same, other = Variation(VariationConfig()), Variation(VariationConfig(mirror_p=0.2))
    assert Variation().config_hash() == same.config_hash() != other.config_hash()
    assert make_synthesiser("variation").config_hash() == same.config_hash()


def test_names_and_options_that_do_not_exist() -> None:
    assert "variation" in SYNTHESISERS.names()
    with pytest.raises(PosesynError, match="variation"):
        make_synthesiser("variations")
    with pytest.raises(PosesynError, match=r"'bank'.*motion"):
        make_synthesiser("variation", {"bank": "free"})
    with pytest.raises(PosesynError, match="'variation'"):
        make_synthesiser("variation", {"variation": FEW})
