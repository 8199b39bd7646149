"""The metrics the slow way: plain numpy, one person or frame at a time, float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def procrustes_reference(pred_J3: Array, target_J3: Array, weight_J: Array) -> tuple[Array, float, Array]:
    """Rotation, scale and shift by one SVD (Umeyama, PAMI 1991, eqs. 40-42)."""
    share = (weight_J / weight_J.sum())[:, None]
    pred_mean, target_mean = (share * pred_J3).sum(0), (share * target_J3).sum(0)
    pred, target = pred_J3 - pred_mean, target_J3 - target_mean
    u, s, vt = np.linalg.svd((share * target).T @ pred)
    sign = np.array([1, 1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    spread = (share * pred**2).sum()
    scale = (s * sign).sum() / spread if spread > 0 else 1
    rotation = u @ np.diag(sign) @ vt
    return rotation, scale, target_mean - scale * rotation @ pred_mean


def align_reference(pred_J3: Array, target_J3: Array, weight_J: Array, points_N3: Array | None = None) -> Array:
    rotation, scale, shift = procrustes_reference(pred_J3, target_J3, weight_J)
    return scale * (pred_J3 if points_N3 is None else points_N3) @ rotation.T + shift


def distances(pred_J3: Array, target_J3: Array) -> Array:
    """mm."""
    return 1000 * np.array([np.sqrt(sum((a - b) ** 2)) for a, b in zip(pred_J3, target_J3, strict=True)])


def pa_mpjpe_reference(pred_J3: Array, target_J3: Array, weight_J: Array) -> float:
    return float(np.average(distances(align_reference(pred_J3, target_J3, weight_J), target_J3), weights=weight_J))


def scaled_reference(pred_J3: Array, target_J3: Array, weight_J: Array) -> Array:
    """The prediction times the scale >= 0 that least squares finds."""
    root = np.sqrt(np.repeat(weight_J, 3))
    design, wanted = (root * pred_J3.reshape(-1))[:, None], root * target_J3.reshape(-1)
    scale = np.linalg.lstsq(design, wanted, rcond=None)[0][0] if design.any() else 1.0
    return max(0.0, scale) * pred_J3


def pck_reference(error_J: Array, threshold: float, inclusive: bool = False) -> float:
    return sum(e <= threshold if inclusive else e < threshold for e in error_J) / len(error_J)


def auc_reference(error_J: Array, thresholds: Sequence[float], rule: str, inclusive: bool) -> float:
    curve = [pck_reference(error_J, t, inclusive) for t in thresholds]
    if rule == "mean":
        return sum(curve) / len(curve)
    return float(np.trapezoid(curve, thresholds) / (thresholds[-1] - thresholds[0]))


def pve_t_sc_reference(pred_V3: Array, target_V3: Array) -> float:
    pred = (pred_V3 - pred_V3.mean(0)) / np.sqrt(np.mean(np.sum((pred_V3 - pred_V3.mean(0)) ** 2, 1)))
    size = np.sqrt(np.mean(np.sum((target_V3 - target_V3.mean(0)) ** 2, 1)))
    return float(distances(size * pred + target_V3.mean(0), target_V3).mean())


def angle_reference(a_33: Array, b_33: Array) -> float:
    """Degrees, from the chord: |A - B| = 2 sqrt(2) sin(angle / 2)."""
    return float(2 * np.degrees(np.arcsin(min(1.0, np.sqrt(np.sum((a_33 - b_33) ** 2) / 8)))))


def oks_reference(pred_J2: Array, target_J2: Array, area: float, sigmas: Sequence[float]) -> float:
    """Labelled joints only."""
    terms = [
        np.exp(-np.sum((p - t) ** 2) / (2 * area * (2 * s) ** 2))
        for p, t, s in zip(pred_J2, target_J2, sigmas, strict=True)
    ]
    return float(np.mean(terms))
