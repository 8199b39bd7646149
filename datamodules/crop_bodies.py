"""Body parameters of persons as their crops show them: turned and mirrored with the picture, told in the estimator's
own body.

A crop turns the camera's frame about the optical axis, and may mirror it (``human.crop.rotation_of``, M below). Of the
mirrored person's joints, left and right swapped, the body's frame is mirrored too: with S = diag(-1, 1, 1) the root R
becomes M R S and each other rotation, moved to the other side, S R S. Bodies turn about their pelvis, whose place at
rest is not the origin and depends on the shape, so ``transl`` is what puts the pelvis where the crop shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial.transform import Rotation

from datamodules.readers.base import PersonIndex
from human.batch import PELVIS, PoseBatch
from human.body import load_body
from human.crop import rotation_of
from human.errors import PosesynError
from human.skeleton import SMPL24

Array = npt.NDArray[Any]
_FLIP = list(SMPL24.flip_permutation)
_MIRROR = np.array([1.0, -1.0, -1.0])  # of a rotation vector, about the plane x = 0
_BODIES = ("smpl", "smplh", "smplx", "free")
_GENDER = {0: "", 1: "_male", 2: "_female"}
BETAS = 10


@lru_cache(maxsize=4)
def _rest_pelvis(own: str) -> tuple[Array, Array]:
    """(3,) and (3,10) metres: where the pelvis of a body is at rest, and how it moves with the shape."""
    body = load_body(own)
    return body.J_template[0].double().numpy(), body.J_shapedirs[0, :, :BETAS].double().numpy()


def fill_body(
    batch: PoseBatch,
    index: PersonIndex,
    rows: Array,
    affines: Sequence[Array],
    flips: Sequence[bool],
    kind: str,
    own: str,
) -> None:
    """Write the labels of persons ``rows`` into ``batch``, in place; those with weight 0 stay blank.

    Args:
        kind: the reader's ``body``; "" has no parameters.
        own: name of the estimator's body. ``betas`` count only where they are this body's, gender included (the first
            10 of more, which are the nearest shape); elsewhere ``transl`` is that of its mean shape. Rotations carry
            over between all bodies of SMPL's tree.

    Raises:
        PosesynError: a kind of body that is not known, or no file of the body ``own``.
    """
    extras = index.extras
    if not kind or "pose" not in extras or not len(rows):
        return
    if kind not in _BODIES:
        raise PosesynError(f"a reader's body is {kind!r}; known: {', '.join(_BODIES)}")
    used = batch.weight.numpy() > 0
    matrices = np.stack([rotation_of(a) for a in affines])
    flip = np.asarray(flips, bool)
    template, directions = _rest_pelvis(own)

    pose = _tree(np.asarray(extras["pose"][rows], np.float64), kind)
    has_pose = used & np.isfinite(pose).all((1, 2))
    pose = _seen(np.where(has_pose[:, None, None], pose, 0.0), matrices, flip) * has_pose[:, None, None]

    betas = np.zeros((len(rows), BETAS))
    has_betas: Array = np.zeros(len(rows), bool)
    whole: Array = has_betas
    if "betas" in extras:
        given = np.asarray(extras["betas"][rows], np.float64)
        gender = extras["gender"][rows] if "gender" in extras else np.zeros(len(rows), np.int8)
        mine = np.array([kind + _GENDER.get(int(g), "_unknown") == own for g in gender])
        has_betas = np.asarray(used & mine & np.isfinite(given).all(1))
        # With the further numbers left out the pelvis lies elsewhere.
        whole = np.asarray((np.abs(given[:, BETAS:]) < 1e-6).all(1))
        betas[:, : given.shape[1]] = np.where(has_betas[:, None], given[:, :BETAS], 0.0)

    rest = template + betas @ directions.T
    pelvis = np.asarray(index.joints3d[rows, PELVIS], np.float64)
    known = pelvis[:, 3] > 0
    place = pelvis[:, :3]
    if "transl" in extras:
        transl = np.asarray(extras["transl"][rows], np.float64)
        exact = has_betas & whole & np.isfinite(transl).all(1)
        place, known = np.where(exact[:, None], rest + transl, place), known | exact
    has_transl = used & known & np.isfinite(place).all(1) & np.isfinite(index.intrinsics[rows]).all((1, 2))
    turned = np.einsum("nij,nj->ni", matrices, np.where(has_transl[:, None], place, 0.0)) - rest

    batch.global_orient[:] = torch.from_numpy(pose[:, 0])
    batch.body_pose[:] = torch.from_numpy(pose[:, 1:])
    batch.betas[:] = torch.from_numpy(betas)
    batch.transl[:] = torch.from_numpy(np.where(has_transl[:, None], turned, 0.0))
    for mask, values in ((batch.has_pose, has_pose), (batch.has_betas, has_betas), (batch.has_transl, has_transl)):
        mask[:] = torch.from_numpy(values)


def _tree(pose_NK3: Array, kind: str) -> Array:
    """(N,24,3) rotation vectors of SMPL's tree; hands with fingers have none of their own."""
    whole = pose_NK3[:, : 24 if kind in ("smpl", "free") else 22]
    return np.concatenate([whole, np.zeros((len(whole), 24 - whole.shape[1], 3))], 1)


def _seen(pose_N243: Array, matrices_N33: Array, flip_N: Array) -> Array:
    mirrored = np.where(flip_N[:, None, None], pose_N243[:, _FLIP] * _MIRROR, pose_N243)
    mirror = np.where(flip_N[:, None, None], np.diag([-1.0, 1.0, 1.0]), np.eye(3))
    roots = matrices_N33 @ Rotation.from_rotvec(pose_N243[:, 0]).as_matrix() @ mirror
    mirrored[:, 0] = Rotation.from_matrix(roots).as_rotvec()
    return mirrored
