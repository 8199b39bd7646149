"""Rotations, over roma: vectors in storage, matrices inside, 6D for regression."""

from __future__ import annotations

import roma
import torch
from torch import Tensor


def rotvec_to_matrix(rotvec: Tensor) -> Tensor:
    """(...,3) radians -> (...,3,3)."""
    return roma.rotvec_to_rotmat(rotvec)


def matrix_to_rotvec(matrix: Tensor) -> Tensor:
    """(...,3,3) -> (...,3) radians, angle in [0, pi]."""
    return roma.rotmat_to_rotvec(matrix)


def sixd_to_matrix(sixd: Tensor) -> Tensor:
    """(...,6) -> (...,3,3) by Gram-Schmidt on two columns (Zhou et al., CVPR 2019).

    Computed in float32. Where a column vanishes or both are parallel, a fixed axis stands in for what is undefined:
    the result is a rotation and its gradient finite for every input.
    """
    a, b = sixd.float().reshape(*sixd.shape[:-1], 3, 2).unbind(-1)
    axes = torch.eye(3, device=a.device)
    x = torch.nn.functional.normalize(torch.where(a.norm(dim=-1, keepdim=True) > 1e-6, a, axes[0]), dim=-1)
    across = _reject(b, x)
    # Rounding leaves about 1e-7 |b| of a parallel b: its direction is noise, and its gradient would be 1e7.
    defined = across.norm(dim=-1, keepdim=True) > 1e-4 * b.norm(dim=-1, keepdim=True) + 1e-6
    y = torch.nn.functional.normalize(torch.where(defined, across, _reject(axes[x.abs().argmin(-1)], x)), dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)


def _reject(vector: Tensor, unit: Tensor) -> Tensor:
    """The part of ``vector`` that is perpendicular to ``unit``."""
    return vector - (unit * vector).sum(-1, keepdim=True) * unit


def matrix_to_sixd(matrix: Tensor) -> Tensor:
    """(...,3,3) -> (...,6), the first two columns."""
    return matrix[..., :2].reshape(*matrix.shape[:-2], 6)


def nearest_rotation(matrix: Tensor) -> Tensor:
    """(...,3,3) -> (...,3,3) the rotation R with the least ||R - matrix||, by arithmetic alone (no decomposition, which
    ONNX lacks): the quaternion of R is the eigenvector of Horn's 4 x 4 matrix with the greatest eigenvalue (JOSA A
    1987).

    Float64 inside. Where all columns lie on one line, or the matrix is nearly a reflection, R is not defined: some
    rotation is given.
    """
    m = matrix.double()
    m = m / m.square().sum((-2, -1), keepdim=True).clamp_min(1e-60).sqrt()
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in m.unbind(-2))
    a, b, c, d, e, f = xy + yx, xz + zx, yz + zy, zy - yz, xz - zx, yx - xy
    rows = ((xx - yy - zz, a, b, d), (a, yy - xx - zz, c, e), (b, c, zz - xx - yy, f), (d, e, f, xx + yy + zz))
    horn = torch.stack([torch.stack(row, -1) for row in rows], -2)
    square = horn @ horn
    cube = square @ horn
    t2, t3, t4 = (_trace(x) for x in (square, cube, square @ square))
    # x^4 + c2 x^2 + c1 x + c0, by Newton's identities (the trace is 0). All roots are real and the greatest is at most
    # sqrt(3): from there Newton's method comes down to it, in 20 steps also where two roots nearly coincide.
    c2, c1, c0 = -t2 / 2, -t3 / 3, t2.square() / 8 - t4 / 4
    root = torch.full_like(c0, 3**0.5)
    for _ in range(20):
        slope = (4 * root.square() + 2 * c2) * root + c1
        root = root - (((root.square() + c2) * root + c1) * root + c0) / slope.clamp_min(1e-30)
    # The polynomial without that root, of the matrix itself: a multiple of the eigenvector's outer product.
    r, c1, c2 = (x[..., None, None] for x in (root, c1, c2))
    middle = r.square() + c2
    eye = torch.eye(4, dtype=m.dtype, device=m.device)
    outer = cube + r * square + middle * horn + (r * middle + c1) * eye
    q = outer / _trace(outer).clamp_min(1e-30)[..., None, None]
    (ii, ij, ik, iw), (_, jj, jk, jw), (_, _, kk, kw), (_, _, _, ww) = (row.unbind(-1) for row in q.unbind(-2))
    x = torch.stack([ww + ii - jj - kk, 2 * (ij + kw), 2 * (ik - jw)], -1)
    y = torch.stack([2 * (ij - kw), ww - ii + jj - kk, 2 * (jk + iw)], -1)
    return sixd_to_matrix(torch.stack([x, y], -1).flatten(-2)).to(matrix.dtype)


def _trace(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)


def rotation_about(axis: str, angle: Tensor) -> Tensor:
    """(...,3,3) right-handed rotation by ``angle`` radians about "x", "y" or "z"."""
    vector = torch.zeros(*angle.shape, 3, dtype=angle.dtype, device=angle.device)
    vector[..., "xyz".index(axis)] = angle
    return rotvec_to_matrix(vector)


def geodesic_degrees(a: Tensor, b: Tensor) -> Tensor:
    """(...) angle between rotation matrices, degrees."""
    return torch.rad2deg(roma.rotmat_geodesic_distance(a, b))


def swing_twist(rotvec: Tensor, axis: Tensor) -> tuple[Tensor, Tensor]:
    """Split a rotation into swing * twist about a unit ``axis`` (both (...,3)); returns two rotation vectors."""
    q = roma.rotvec_to_unitquat(rotvec)
    along = (q[..., :3] * axis).sum(-1, keepdim=True)
    twist = torch.nn.functional.normalize(torch.cat([along * axis, q[..., 3:]], -1), dim=-1, eps=1e-9)
    # A half-turn about a perpendicular axis has no defined twist; normalise() leaves 0 there: take the identity.
    identity = torch.zeros_like(twist)
    identity[..., 3] = 1
    twist = torch.where(twist.norm(dim=-1, keepdim=True) < 0.5, identity, twist)
    swing = roma.quat_product(q, roma.quat_conjugation(twist))
    return roma.unitquat_to_rotvec(swing), roma.unitquat_to_rotvec(twist)
