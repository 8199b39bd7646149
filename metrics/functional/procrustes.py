"""Similarity Procrustes: the rotation, scale and shift that bring one joint set closest to another.

Minimises sum_j w_j |c R x_j + t - y_j|^2 (Umeyama, PAMI 1991, eqs. 34-43). The rotation comes from the closed form of
Markley's FOAM ("Attitude determination using vector observations: a fast optimal matrix algorithm", J. Astronautical
Sciences 41(2), 1993), which needs no decomposition per pose; where that is ill-conditioned (line-like or mirrored sets,
for which the best rotation is nearly or wholly ambiguous) from the eigenvector of Horn's 4x4 matrix (JOSA A 1987, §4).
Both maximise over proper rotations only, so a mirrored pose is never matched by a reflection.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from human.errors import PosesynError

# FOAM's error is about eps / zeta^2, zeta = (s1+s2)(s2+s3)(s3+s1) of the normalised, signed singular values.
_WELL_CONDITIONED = 2e-2
_NEWTON_STEPS = 13  # quadratic, from sqrt(3) to 1 at worst; enough for float64 where zeta > 0.02
_POINT = 1e-12  # a set whose joints agree to this fraction of their coordinates is one point


@dataclass(frozen=True)
class Similarity:
    """x -> scale R x + translation, float64: ``rotation`` (B,3,3) with det +1, ``scale`` (B,) >= 0, ``translation``
    (B,3); ``num_joints`` (B,) int64 is how many joints decided it."""

    rotation: Tensor
    scale: Tensor
    translation: Tensor
    num_joints: Tensor

    def apply(self, points_BN3: Tensor) -> Tensor:
        """(B,N,3) float64 moved points: those it was fitted on, or others such as the mesh (EMDB's PA-MVE)."""
        scaled_rotation = self.scale[:, None, None] * self.rotation
        return torch.baddbmm(self.translation[:, None], points_BN3.double(), scaled_rotation.mT)


def similarity_procrustes(source_BJ3: Tensor, target_BJ3: Tensor, weight_BJ: Tensor | None = None) -> Similarity:
    """The similarity that brings ``source`` closest to ``target``, person by person, in float64.

    Args:
        source_BJ3: joints to move, any floating dtype.
        target_BJ3: joints to meet.
        weight_BJ: mask or confidence >= 0; None is 1. A joint that is not finite in either set has weight 0.

    Always finite for finite joints: with no usable joint it is the identity, a source of one point is only shifted,
    and among equally good rotations one is picked.

    Examples:
        >>> import torch
        >>> source = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]]])
        >>> quarter_turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
        >>> found = similarity_procrustes(source, 2 * source @ quarter_turn.T + 5)
        >>> found.scale.round(decimals=9), found.translation.round(decimals=9), found.num_joints
        (tensor([2.], dtype=torch.float64), tensor([[5., 5., 5.]], dtype=torch.float64), tensor([4]))
        >>> torch.allclose(found.rotation[0], quarter_turn.double())
        True
    """
    if source_BJ3.shape != target_BJ3.shape or source_BJ3.ndim != 3 or source_BJ3.shape[-1] != 3:
        raise PosesynError(
            f"Procrustes needs two (B,J,3) joint sets, got {tuple(source_BJ3.shape)} and {tuple(target_BJ3.shape)}"
        )
    source, target = source_BJ3.double(), target_BJ3.double()
    usable_BJ = (source + target).isfinite().all(-1)
    weight_BJ = usable_BJ.double() if weight_BJ is None else torch.where(usable_BJ, weight_BJ.double(), 0.0)
    if not usable_BJ.all():
        source, target = (torch.where(usable_BJ[..., None], points, 0.0) for points in (source, target))
    total_B1 = weight_BJ.sum(-1, keepdim=True)
    share_B1J = (weight_BJ / torch.where(total_B1 > 0, total_B1, 1.0))[:, None]
    source_mean_B13, target_mean_B13 = share_B1J @ source, share_B1J @ target
    centred = source - source_mean_B13
    weighted = centred * share_B1J.mT
    # The target need not be centred: the weighted, centred source sums to zero.
    covariance_B33 = (target - target_mean_B13).mT @ weighted
    spread_B = (centred * weighted).sum((1, 2))
    is_point_B = spread_B <= (_POINT * source_mean_B13.abs().amax((1, 2))) ** 2

    rotation_B33, gain_B = _best_rotation(covariance_B33)
    scale_B = torch.where(is_point_B, 1.0, gain_B / torch.where(is_point_B, 1.0, spread_B))
    moved_B13 = scale_B[:, None, None] * (source_mean_B13 @ rotation_B33.mT)
    return Similarity(rotation_B33, scale_B, (target_mean_B13 - moved_B13)[:, 0], (weight_BJ > 0).sum(-1))


def _best_rotation(covariance_B33: Tensor) -> tuple[Tensor, Tensor]:
    """The rotation R (B,3,3) that maximises tr(R^T M), and that maximum (B,) = s1 + s2 + sign(det M) s3."""
    norm_B = covariance_B33.flatten(1).norm(dim=1)
    m_B33 = covariance_B33 / torch.where(norm_B > 0, norm_B, 1.0)[:, None, None]
    a_B3, b_B3, c_B3 = m_B33.unbind(1)
    pairs = ((b_B3, c_B3), (c_B3, a_B3), (a_B3, b_B3))
    cofactor_B33 = torch.stack([torch.linalg.cross(*pair) for pair in pairs], dim=1)
    det_B = (a_B3 * cofactor_B33[:, 0]).sum(-1)
    # Markley's eq. 23 for |M| = 1: (x^2 - 1)^2 - 8 x det M - 4 |adj M|^2 = 0; its largest root is the maximum. The
    # quartic is convex above it, so Newton's steps come down from the bound sqrt(3) without overshooting.
    constant_B = 1 - 4 * cofactor_B33.square().sum((1, 2))
    gain_B = torch.full_like(det_B, 3**0.5)
    for _ in range(_NEWTON_STEPS):
        square_B = gain_B * gain_B
        value_B = (square_B - 2) * square_B - 8 * det_B * gain_B + constant_B
        slope_B = 4 * gain_B * (square_B - 1) - 8 * det_B
        gain_B = gain_B - value_B / slope_B.clamp_min(1e-30)
    kappa_B = (gain_B * gain_B - 1) / 2
    zeta_B = kappa_B * gain_B - det_B
    # Markley's eq. 14.
    rotation_B33 = (
        (kappa_B + 1)[:, None, None] * m_B33 + gain_B[:, None, None] * cofactor_B33 - m_B33 @ m_B33.mT @ m_B33
    ) / zeta_B[:, None, None]
    hard_B = ~(zeta_B > _WELL_CONDITIONED) & norm_B.isfinite()  # eigh raises on what has overflowed
    if hard_B.any():
        rotation_B33[hard_B], gain_B[hard_B] = _best_rotation_horn(m_B33[hard_B])
    return rotation_B33, gain_B * norm_B


def _best_rotation_horn(m_B33: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`_best_rotation`, by the top eigenvector of Horn's symmetric 4x4 matrix: slower, always well-behaved."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in m_B33.mT.unbind(1))
    horn_B44 = torch.stack(
        [
            torch.stack([xx + yy + zz, yz - zy, zx - xz, xy - yx], -1),
            torch.stack([yz - zy, xx - yy - zz, xy + yx, zx + xz], -1),
            torch.stack([zx - xz, xy + yx, yy - xx - zz, yz + zy], -1),
            torch.stack([xy - yx, zx + xz, yz + zy, zz - xx - yy], -1),
        ],
        dim=1,
    )
    horn_B44[:, 0, 0] += 1e-20  # where nothing prefers a rotation, none
    values, vectors = torch.linalg.eigh(horn_B44)
    w, x, y, z = vectors[..., -1].unbind(-1)
    rotation_B33 = torch.stack(
        [
            torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
            torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
            torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
        ],
        dim=1,
    )
    return rotation_B33, values[:, -1]
