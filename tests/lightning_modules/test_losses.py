"""Losses: what is masked has no say, in value and in gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from human.batch import PELVIS, PoseBatch
from human.joint_limits import JOINT_LIMITS
from human.rotations import rotvec_to_matrix
from lightning_modules.losses import LossWeights, excess_over_limits, pose_losses

SIZE = 64
LABELLED = {"joints2d": "joints2d_conf", "joints3d": "joints3d_conf"}


def random_labels(count: int, seed: int = 0) -> PoseBatch:
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng)

    joints = normal(count, 32, 3)
    yes = torch.ones(count, dtype=torch.bool)
    return PoseBatch.blank(count, SIZE).replace(
        joints2d=torch.rand(count, 32, 2, generator=rng) * SIZE,
        joints2d_conf=(torch.rand(count, 32, generator=rng) < 0.7).float(),
        joints3d=joints - joints[:, PELVIS : PELVIS + 1],
        joints3d_conf=(torch.rand(count, 32, generator=rng) < 0.7).float().index_fill(1, torch.tensor([PELVIS]), 1.0),
        global_orient=normal(count, 3),
        body_pose=normal(count, 23, 3) * 0.5,
        betas=normal(count, 10),
        has_pose=yes,
        has_betas=yes,
    )


def predictions(count: int, seed: int = 1) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    rotations = rotvec_to_matrix(torch.randn(count, 24, 3, generator=rng) * 0.5)
    values = {
        "joints2d_BJ2": torch.rand(count, 32, 2, generator=rng) * SIZE,
        "seen_BJ2": torch.rand(count, 32, 2, generator=rng) * SIZE,
        "joints3d_BJ3": torch.randn(count, 32, 3, generator=rng),
        "global_orient_B33": rotations[:, 0],
        "body_pose_B2333": rotations[:, 1:],
        "betas_B10": torch.randn(count, 10, generator=rng),
    }
    return {k: v.clone().requires_grad_() for k, v in values.items()}


def losses(batch: PoseBatch, said: dict[str, Tensor], **weights: float) -> dict[str, Tensor]:
    return pose_losses(batch, **said, weights=LossWeights(**weights))


def gradients(batch: PoseBatch, said: dict[str, Tensor]) -> list[Tensor]:
    total = torch.stack(list(losses(batch, said).values())).sum()
    return list(torch.autograd.grad(total, list(said.values())))


def test_terms_equal_a_slow_reading() -> None:
    batch, said = random_labels(4), predictions(4)
    ones = dict.fromkeys(("joints2d", "seen", "joints3d", "pose", "betas", "limits", "shape_prior"), 1.0)
    got = {k: v.item() for k, v in losses(batch, said, **ones).items()}
    want: dict[str, list[float]] = {k: [] for k in ones}
    p = {k: v.detach().double().numpy() for k, v in said.items()}
    target = rotvec_to_matrix(torch.cat([batch.global_orient[:, None], batch.body_pose], 1)).double().numpy()
    for i in range(4):
        two = [j for j in range(32) if batch.joints2d_conf[i, j] > 0]
        three = [j for j in range(32) if batch.joints3d_conf[i, j] > 0]
        label2d, label3d = batch.joints2d[i].double().numpy(), batch.joints3d[i].double().numpy()
        for term in ("joints2d", "seen"):
            want[term].append(np.mean([np.abs(p[f"{term}_BJ2"][i, j] - label2d[j]).sum() / SIZE for j in two]))
        relative = p["joints3d_BJ3"][i] - p["joints3d_BJ3"][i, PELVIS]
        want["joints3d"].append(np.mean([np.abs(relative[j] - label3d[j]).sum() for j in three]))
        rotations = np.concatenate([p["global_orient_B33"][i][None], p["body_pose_B2333"][i]])
        want["pose"].append(((rotations - target[i]) ** 2).sum((1, 2)).mean())
        want["betas"].append(((p["betas_B10"][i] - batch.betas[i].double().numpy()) ** 2).mean())
        want["shape_prior"].append((p["betas_B10"][i] ** 2).sum())
    want["limits"] = excess_over_limits(said["body_pose_B2333"]).tolist()
    assert got == pytest.approx({k: float(np.mean(v)) for k, v in want.items()}, rel=1e-5)


@pytest.mark.parametrize("junk", [torch.nan, torch.inf, -1e30])
def test_labels_that_are_absent_may_be_anything(junk: float) -> None:
    batch, said = random_labels(5), predictions(5)
    none = torch.zeros(5, dtype=torch.bool)
    batch = batch.replace(has_pose=none.index_fill(0, torch.tensor([0]), True), has_betas=none)
    changes: dict[str, Any] = {
        name: torch.where(getattr(batch, conf)[..., None] > 0, getattr(batch, name), junk)
        for name, conf in LABELLED.items()
    }
    changes["body_pose"] = torch.where(batch.has_pose[:, None, None], batch.body_pose, junk)
    changes["global_orient"] = torch.where(batch.has_pose[:, None], batch.global_orient, junk)
    changes["betas"] = torch.full_like(batch.betas, junk)
    spoilt = batch.replace(**changes)
    for name, value in losses(batch, said).items():
        assert torch.equal(losses(spoilt, said)[name], value), name
    for clean, other in zip(gradients(batch, said), gradients(spoilt, said), strict=True):
        assert torch.equal(clean, other)
        assert other.isfinite().all()


def test_samples_of_weight_zero_have_no_say() -> None:
    batch, said = random_labels(6), predictions(6)
    keep = [0, 2, 5]
    weighted = batch.replace(weight=torch.zeros(6).index_fill(0, torch.tensor(keep), 1.0))
    part = {k: v[keep] for k, v in said.items()}
    for name, value in losses(batch[keep], part).items():
        torch.testing.assert_close(losses(weighted, said)[name], value)
    for gradient in gradients(weighted, said):
        assert (gradient[[1, 3, 4]] == 0).all()


def test_weights_of_samples_are_shares() -> None:
    batch, said = random_labels(2), predictions(2)
    one, two = (losses(batch[[i]], {k: v[[i]] for k, v in said.items()}) for i in (0, 1))
    both = losses(batch.replace(weight=torch.tensor([3.0, 1.0])), said)
    for name, value in both.items():
        torch.testing.assert_close(value, 0.75 * one[name] + 0.25 * two[name])


@pytest.mark.parametrize("nothing", ["labels", "weight", "samples"])
def test_nothing_to_learn_from_is_finite(nothing: str) -> None:
    batch = {
        "labels": PoseBatch.blank(3, SIZE),
        "weight": random_labels(3).replace(weight=torch.zeros(3)),
        "samples": random_labels(3)[[]],
    }[nothing]
    said = predictions(len(batch))
    terms = losses(batch, said)
    assert all(v.isfinite() for v in terms.values())
    assert all(g.isfinite().all() for g in gradients(batch, said))
    for name in ("joints2d", "seen", "joints3d", "pose", "betas"):
        assert terms[name] == 0, name


def test_a_perfect_prediction_costs_nothing() -> None:
    batch = random_labels(3)
    rotations = rotvec_to_matrix(torch.cat([batch.global_orient[:, None], batch.body_pose], 1))
    said = {
        "joints2d_BJ2": batch.joints2d, "seen_BJ2": batch.joints2d, "joints3d_BJ3": batch.joints3d + 7,
        "global_orient_B33": rotations[:, 0], "body_pose_B2333": rotations[:, 1:], "betas_B10": batch.betas,
    }  # fmt: skip
    terms = losses(batch, said, limits=0.0, shape_prior=0.0)
    assert all(v.item() == pytest.approx(0, abs=1e-5) for v in terms.values())


def test_limits_are_the_radians_beyond() -> None:
    low, high = JOINT_LIMITS[..., 0], JOINT_LIMITS[..., 1]
    inside = rotvec_to_matrix(((low + high) / 2)[None])
    assert excess_over_limits(inside).item() == pytest.approx(0, abs=1e-9)
    bent = torch.zeros(1, 23, 3)
    bent[0, 3, 0] = low[3, 0] - 0.5  # a knee half a radian too far back
    assert excess_over_limits(rotvec_to_matrix(bent)).item() == pytest.approx(0.25 / 69, rel=1e-3)


def test_a_far_off_point_does_not_drown_the_others() -> None:
    batch, said = random_labels(1), predictions(1)
    conf = torch.ones(1, 32)
    far = {**said, "joints2d_BJ2": said["joints2d_BJ2"].detach().index_fill(1, torch.tensor([3]), 1e9).requires_grad_()}
    near, off = (losses(batch.replace(joints2d_conf=conf), s)["joints2d"].item() for s in (said, far))
    assert off - near < 2.0 * LossWeights().joints2d / 32 + 1e-4
