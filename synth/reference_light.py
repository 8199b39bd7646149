"""The light in a photograph of a person, roughly: what of a surface's brightness goes with where it faces."""

from __future__ import annotations

import numpy as np
import torch

from human.shading import SH_COSINE, sh_basis

_COSINE = np.array(SH_COSINE)
_PATCHES = 60.0  # independent observations that a person amounts to: neighbouring texels share their cloth
_NOISE, _SPREAD = 0.3, 0.22  # relative deviations of cloth about its mean, and of shading
_DARKEST, _BRIGHTEST = 0.6, 1.5  # shading relative to the mean; more is more likely paint than light
_ROUNDS = 4
_LUMA = np.array([0.2126, 0.7152, 0.0722])


def estimate_light(
    linear_N3: np.ndarray, normals_N3: np.ndarray, group_N: np.ndarray, weight_N: np.ndarray
) -> np.ndarray:
    """(9,) harmonics of a grey light under which each group of points (a body part) has one brightness, as nearly as
    it goes: alternately each group's median and a ridge regression on the normals' harmonics.

    The response ``Sum(light * cosine * Y(n))`` is 1 on average and within 0.6 to 1.5 wherever a normal faces the
    camera, so dividing by it is safe.

    Args:
        linear_N3: linear colours. normals_N3: unit, camera frame. group_N: int labels. weight_N: trust in each point.
    """
    basis = sh_basis(torch.from_numpy(normals_N3)).numpy().astype(np.float64)
    luma = linear_N3 @ _LUMA
    trust = weight_N * (luma > 0.004) * (luma < 0.9)  # neither black nor clipped
    constant = np.zeros(9)
    constant[0] = 1 / basis[0, 0] if len(basis) else 0
    if trust.sum() < 50:
        return constant / _COSINE
    prior = np.full(9, (_NOISE / _SPREAD) ** 2)
    prior[0] = 0
    coefficients = constant.copy()
    members = [np.flatnonzero((group_N == g) & (trust > 0)) for g in np.unique(group_N)]
    relative = np.zeros(len(luma))
    for _ in range(_ROUNDS):
        shading = basis @ coefficients
        for rows in members:
            if len(rows):
                relative[rows] = luma[rows] / max(1e-4, float(np.median(luma[rows] / shading[rows])))
        robust = trust / (1 + ((relative - shading) / _NOISE) ** 2)  # Cauchy weights: prints, hair, shadows
        robust *= _PATCHES / robust.sum()
        left = (basis * robust[:, None]).T @ basis + np.diag(prior)
        coefficients = np.linalg.solve(left, basis.T @ (robust * relative) + prior * 0)
        coefficients = _limited(coefficients, constant)
    mean = float(np.average(basis @ coefficients, weights=trust))
    return coefficients / mean / _COSINE


def response(light_9: np.ndarray, normals_N3: np.ndarray) -> np.ndarray:
    """(N,) what a white surface reflects under the light, as ``human.shading.shade`` computes it."""
    return np.asarray(sh_basis(torch.from_numpy(normals_N3)).numpy().astype(np.float64) @ (light_9 * _COSINE))


def _limited(coefficients: np.ndarray, constant: np.ndarray) -> np.ndarray:
    """Blended with constant light until it is within bounds over the hemisphere that faces the camera."""
    z, turn = np.meshgrid(np.linspace(-1, 0.1, 8), np.linspace(0, 2 * np.pi, 16, endpoint=False))
    flat = np.sqrt(1 - z**2)
    around = np.stack([flat * np.cos(turn), flat * np.sin(turn), z], -1).reshape(-1, 3)
    shading = sh_basis(torch.from_numpy(around)).numpy() @ coefficients
    mean = float(shading.mean())
    low, high = shading.min() / mean, shading.max() / mean
    share = min(1.0, (1 - _DARKEST) / max(1e-6, 1 - low), (_BRIGHTEST - 1) / max(1e-6, high - 1))
    return share * coefficients + (1 - share) * mean * constant
