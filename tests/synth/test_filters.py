"""PoseSyn's equation 6."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from human.batch import HIPS, PELVIS, PoseBatch
from human.errors import PosesynError
from synth.filters import Err3DFilter, err3d
from tests.synth.people import People, Recall, random_people


def labelled_3d(count: int, seed: int = 0) -> PoseBatch:
    rng = torch.Generator().manual_seed(seed)
    joints = torch.randn(count, 32, 3, generator=rng)
    joints = joints - joints[:, PELVIS : PELVIS + 1]
    return random_people(count).replace(joints3d=joints, joints3d_conf=torch.ones(count, 32))


def off_by(batch: PoseBatch, mm: list[float]) -> Recall:
    """Predicts every joint but the pelvis that many mm away, in any direction."""
    direction = torch.nn.functional.normalize(torch.randn(batch.joints3d.shape), dim=-1)
    direction[:, PELVIS] = 0
    place = torch.tensor([1.0, 2.0, 3.0])  # another root: only differences count
    return Recall(batch.joints2d, batch.joints3d + place + direction * torch.tensor(mm)[:, None, None] / 1000)


def slow(predicted: np.ndarray, target: np.ndarray, conf: np.ndarray, reduction: str) -> float:
    root = predicted[PELVIS] if conf[PELVIS] > 0 else predicted[HIPS].mean(0)
    errors = [1000 * np.linalg.norm(predicted[j] - root - target[j]) for j in range(24) if conf[j] > 0]
    return {"mean": np.mean, "sum": np.sum, "max": np.max}[reduction](errors)


@pytest.mark.parametrize("reduction", ["mean", "sum", "max"])
@pytest.mark.parametrize("labelled", [1.0, 0.6])
def test_err3d_equals_the_slow_reading(reduction: str, labelled: float) -> None:
    batch = labelled_3d(30)
    conf = (torch.rand(30, 32, generator=torch.Generator().manual_seed(1)) < labelled).float()
    conf[:, HIPS] = 1
    target = torch.where(conf[..., None] > 0, batch.joints3d, torch.nan)
    predicted = torch.randn(30, 32, 3, generator=torch.Generator().manual_seed(2))
    got = err3d(predicted, target, conf, reduction)
    rows = zip(predicted.double().numpy(), target.double().numpy(), conf.numpy(), strict=True)
    np.testing.assert_allclose(got, [slow(*row, reduction) for row in rows], rtol=1e-5)


def test_tau_is_the_largest_error_that_passes() -> None:
    batch = labelled_3d(5)
    data = People(batch)
    error, passed = Err3DFilter(tau=120.0)(off_by(batch, [0, 60, 110, 140, 900]), data.batch)
    # 23 of SMPL's 24 joints are off, the root is not.
    np.testing.assert_allclose(error, np.array([0, 60, 110, 140, 900]) * 23 / 24, atol=0.01)
    assert passed.tolist() == [True, True, True, False, False]


def test_without_tau_all_that_is_finite_passes() -> None:
    batch = labelled_3d(4)
    estimator, data = off_by(batch, [0, 5000, 10, 20]), People(batch)
    with torch.no_grad():
        estimator.joints3d[2, 5] = torch.nan
        estimator.joints2d[3] = torch.inf  # not what is measured, but not a prediction either
    error, passed = Err3DFilter(tau=None)(estimator, data.batch)
    assert passed.tolist() == [True, True, False, False]
    assert np.isnan(error).tolist() == [False, False, True, True]
    assert Err3DFilter(tau=1e9)(estimator, data.batch)[1].tolist() == [True, True, False, False]


def test_joints_beyond_smpls_24_do_not_count() -> None:
    batch = labelled_3d(2)
    estimator, data = off_by(batch, [0, 0]), People(batch)
    with torch.no_grad():
        estimator.joints3d[:, 24:] += 10
    assert Err3DFilter(tau=0.01)(estimator, data.batch)[1].all()


def test_batches_and_modes_do_not_matter() -> None:
    batch = labelled_3d(11)
    data, estimator = People(batch), off_by(batch, [float(10 * i) for i in range(11)])
    results = [Err3DFilter(batch_size=size)(estimator, data.batch)[0] for size in (1, 4, 64)]
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=1e-5)
    assert estimator.training
    assert not any(estimator.grads)


@pytest.mark.parametrize("wrong", [{"reduction": "median"}, {"tau": -1.0}, {"tau": float("nan")}, {"batch_size": 0}])
def test_settings_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(PosesynError, match=str(next(iter(wrong.values())))):
        Err3DFilter(**wrong)  # type: ignore[arg-type]
