"""Our figures are those of the evaluation code that papers used, on the same arrays (scripts/metric_reference.py)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from human.skeleton import LSP14
from metrics import PCK
from metrics.functional import (
    CHALLENGE_THRESHOLDS,
    ORIENTED_JOINTS,
    acceleration_error,
    auc_3d,
    foot_sliding,
    jitter,
    mpjae,
    mpjpe,
    n_mpjpe,
    pa_mpjae,
    pa_mpjpe,
    pa_pve,
    pck_3d,
    pve,
    pve_t_sc,
    rte,
    torso_length,
    w_mpjpe,
    wa_mpjpe,
)
from tests.metrics.arrays import known_arrays, short_torso

ANSWERS = json.loads(Path(__file__).with_name("known_answers.json").read_text())["answers"]
A = {name: torch.from_numpy(value) for name, value in known_arrays().items()}
PRED, TARGET = A["pred_joints"], A["target_joints"]
HIPS, PELVIS, LIMBS = [1, 2], [0], [1, 2, 4, 5, 7, 8, 16, 17, 18, 19, 20, 21]
PARTS = A["pred_rotations"][:, ORIENTED_JOINTS], A["target_rotations"][:, ORIENTED_JOINTS]
LIMBS_ROOTED = (PRED - PRED[:, :1])[:, LIMBS], (TARGET - TARGET[:, :1])[:, LIMBS]
MOVING = A["pred_moving"], A["target_moving"]


def pckh(threshold: float) -> Tensor:
    """MPII: predictions become 1-based, pelvis and thorax do not count."""
    metric = PCK(16, threshold, average="label")
    weight = A["visible"].clone()
    weight[:, 6:8] = 0
    metric.update(A["pred_keypoints"] + 1, A["target_keypoints"], A["head_size"], weight)
    return metric.compute()


def jhmdb(torso: bool) -> Tensor:
    target = torch.from_numpy(short_torso(A["target_keypoints"].numpy()))
    pred = torch.from_numpy(short_torso(A["pred_keypoints"].numpy()))
    pred[0] = A["pred_keypoints"][0, :15]
    ends = torch.zeros(2, len(target), 14, 2, dtype=torch.float64)
    ends[:, :, LSP14.index("left_shoulder")] = torch.stack([target[:, 4], pred[:, 4]])
    ends[:, :, LSP14.index("right_hip")] = torch.stack([target[:, 5], pred[:, 5]])
    side = (A["box"][:, 2:] - A["box"][:, :2]).amax(-1)
    metric = PCK(15, 0.2)
    norm = torso_length(ends[0], fallback_BJ2=ends[1]) if torso else side
    metric.update(pred, target, norm, A["visible"][:, :15])
    return metric.compute()


def hmr2_pck() -> PCK:
    metric = PCK(16, 0.05)
    metric.update(A["pred_keypoints"], A["target_keypoints"], torch.full((len(PRED),), 240.0), A["visible"])
    return metric


def hidden_frames() -> Tensor:
    weight = torch.ones(MOVING[0].shape[:2])
    weight[[20, 21, 50]] = 0
    return acceleration_error(*MOVING, weight_TJ=weight)


OURS: dict[str, Callable[[], Any]] = {
    "SPIN pa_mpjpe": lambda: pa_mpjpe(PRED, TARGET),
    "4D-Humans mpjpe": lambda: mpjpe(PRED, TARGET, root=PELVIS),
    "4D-Humans pa_mpjpe": lambda: pa_mpjpe(PRED, TARGET),
    "4D-Humans pck": lambda: hmr2_pck().compute(),
    "4D-Humans pck per joint": lambda: hmr2_pck().per_joint(),
    "emdb mpjpe": lambda: mpjpe(PRED, TARGET, root=HIPS),
    "emdb pa_mpjpe": lambda: pa_mpjpe(PRED, TARGET),
    "emdb pve": lambda: pve(A["pred_verts"], A["target_verts"], PRED[:, HIPS].mean(1), TARGET[:, HIPS].mean(1)),
    # EMDB's vertices are shifted with their joints before the fit: that changes nothing once both are aligned.
    "emdb pa_pve": lambda: pa_pve(A["pred_verts"], A["target_verts"], PRED, TARGET),
    "emdb mpjae": lambda: mpjae(*PARTS),
    "emdb pa_mpjae": lambda: pa_mpjae(*PARTS, PRED, TARGET),
    # EMDB's code sets 9 joints of 24 to 0 and averages over 24.
    "emdb jitter": lambda: (
        jitter(MOVING[0][:, [j for j in range(24) if j not in (0, 7, 8, 10, 11, 20, 21, 22, 23)]]).nanmean() * (15 / 24)
    ),
    "3dpw-eval mpjpe": lambda: mpjpe(PRED, TARGET, root=PELVIS).mean(),
    "3dpw-eval pa_mpjpe": lambda: pa_mpjpe(PRED, TARGET).mean(),
    "3dpw-eval mpjae": lambda: mpjae(*PARTS).mean(),
    "3dpw-eval pck": lambda: pck_3d(*LIMBS_ROOTED, threshold_mm=50, inclusive=True).mean(),
    "margipose pck": lambda: pck_3d(PRED, TARGET, root=PELVIS).mean(),
    "margipose auc": lambda: auc_3d(PRED, TARGET, root=PELVIS).mean(),
    "mmpose mpjpe": lambda: mpjpe(PRED, TARGET, root=PELVIS).mean(),
    "mmpose n_mpjpe": lambda: n_mpjpe(PRED, TARGET, root=PELVIS).mean(),
    "mmpose pa_mpjpe": lambda: pa_mpjpe(PRED, TARGET).mean(),
    "mmpose pckh@0.5": lambda: pckh(0.5),
    "mmpose pckh@0.6": lambda: pckh(0.6),
    "mmpose jhmdb pck": lambda: jhmdb(torso=False),
    "mmpose jhmdb tpck": lambda: jhmdb(torso=True),
    "WHAM accel": lambda: acceleration_error(*MOVING)[1:-1] / 1000,
    "WHAM accel with frames hidden": lambda: (lambda e: e[~e.isnan()] / 1000)(hidden_frames()),
    "WHAM jitter": lambda: jitter(MOVING[0], 30)[1:-2],
    "WHAM w_mpjpe": lambda: w_mpjpe(*MOVING),
    "WHAM wa_mpjpe": lambda: wa_mpjpe(*MOVING),
    "WHAM rte": lambda: rte(MOVING[0][:, 0], MOVING[1][:, 0]),
    "WHAM foot sliding": lambda: foot_sliding(A["pred_feet"], A["target_feet"]).nanmean(),
    "STRAPS pve_t_sc": lambda: pve_t_sc(A["pred_verts"], A["target_verts"]),
}


@pytest.mark.parametrize("name", OURS)
def test_known_answer(name: str) -> None:
    assert np.asarray(OURS[name]()) == pytest.approx(np.asarray(ANSWERS[name]), rel=1e-6)


def test_the_challenges_area_is_the_exact_integral() -> None:
    """Its adaptive quadrature of a line with 198 bends stops short of that."""
    ours = auc_3d(*LIMBS_ROOTED, thresholds_mm=CHALLENGE_THRESHOLDS, rule="trapezoid", inclusive=True)
    curve = [pck_3d(*LIMBS_ROOTED, threshold_mm=t, inclusive=True).mean().item() for t in CHALLENGE_THRESHOLDS]
    assert ours.mean().item() == pytest.approx(np.trapezoid(curve, np.linspace(0, 1, 200)), rel=1e-12)
    assert ours.mean().item() == pytest.approx(ANSWERS["3dpw-eval auc"], abs=1e-5)


def test_every_answer_is_used() -> None:
    assert set(ANSWERS) == set(OURS) | {"3dpw-eval auc"}
