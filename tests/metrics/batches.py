"""Batches with every ugliness: ragged, masked, unlabelled, not finite, degenerate, mirrored."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from tests.metrics.tester import Batch

J = 14
ROOT = (2, 3)
SIZES = (5, 1, 8, 3)


def as_tensors(batch: dict[str, np.ndarray]) -> Batch:
    return {name: torch.from_numpy(value) for name, value in batch.items()}


def make_batches(dim: int, seed: int, normaliser: bool = False, degenerate: bool = True) -> list[Batch]:
    """Ragged batches with masked joints, confidences, unlabelled persons, NaN labels and predictions, one joint,
    collinear and mirrored bodies."""
    rng = np.random.default_rng(seed)
    batches = []
    for size in SIZES:
        target = rng.normal(size=(size, J, dim))
        pred = target + 0.1 * rng.normal(size=target.shape)
        weight = rng.uniform(0.1, 1, (size, J)) * (rng.uniform(size=(size, J)) < 0.8)
        weight[:, ROOT] = 1
        if size == 3 and degenerate:
            target[0] = rng.normal(size=(J, 1)) * np.arange(1, dim + 1)
            pred[0] = rng.normal(size=(J, 1)) * np.arange(1, dim + 1)
            pred[1] = target[1] * np.array([-1, 1, 1])[:dim]
        if size == 8:
            weight[0] = 0  # nobody
            target[1, 5] = np.nan  # unlabelled by NaN
            weight[2, 7], pred[2, 7] = 1, np.nan  # invalid
            weight[3, 7], pred[3, 7] = 0, np.nan  # a prediction nobody asks for
            weight[4, 1], pred[4, 1, 0] = 1, np.inf  # invalid
            weight[5, 9] = np.nan
            weight[6] = 0
            weight[6, 2] = 1  # one joint; half of a root
        batch = {f"pred_BJ{dim}": pred, f"target_BJ{dim}": target, "weight_BJ": weight}
        if normaliser:
            batch["normaliser_B"] = rng.uniform(0.2, 1, size)
            if size == 8:
                batch["normaliser_B"][7] = np.nan
        batches.append(as_tensors(batch))
    return batches


def mesh_batches(seed: int, joints: bool = False, roots: bool = False) -> list[Batch]:
    rng = np.random.default_rng(seed)
    batches = []
    for size, bodies in zip(SIZES, make_batches(3, seed, degenerate=False), strict=True):
        target = rng.normal(size=(size, 30, 3))
        batch = {"pred_BV3": target + 0.1 * rng.normal(size=target.shape), "target_BV3": target}
        if roots:
            batch |= {"pred_root_B3": rng.normal(size=(size, 3)), "target_root_B3": rng.normal(size=(size, 3))}
        if joints:
            names = {"pred_joints_BJ3": "pred_BJ3", "target_joints_BJ3": "target_BJ3", "weight_BJ": "weight_BJ"}
            batch |= {ours: bodies[theirs].numpy() for ours, theirs in names.items()}
        if size == 8:
            batch["target_BV3"][1, 3, 0] = np.nan
            batch["pred_BV3"][5, 7, 1] = np.inf
            if roots:
                batch["target_root_B3"][7, 1] = np.nan
        batches.append(as_tensors(batch))
    return batches


def angle_batches(seed: int, joints: bool) -> list[Batch]:
    rng = np.random.default_rng(seed)
    batches = []
    for size, bodies in zip(SIZES, make_batches(3, seed, degenerate=False), strict=True):
        target = Rotation.random(9 * size, rng).as_matrix().reshape(size, 9, 3, 3)
        off = Rotation.from_rotvec(0.3 * rng.normal(size=(9 * size, 3))).as_matrix().reshape(target.shape)
        batch = {"pred_BP33": off @ target, "target_BP33": target}
        if joints:
            names = {"pred_joints_BJ3": "pred_BJ3", "target_joints_BJ3": "target_BJ3", "weight_BJ": "weight_BJ"}
            batch |= {ours: bodies[theirs].numpy() for ours, theirs in names.items()}
            batch["weight_BJ"][:, :3] = np.where(batch["weight_BJ"].any(1, keepdims=True), 1, 0)
        if size == 8:
            batch["target_BP33"][1, 3, 0, 0] = np.nan  # one part
            batch["target_BP33"][7] = np.nan
            batch["pred_BP33"][5, 7, 1, 1] = np.nan
            batch["pred_BP33"][3] = np.diag([1.0, -1, -1]) @ batch["target_BP33"][3]  # half turns
        batches.append(as_tensors(batch))
    return batches


def motion_batches(seed: int) -> list[Batch]:
    """Frames of two or more sequences, with gaps, unlabelled joints and frames, and predictions that are not finite."""
    rng = np.random.default_rng(seed)
    batches = []
    for size in (20, 30, 2):
        target = np.cumsum(0.1 * rng.normal(size=(size, 6, 3)), 0)
        pred = target + 0.02 * rng.normal(size=target.shape)
        frames, sequence = np.arange(size) + (np.arange(size) > 14), (np.arange(size) > 8).astype(np.int64)
        weight = (rng.uniform(size=(size, 6)) < 0.95).astype(float)
        if size == 30:
            weight[20] = 0
            target[17, 3] = np.nan
            weight[25, 2], pred[25, 2, 0] = 1, np.nan
        batches.append({"pred_TJ3": pred, "target_TJ3": target, "weight_TJ": weight})
        batches[-1] |= {"frames_T": frames, "sequence_T": sequence}
    return [as_tensors(batch) for batch in batches]


def world_batches(seed: int, shape: tuple[int, ...], names: tuple[str, str]) -> list[Batch]:
    rng = np.random.default_rng(seed)
    batches = []
    for size in (130, 9, 1):
        target = np.cumsum(0.006 * rng.normal(size=(size, *shape, 3)), 0) + rng.normal(size=(*shape, 3))
        pred = 1.1 * target + np.cumsum(0.003 * rng.normal(size=target.shape), 0)
        if size == 130:
            pred[120, ..., 0] = np.nan
            target[30, ..., 1] = np.nan
        batches.append(as_tensors({names[0]: pred, names[1]: target}))
    return batches


def oks_batches(seed: int) -> list[Batch]:
    batches = make_batches(2, seed, normaliser=True)
    return [{**{k: v for k, v in b.items() if k != "normaliser_B"}, "area_B": b["normaliser_B"]} for b in batches]


def path_batches(seed: int) -> list[Batch]:
    """One path each with a hole in the truth, in the prediction, and none."""
    whole = world_batches(seed, (), ("pred_T3", "target_T3"))
    cut = [
        {name: value[start:stop] for name, value in whole[0].items()}
        for start, stop in ((0, 60), (40, 110), (115, 130))
    ]
    return [cut[1], whole[1], cut[0], cut[2], whole[2]]


def without(batches: list[Batch], *names: str) -> list[Batch]:
    return [{name: value for name, value in batch.items() if name not in names} for batch in batches]
