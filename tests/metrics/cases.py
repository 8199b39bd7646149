"""What a slow reference says of each person in the batches of ``tests.metrics.batches``, metric by metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

import metrics as m
from metrics.functional import CHALLENGE_THRESHOLDS, COCO_SIGMAS, MPI_INF_THRESHOLDS
from tests.metrics import reference as ref
from tests.metrics.batches import (
    ROOT,
    J,
    angle_batches,
    make_batches,
    mesh_batches,
    motion_batches,
    oks_batches,
    path_batches,
    without,
    world_batches,
)
from tests.metrics.tester import Batch, MetricCase


def arrays(batch: Batch, dim: int) -> list[tuple[np.ndarray, ...]]:
    """Per person: prediction, target, weight (0 where the label is missing)."""
    pred, target, weight = (batch[n].double().numpy() for n in (f"pred_BJ{dim}", f"target_BJ{dim}", "weight_BJ"))
    weight = np.where(np.isfinite(target).all(-1), np.nan_to_num(weight), 0)
    return list(zip(pred, target, weight, strict=True))


def rows(batch: Batch) -> Iterator[list[np.ndarray]]:
    yield from map(list, zip(*(value.double().numpy() for value in batch.values()), strict=True))


Error = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


def body_persons(batch: Batch, error: Error, root: tuple[int, ...] | None = None) -> list[Any]:
    """``error`` of the labelled joints of each person, relative to the root."""
    out: list[Any] = []
    for pred, target, weight in arrays(batch, 3):
        use = weight > 0
        if not use.any() or (root is not None and not use[list(root)].all()):
            out.append(None)
        elif not np.isfinite(pred[use]).all():
            out.append("invalid")
        else:
            if root is not None:
                pred, target = (points - points[list(root)].mean(0) for points in (pred, target))
            out.append(np.array([error(pred[use], target[use], weight[use]), 1]))
    return out


def mean_distance(pred: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    return float(np.average(ref.distances(pred, target), weights=weight))


def mpjpe_persons(batch: Batch, root: tuple[int, ...] | None) -> list[Any]:
    return body_persons(batch, mean_distance, root)


def n_mpjpe_error(pred: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    return mean_distance(ref.scaled_reference(pred, target, weight), target, weight)


def auc_error(pred: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    return ref.auc_reference(ref.distances(pred, target), MPI_INF_THRESHOLDS, "mean", False)


def challenge_error(pred: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    aligned = ref.align_reference(pred, target, weight)
    return ref.auc_reference(ref.distances(aligned, target), CHALLENGE_THRESHOLDS, "trapezoid", True)


def pck_persons(batch: Batch, threshold: float = 0.2, person: bool = False) -> list[Any]:
    out: list[Any] = []
    norms = batch["normaliser_B"].double().numpy() if "normaliser_B" in batch else np.ones(len(batch["pred_BJ2"]))
    for (pred, target, weight), norm in zip(arrays(batch, 2), norms, strict=True):
        use = weight > 0
        if not np.isfinite(norm) or not use.any():
            out.append(None)
        elif not np.isfinite(pred[use]).all():
            out.append("invalid")
        else:
            hit = use & (np.linalg.norm(np.nan_to_num(pred - target), axis=1) < threshold * norm)
            out.append(np.array([hit.sum() / use.sum(), 1]) if person else np.stack([hit, use], axis=1).astype(float))
    return out


def oks_persons(batch: Batch) -> list[Any]:
    out: list[Any] = []
    for (pred, target, weight), area in zip(arrays(batch, 2), batch["area_B"].double().numpy(), strict=True):
        use = weight > 0
        if not use.any() or not area > 0:
            out.append(None)
        elif not np.isfinite(pred[use]).all():
            out.append("invalid")
        else:
            sigmas = np.array(COCO_SIGMAS)[:J][use]
            out.append(np.array([ref.oks_reference(pred[use], target[use], float(area), sigmas.tolist()), 1]))
    return out


def mesh_persons(batch: Batch, kind: str) -> list[Any]:
    out: list[Any] = []
    for pred, target, *more in rows(batch):
        if kind == "joints":
            p, t, w = more
            w = np.where(np.isfinite(t).all(-1), np.nan_to_num(w), 0)
            use = w > 0
        labels = [target, more[1]] if kind == "root" else [target]
        if not all(np.isfinite(x).all() for x in labels) or (kind == "joints" and not use.any()):
            out.append(None)
            continue
        if not np.isfinite(pred).all() or (kind == "joints" and not np.isfinite(p[use]).all()):
            out.append("invalid")
            continue
        if kind == "root":
            pred, target = pred - more[0], target - more[1]
        elif kind == "joints":
            pred = ref.align_reference(p[use], t[use], w[use], pred)
        elif kind == "vertices":
            pred = ref.align_reference(pred, target, np.ones(len(pred)))
        error = ref.pve_t_sc_reference(pred, target) if kind == "size" else ref.distances(pred, target).mean()
        out.append(np.array([error, 1]))
    return out


def angle_persons(batch: Batch) -> list[Any]:
    out: list[Any] = []
    for pred, target, *joints in rows(batch):
        part = np.isfinite(target).all((1, 2))
        finite = np.isfinite(pred[part]).all()
        if joints:
            p, t, w = joints
            use = np.where(np.isfinite(t).all(-1), np.nan_to_num(w), 0) > 0
            finite = finite and np.isfinite(p[use]).all()
        if not part.any() or (joints and not use.any()):
            out.append(None)
        elif not finite:
            out.append("invalid")
        else:
            turn = ref.procrustes_reference(p[use], t[use], w[use])[0] if joints else np.eye(3)
            angles = [ref.angle_reference(turn @ a, b) for a, b in zip(pred[part], target[part], strict=True)]
            out.append(np.array([np.mean(angles), 1]))
    return out


def acceleration_frames(batch: Batch) -> list[Any]:
    pred, target, weight, frames, sequence = (value.double().numpy() for value in batch.values())
    weight = np.where(np.isfinite(target).all(-1), weight, 0)
    out: list[Any] = []
    for t in range(len(pred)):
        near = [t - 1, t, t + 1]
        if t == 0 or t == len(pred) - 1 or len(set(sequence[near])) > 1 or (np.diff(frames[near]) != 1).any():
            out.append(None)
            continue
        joints = [j for j in range(6) if (weight[near, j] > 0).all()]
        differences = [(p[t - 1] - 2 * p[t] + p[t + 1])[joints] for p in (pred, target)]
        if not joints:
            out.append(None)
        elif not np.isfinite(differences[0]).all():
            out.append("invalid")
        else:
            out.append(np.array([ref.distances(*differences).mean() / 1000 * 30**2, 1]))
    return out


def jitter_frames(batch: Batch) -> list[Any]:
    pred, frames, sequence = (value.double().numpy() for value in batch.values())
    out: list[Any] = []
    for t in range(len(pred)):
        four = [t - 1, t, t + 1, t + 2]
        if t < 1 or t > len(pred) - 3 or len(set(sequence[four])) > 1 or (np.diff(frames[four]) != 1).any():
            out.append(None)
            continue
        a, b, c, d = pred[four]
        third = np.linalg.norm(d - 3 * c + 3 * b - a, axis=-1) * 30**3
        out.append(np.array([third.mean() / 10, 1]) if np.isfinite(third).all() else "invalid")
    return out


def world_frames(batch: Batch, first: int) -> list[Any]:
    pred, target = (value.double().numpy() for value in batch.values())
    out: list[Any] = []
    for start in range(0, len(pred), 100):
        p, t = pred[start : start + 100], target[start : start + 100]
        head = [x[:first].reshape(-1, 3) for x in (p, t)]
        use = np.isfinite(head[0] + head[1]).all(-1)
        aligned = ref.align_reference(*(x[use] for x in head), np.ones(use.sum()), p.reshape(-1, 3)).reshape(p.shape)
        for a, b in zip(aligned, t, strict=True):
            good = np.isfinite(a).all()
            out.append(
                (np.array([ref.distances(a, b).mean(), 1]) if good else "invalid") if np.isfinite(b).all() else None
            )
    return out


def path_frames(batch: Batch) -> list[Any]:
    pred, target = (value.double().numpy() for value in batch.values())
    if not np.isfinite(target).all() or len(target) == 1:
        return [None] * len(target)
    if not np.isfinite(pred).all():
        return ["invalid"] * len(target)
    rotation = ref.procrustes_reference(pred, target, np.ones(len(pred)))[0]
    moved = (pred - pred.mean(0)) @ rotation.T + target.mean(0)
    length = sum(np.linalg.norm(b - a) for a, b in pairwise(target))
    return [np.array([100 * np.linalg.norm(a - b) / length, 1]) for a, b in zip(moved, target, strict=True)]


def foot_frames(batch: Batch) -> list[Any]:
    pred, target = (value.double().numpy() for value in batch.values())
    out: list[Any] = [None] * pred.shape[1]
    for t in range(len(pred) - 1):
        for f in range(pred.shape[1]):
            moved = 1000 * np.linalg.norm(pred[t + 1, f] - pred[t, f])
            stands = np.linalg.norm(target[t + 1, f] - target[t, f]) < 0.01
            out.append((np.array([moved, 1]) if np.isfinite(moved) else "invalid") if stands else None)
    return out


def ratio(total: np.ndarray) -> float:
    return float(total[0] / total[1])


def mean_ratio(total: np.ndarray) -> float:
    labelled = total[total[:, 1] > 0]
    return float((labelled[:, 0] / labelled[:, 1]).mean())


def pck150(pred: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    return ref.pck_reference(ref.distances(pred, target), 150)


WORLD, FEET = ("pred_TJ3", "target_TJ3"), ("pred_TF3", "target_TF3")
CASES = [
    MetricCase("mpjpe", m.MPJPE, make_batches(3, 0), lambda b: mpjpe_persons(b, None), ratio),
    MetricCase("mpjpe-root", lambda: m.MPJPE(root=ROOT), make_batches(3, 1), lambda b: mpjpe_persons(b, ROOT), ratio),
    MetricCase("pa-mpjpe", m.PAMPJPE, make_batches(3, 2), lambda b: body_persons(b, ref.pa_mpjpe_reference), ratio),
    MetricCase(
        "n-mpjpe", lambda: m.NMPJPE(ROOT), make_batches(3, 5), lambda b: body_persons(b, n_mpjpe_error, ROOT), ratio
    ),
    MetricCase("pck3d", lambda: m.PCK3D(root=ROOT), make_batches(3, 6), lambda b: body_persons(b, pck150, ROOT), ratio),
    MetricCase("auc3d", m.AUC3D, make_batches(3, 7), lambda b: body_persons(b, auc_error), ratio),
    MetricCase(
        "auc3d-challenge",
        lambda: m.AUC3D(CHALLENGE_THRESHOLDS, rule="trapezoid", inclusive=True, align="procrustes"),
        make_batches(3, 8),
        lambda b: body_persons(b, challenge_error),
        ratio,
    ),
    MetricCase("pve", m.PVE, mesh_batches(9), lambda b: mesh_persons(b, "none"), ratio),
    MetricCase("pve-root", m.PVE, mesh_batches(10, roots=True), lambda b: mesh_persons(b, "root"), ratio),
    MetricCase("pa-pve", m.PAPVE, mesh_batches(11), lambda b: mesh_persons(b, "vertices"), ratio),
    MetricCase("pa-pve-joints", m.PAPVE, mesh_batches(12, joints=True), lambda b: mesh_persons(b, "joints"), ratio),
    MetricCase("pve-t-sc", m.PVETSC, mesh_batches(13), lambda b: mesh_persons(b, "size"), ratio),
    MetricCase("mpjae", m.MPJAE, angle_batches(14, joints=False), angle_persons, ratio),
    MetricCase("pa-mpjae", m.PAMPJAE, angle_batches(15, joints=True), angle_persons, ratio),
    MetricCase("pck", lambda: m.PCK(J), make_batches(2, 3, normaliser=True), pck_persons, mean_ratio),
    MetricCase(
        "pck-label",
        lambda: m.PCK(J, average="label"),
        make_batches(2, 4, normaliser=True),
        pck_persons,
        lambda t: ratio(t.sum(0)),
    ),
    MetricCase(
        "pck-person-pixels",
        lambda: m.PCK(J, 0.15, average="person"),
        make_batches(2, 16),
        lambda b: pck_persons(b, 0.15, person=True),
        ratio,
    ),
    MetricCase("oks", lambda: m.OKS(COCO_SIGMAS[:J]), oks_batches(17), oks_persons, ratio),
    MetricCase(
        "acceleration", lambda: m.AccelerationError(fps=30), motion_batches(18), acceleration_frames, ratio, whole=True
    ),
    MetricCase(
        "jitter", m.Jitter, without(motion_batches(19), "target_TJ3", "weight_TJ"), jitter_frames, ratio, whole=True
    ),
    MetricCase("w-mpjpe", m.WMPJPE, world_batches(20, (5,), WORLD), lambda b: world_frames(b, 2), ratio, whole=True),
    MetricCase(
        "wa-mpjpe", m.WAMPJPE, world_batches(21, (5,), WORLD), lambda b: world_frames(b, 100), ratio, whole=True
    ),
    MetricCase("rte", m.RTE, path_batches(22), path_frames, ratio, whole=True),
    MetricCase("foot-sliding", m.FootSliding, world_batches(23, (4,), FEET), foot_frames, ratio, whole=True),
]
