"""The error extraction module against a slow reading of PoseSyn's equations 1 to 3."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from human.batch import PoseBatch
from human.errors import PosesynError
from human.rng import generator
from human.skeleton import POSE32
from synth.eem import EEM, JOINT_WEIGHTS, Mined, extraction_error, joint_weights
from tests.synth.people import People, Recall, random_people

WEIGHTS = {
    f"{side}_{part}": weight
    for side in ("left", "right")
    for part, weight in (
        ("ankle", 1.0), ("wrist", 1.0), ("elbow", 0.5), ("knee", 0.5), ("hip", 0.25), ("shoulder", 0.25),
    )
}  # fmt: skip


def slow_error(predicted: np.ndarray, target: np.ndarray, conf: np.ndarray) -> float:
    """Equation 1 of one person, joint by joint, float64."""

    def root(joints: np.ndarray) -> np.ndarray | None:
        if conf[POSE32.index("pelvis")] > 0:
            return joints[POSE32.index("pelvis")]
        hips = [POSE32.index("left_hip"), POSE32.index("right_hip")]
        return joints[hips].mean(0) if all(conf[h] > 0 for h in hips) else None

    total, present = 0.0, 0.0
    if root(target) is None:
        return float("nan")
    for name, weight in WEIGHTS.items():
        n = POSE32.index(name)
        if conf[n] > 0:
            difference = (predicted[n] - root(predicted)) - (target[n] - root(target))
            total += weight * float(np.sqrt((difference**2).sum()))
            present += weight
    return total * sum(WEIGHTS.values()) / present if present else float("nan")


def test_weights_are_the_papers() -> None:
    weights = joint_weights(JOINT_WEIGHTS)
    assert {POSE32.joints[i]: float(w) for i, w in enumerate(weights) if w > 0} == WEIGHTS


@pytest.mark.parametrize("labelled", [1.0, 0.8, 0.4, 0.1])
def test_error_equals_the_slow_reading(labelled: float) -> None:
    batch = random_people(60, seed=int(labelled * 10), labelled=labelled)
    predicted = torch.rand(60, 32, 2, generator=torch.Generator().manual_seed(9)) * 100
    got = extraction_error(predicted, batch.joints2d, batch.joints2d_conf, joint_weights(JOINT_WEIGHTS))
    want = [
        slow_error(p.double().numpy(), t.double().numpy(), c.numpy())
        for p, t, c in zip(predicted, batch.joints2d, batch.joints2d_conf, strict=True)
    ]
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-5)
    assert np.isfinite(want).any()
    if labelled < 0.5:
        assert np.isnan(want).any()  # nobody's root


def test_root_is_the_pelvis_else_the_middle_of_the_hips() -> None:
    target, conf = torch.zeros(1, 32, 2), torch.ones(1, 32)
    predicted = target.clone()
    predicted[0, POSE32.index("pelvis")] = torch.tensor([3.0, 4.0])
    weights = joint_weights(JOINT_WEIGHTS)
    # The predicted pelvis alone is off by 5: every other joint is, relative to it.
    assert extraction_error(predicted, target, conf, weights).item() == pytest.approx(5 * sum(WEIGHTS.values()))
    conf[0, POSE32.index("pelvis")] = 0
    assert extraction_error(predicted, target, conf, weights).item() == 0


@given(shift=st.floats(-1e3, 1e3), scale=st.floats(0.1, 10))
def test_error_ignores_place_and_grows_with_scale(shift: float, scale: float) -> None:
    batch = random_people(5, seed=1)
    predicted = random_people(5, seed=2).joints2d
    weights = joint_weights(JOINT_WEIGHTS)
    base = extraction_error(predicted, batch.joints2d, batch.joints2d_conf, weights)
    moved = extraction_error(predicted + shift, batch.joints2d, batch.joints2d_conf, weights)
    torch.testing.assert_close(moved, base, rtol=1e-4, atol=1e-3)
    larger = extraction_error(predicted * scale, batch.joints2d * scale, batch.joints2d_conf, weights)
    torch.testing.assert_close(larger, base * scale, rtol=1e-4, atol=1e-3)


def mine(eem: EEM, data: People, estimator: Recall, seed: int = 0) -> Mined:
    return eem.mine(estimator, data, generator(seed, "eem"))


def shifted(distances: list[float]) -> tuple[People, Recall]:
    """Persons whose wrist is predicted that many pixels off: their error is that distance."""
    batch = random_people(len(distances), seed=3)
    predicted = batch.joints2d.clone()
    predicted[:, POSE32.index("left_wrist"), 0] += torch.tensor(distances)
    return People(batch), Recall(predicted)


def test_worst_become_challenges_and_best_references() -> None:
    data, estimator = shifted([3, 50, 1, 20, 7, 30, 2])
    mined = mine(EEM(challenges=3, references=2), data, estimator)
    assert mined.challenges.tolist() == [1, 5, 3]
    assert mined.references.tolist() == [2, 6]
    np.testing.assert_allclose(mined.errors, [3, 50, 1, 20, 7, 30, 2], rtol=1e-4)
    assert (mined.eligible, mined.not_finite, mined.unreadable) == (7, 0, 0)
    assert mined.crops is not None
    assert mined.predictions is not None
    torch.testing.assert_close(mined.predictions.joints2d, estimator.joints2d.detach()[[1, 5, 3]])
    assert torch.equal(mined.crops.image, data.batch.image[[1, 5, 3]])


@pytest.mark.parametrize(("challenges", "references"), [(1, 0), (2, 3), (4, 4), (5, 5), (500, 200), (3, 500)])
def test_nobody_is_in_both_sets(challenges: int, references: int) -> None:
    data, estimator = shifted([5.0, 1.0, 4.0, 2.0, 3.0])
    mined = mine(EEM(challenges=challenges, references=references), data, estimator)
    assert mined.challenges.tolist() == [0, 2, 4, 3, 1][:challenges]
    assert mined.references.tolist() == [1, 3, 4, 2, 0][: min(references, max(0, 5 - challenges))]


def test_ties_are_broken_by_index() -> None:
    batch = random_people(1, seed=3)
    data = People(PoseBatch.cat([batch] * 9))
    estimator = Recall(data.batch.joints2d + torch.linspace(0, 50, 32)[:, None])
    mined = mine(EEM(challenges=4, references=3, batch_size=2), data, estimator)
    assert len(np.unique(mined.errors)) == 1
    assert mined.challenges.tolist() == [0, 1, 2, 3]
    assert mined.references.tolist() == [8, 7, 6]


def test_who_may_be_mined() -> None:
    batch = random_people(4, seed=5)
    conf = batch.joints2d_conf.clone()
    weighted = [POSE32.index(name) for name in WEIGHTS]
    conf[1, weighted[:5]] = 0  # 7 of 12 left
    conf[2, weighted[:4]] = 0  # 8
    conf[3] = 1
    data = People(batch.replace(joints2d_conf=conf), people=[1, 1, 1, 2])
    assert EEM().eligible(data).tolist() == [0, 2]
    assert EEM(single_person=False).eligible(data).tolist() == [0, 2, 3]
    assert EEM(min_joints=12).eligible(data).tolist() == [0]
    assert EEM(min_joints=7).eligible(data).tolist() == [0, 1, 2]
    assert EEM(weights={"wrist": 1.0}, min_joints=3).eligible(data).tolist() == []


def test_a_person_without_a_root_is_not_ranked() -> None:
    data, estimator = shifted([1, 2, 3])
    conf = data.batch.joints2d_conf.clone()
    conf[2, [POSE32.index(j) for j in ("pelvis", "left_hip")]] = 0
    data.batch = data.batch.replace(joints2d_conf=conf)
    mined = mine(EEM(challenges=5), data, estimator)
    assert mined.challenges.tolist() == [1, 0]
    assert np.isnan(mined.errors[2])
    assert (mined.eligible, mined.not_finite, mined.unreadable) == (3, 0, 0)


def test_joints_may_count_as_much_as_their_labels_are_sure() -> None:
    """Against equation 1 with confidences as further weights, joint by joint."""
    batch = random_people(20, seed=3, labelled=0.9)
    conf = batch.joints2d_conf * torch.rand(20, 32, generator=torch.Generator().manual_seed(1))
    predicted = torch.rand(20, 32, 2, generator=torch.Generator().manual_seed(2)) * 100
    weights = joint_weights(JOINT_WEIGHTS)
    got = extraction_error(predicted, batch.joints2d, conf, weights, by_confidence=True)
    plain = extraction_error(predicted, batch.joints2d, conf, weights)
    for k in range(20):
        distances, sums = [], []
        for name, weight in WEIGHTS.items():
            only = torch.zeros(32)
            only[POSE32.index(name)] = weight
            one = extraction_error(predicted[k : k + 1], batch.joints2d[k : k + 1], conf[k : k + 1], only)
            if one.isfinite().all():
                sums.append(weight * float(conf[k, POSE32.index(name)]))
                distances.append(float(one) / weight * sums[-1])
        want = sum(distances) / sum(sums) * sum(WEIGHTS.values()) if sums else float("nan")
        np.testing.assert_allclose(float(got[k]), want, rtol=1e-4, equal_nan=True)
    assert (got - plain).abs().nan_to_num().max() > 1
    sure = extraction_error(predicted, batch.joints2d, (conf > 0).float(), weights, by_confidence=True)
    torch.testing.assert_close(sure, plain, equal_nan=True)


def test_junk_where_nothing_is_labelled_does_not_matter() -> None:
    batch = random_people(20, seed=6, labelled=0.9)
    clean = batch.replace(joints2d=torch.nan_to_num(batch.joints2d, nan=7.0).clamp_min(0))
    estimator = Recall(random_people(20, seed=8).joints2d)
    a, b = (mine(EEM(challenges=5), People(x), estimator) for x in (batch, clean))
    np.testing.assert_array_equal(a.errors, b.errors)
    assert a.challenges.tolist() == b.challenges.tolist()


@pytest.mark.parametrize("which", ["joints2d", "joints3d"])
def test_a_prediction_that_is_not_finite_is_counted_and_left_out(which: str) -> None:
    data, estimator = shifted([1, 9, 3, 5])
    with torch.no_grad():
        getattr(estimator, which)[1] = torch.nan
        getattr(estimator, which)[3, 30] = torch.inf  # a joint without weight counts too
    mined = mine(EEM(challenges=4), data, estimator)
    assert mined.challenges.tolist() == [2, 0]
    assert (mined.eligible, mined.not_finite) == (4, 2)
    assert np.isnan(mined.errors[[1, 3]]).all()


def test_weights_that_are_nan_mine_nobody() -> None:
    data, estimator = shifted([1, 2, 3])
    with torch.no_grad():
        estimator.joints2d.fill_(torch.nan)
    mined = mine(EEM(), data, estimator)
    assert (len(mined.challenges), len(mined.references), mined.not_finite) == (0, 0, 3)
    assert mined.crops is None
    assert mined.predictions is None


def test_an_unreadable_picture_is_counted_and_left_out() -> None:
    data, estimator = shifted([1, 9, 3])
    data.batch = data.batch.replace(weight=torch.tensor([1.0, 0.0, 1.0]))
    mined = mine(EEM(challenges=4), data, estimator)
    assert mined.challenges.tolist() == [2, 0]
    assert (mined.unreadable, mined.not_finite) == (1, 0)


def test_no_data() -> None:
    mined = mine(EEM(), People(random_people(0)), Recall(torch.zeros(0, 32, 2)))
    assert (mined.eligible, len(mined.errors), len(mined.challenges), mined.crops) == (0, 0, 0, None)


def test_random_challenges_are_the_control() -> None:
    data, estimator = shifted([float(i) for i in range(40)])
    eem = EEM(challenges=10, references=5, random=True)
    first, again, other = mine(eem, data, estimator), mine(eem, data, estimator), mine(eem, data, estimator, seed=1)
    assert first.challenges.tolist() == again.challenges.tolist() != other.challenges.tolist()
    assert len(set(first.challenges)) == 10
    assert set(first.challenges) != set(range(30, 40))
    assert not set(first.challenges) & set(first.references)
    rest = sorted(set(range(40)) - set(first.challenges))
    assert first.references.tolist() == rest[:5]


@pytest.mark.parametrize("training", [True, False])
def test_modes_come_back_and_no_gradient_is_kept(training: bool) -> None:
    data, estimator = shifted([1, 2, 3])
    estimator.train(training)
    estimator.noise.train(not training)  # a part that its owner keeps in another mode
    mined = mine(EEM(challenges=1), data, estimator)
    assert (estimator.training, estimator.noise.training) == (training, not training)
    assert estimator.grads
    assert not any(estimator.grads)
    assert torch.is_grad_enabled()
    assert mined.challenges.tolist() == [2]  # dropout was off
    assert estimator.joints2d.grad is None


def test_modes_come_back_after_an_error() -> None:
    data, _ = shifted([1, 2, 3])
    small = Recall(torch.zeros(2, 32, 2))  # does not know the third
    with pytest.raises(IndexError):
        mine(EEM(), data, small)
    assert small.training
    assert small.noise.training


def test_batches_do_not_matter() -> None:
    data, estimator = People(random_people(50, 11)), Recall(random_people(50, 12).joints2d)
    results = [mine(EEM(challenges=20, references=10, batch_size=size), data, estimator) for size in (1, 7, 128)]
    for other in results[1:]:
        np.testing.assert_allclose(other.errors, results[0].errors, rtol=1e-4)
        assert other.challenges.tolist() == results[0].challenges.tolist()
        assert other.references.tolist() == results[0].references.tolist()


@pytest.mark.parametrize(
    "wrong", [{"challenges": 0}, {"references": -1}, {"batch_size": 0}, {"weights": {"tail": 1.0}}]
)
def test_settings_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(PosesynError, match=str(next(iter(wrong.values()))) if "weights" not in wrong else "tail"):
        replace(EEM(), **wrong)  # type: ignore[arg-type]
