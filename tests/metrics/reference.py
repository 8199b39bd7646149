"""Procrustes the slow way: one numpy SVD per pose (Umeyama, PAMI 1991, eqs. 40-42)."""

from __future__ import annotations

import numpy as np


def align_reference(pred_J3: np.ndarray, target_J3: np.ndarray, weight_J: np.ndarray) -> np.ndarray:
    share = (weight_J / weight_J.sum())[:, None]
    pred_mean, target_mean = (share * pred_J3).sum(0), (share * target_J3).sum(0)
    pred, target = pred_J3 - pred_mean, target_J3 - target_mean
    u, s, vt = np.linalg.svd((share * target).T @ pred)
    sign = np.array([1, 1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    spread = (share * pred**2).sum()
    scale = (s * sign).sum() / spread if spread > 0 else 1
    return scale * pred @ (u @ np.diag(sign) @ vt).T + target_mean


def pa_mpjpe_reference(pred_J3: np.ndarray, target_J3: np.ndarray, weight_J: np.ndarray) -> float:
    distance = np.linalg.norm(align_reference(pred_J3, target_J3, weight_J) - target_J3, axis=1)
    return float(1000 * np.average(distance, weights=weight_J))
