"""Shape and pose from one body model to another: free, SMPL, SMPL-H and SMPL-X, in any direction.

All share SMPL's tree and T-pose, so the rotations carry over as they are to within the bodies' different rest joints.
What is left is mended by a fit: through the joints alone, for any two bodies, or through the vertices where both have
one mesh or a linear map between the meshes is known (smplx's model-transfer files).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from human.body import BodyModel
from human.body_folders import find_vertex_map
from human.errors import PosesynError
from human.fit import FitResult, Weights, fit_joints3d, fit_vertices
from human.fit_start import start_betas
from human.licensed import LicensedBody
from human.rotations import matrix_to_rotvec
from human.skeleton import POSE32
from human.smpl_files import read_vertex_map

# How far two bodies' joints of one name mean the same place. Limbs agree; each model puts the joints of the spine, the
# collars and the hands where its own skinning likes them, and the face's points lie on differently shaped skin.
_LOOSE = {
    "spine1": 0.1, "spine2": 0.1, "spine3": 0.1, "left_collar": 0.1, "right_collar": 0.1, "left_hand": 0.3,
    "right_hand": 0.3, "left_foot": 0.5, "right_foot": 0.5, "head": 0.5, "nose": 0.3, "left_eye": 0.3, "right_eye": 0.3,
    "left_ear": 0.3, "right_ear": 0.3, "head_top": 0.3, "upper_neck": 0.3, "thorax": 0.3,
}  # fmt: skip
CONFIDENCE = tuple(_LOOSE.get(name, 1.0) for name in POSE32.joints)
# tether: 0.1 radian away from the given rotations weighs as much as 2 mm of one limb joint
WEIGHTS = Weights(prior=0.0, limits=0.0, betas=1e-3, tether=2e-2)
_ROUNDS = 3  # of fits around the pose blend shapes
_CHUNK = 64


@torch.no_grad()
def convert_body(
    source: BodyModel,
    target: BodyModel,
    betas: Tensor,
    body_pose: Tensor,
    global_orient: Tensor,
    transl: Tensor | None = None,
    *,
    via: Literal["joints", "vertices"] = "joints",
    vertex_map: str | Path | None = None,
    group_B: Tensor | None = None,
    **parts: Any,
) -> FitResult:
    """The parameters of `target` that look like `source` with the given ones.

    Args:
        betas, body_pose, global_orient, transl: of the source, as :meth:`BodyModel.forward` takes them.
        via: "joints" (any two bodies; what no joint shows, such as a twist of the forearm, is kept from the source),
            or "vertices" (shape too; needs one mesh or a map).
        vertex_map: file of :func:`human.smpl_files.read_vertex_map`; None looks in the body folders.
        group_B: (B,) long, 0..G-1: samples of one person, which get one shape.
        parts: hands, face and expression of a licensed source; they count through its vertices, and the target's own
            hands and face stay at rest.

    Returns:
        FitResult; `error` in metres: mean over the POSE32 joints weighted by `CONFIDENCE`, or over all vertices.

    Raises:
        PosesynError: shapes do not fit, numbers that are none, or no way from one mesh to the other.
    """
    if via not in ("joints", "vertices"):
        raise PosesynError(f"convert_body: via must be 'joints' or 'vertices', not {via!r}")
    given = {"betas": betas, "body_pose": body_pose, "global_orient": global_orient, "transl": transl, **parts}
    for name, value in given.items():
        if value is not None and not bool(torch.isfinite(value).all()):
            raise PosesynError(f"convert_body: {name} holds NaN or infinite numbers; leave those samples out")
    if parts and not isinstance(source, LicensedBody):
        raise PosesynError(f"convert_body: the source body has no {', '.join(parts)}; leave it out")
    arguments = [betas, body_pose, global_orient, transl]
    if via == "vertices":
        matrix = _vertex_map(source, target, vertex_map)
        chunks = [
            source(*(None if a is None else a[i : i + _CHUNK] for a in arguments), **_rows(parts, i)).vertices
            for i in range(0, max(1, len(betas)), _CHUNK)
        ]
        vertices = torch.cat([_apply(matrix, v) for v in chunks]).to(target.v_template)
        return _around_blend_shapes(
            target, vertices, lambda wanted: fit_vertices(target, wanted, group_B=group_B), _whole_mesh, None
        )
    return _via_joints(source, target, arguments, parts, group_B)


def _via_joints(
    source: BodyModel,
    target: BodyModel,
    arguments: list[Any],
    parts: dict[str, Any],
    group_B: Tensor | None,
) -> FitResult:
    joints = source.joints(*arguments, **parts).to(target.J_template)
    body_pose, global_orient = (_rotvec(a, n).to(joints) for a, n in zip(arguments[1:3], (3, 2), strict=True))
    conf = joints.new_tensor(CONFIDENCE).expand(len(joints), -1)
    kinematic = slice(len(target.parents))
    betas = start_betas(
        target.J_template, target.J_shapedirs, list(target.parents), joints[:, kinematic], conf[:, kinematic], group_B
    )
    start = FitResult(
        betas,
        body_pose,
        global_orient,
        joints.new_zeros(len(joints), 3),
        joints.new_zeros(len(joints)),
        torch.ones(len(joints), dtype=torch.bool, device=joints.device),
    )
    start = replace(start, transl=joints[:, 0] - start.joints(target)[:, 0])

    def fit(wanted: Tensor) -> FitResult:
        found = fit_joints3d(target, wanted, conf, init=start, weights=WEIGHTS, group_B=group_B)
        # no joint shows how the hands are turned
        return replace(found, body_pose=torch.cat([found.body_pose[:, :21], body_pose[:, 21:]], dim=1))

    return _around_blend_shapes(target, joints, fit, _joints, conf)


def _joints(body: BodyModel, kind: type[BodyModel], result: FitResult) -> Tensor:
    return kind.joints(body, result.betas, result.body_pose, result.global_orient, result.transl)


def _whole_mesh(body: BodyModel, kind: type[BodyModel], result: FitResult) -> Tensor:
    return torch.cat(
        [
            kind.forward(body, r.betas, r.body_pose, r.global_orient, r.transl).vertices
            for r in (result[i : i + _CHUNK] for i in range(0, max(1, len(result)), _CHUNK))
        ]
    )


def _around_blend_shapes(
    target: BodyModel,
    points_BN3: Tensor,
    fit: Callable[[Tensor], FitResult],
    posed: Callable[[BodyModel, type[BodyModel], FitResult], Tensor],
    weight_BN: Tensor | None,
) -> FitResult:
    """Fits know the skinning of 24 joints; what blend shapes and fingers add is taken off the points, several times."""
    result = fit(points_BN3)
    licensed = isinstance(target, LicensedBody)
    for _ in range(_ROUNDS if licensed and len(points_BN3) else 0):
        added = posed(target, type(target), result) - posed(target, BodyModel, result)
        result = fit(points_BN3 - added)
    distance = (posed(target, type(target), result) - points_BN3).norm(dim=-1)
    weight = torch.ones_like(distance) if weight_BN is None else weight_BN
    error = (distance * weight).sum(1) / weight.sum(1)
    return replace(result, error=torch.where(result.valid, error, torch.full_like(error, torch.inf)))


def _vertex_map(source: BodyModel, target: BodyModel, path: str | Path | None) -> Any:
    """Scipy CSR (V_target, V_source), or None where both have one mesh."""
    kinds = [getattr(body, "kind", "free") for body in (source, target)]
    mesh = ["smpl" if kind == "smplh" else kind for kind in kinds]  # SMPL-H has SMPL's mesh
    if path is None and mesh[0] == mesh[1]:
        return None
    if path is None:
        siblings = {"smpl": ("smpl", "smplh"), "smplh": ("smplh", "smpl")}
        names = [(s, t) for s in siblings.get(kinds[0], kinds[:1]) for t in siblings.get(kinds[1], kinds[1:])]
        path = next((p for p in (find_vertex_map(s, t) for s, t in names) if p is not None), None)
    if path is None:
        raise PosesynError(
            f"convert_body: no vertex map from {kinds[0]} to {kinds[1]} is known: give vertex_map (smplx's "
            f"{kinds[0]}2{kinds[1]}_deftrafo_setup.pkl, from https://smpl-x.is.tue.mpg.de) or use via='joints'"
        )
    matrix = read_vertex_map(path)
    if matrix.shape != (len(target.v_template), len(source.v_template)):
        raise PosesynError(
            f"{path} maps {matrix.shape[1]} vertices to {matrix.shape[0]}, but these bodies have "
            f"{len(source.v_template)} and {len(target.v_template)}: give the map from {kinds[0]} to {kinds[1]}"
        )
    return matrix


def _apply(matrix: Any, vertices_BV3: Tensor) -> Tensor:
    if matrix is None:
        return vertices_BV3
    rows = torch.from_numpy(np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))).to(vertices_BV3.device)
    columns = torch.from_numpy(matrix.indices.astype(np.int64)).to(vertices_BV3.device)
    weighted = vertices_BV3[:, columns] * torch.from_numpy(matrix.data).to(vertices_BV3)[:, None]
    return vertices_BV3.new_zeros(len(vertices_BV3), matrix.shape[0], 3).index_add_(1, rows, weighted)


def _rows(parts: dict[str, Any], start: int) -> dict[str, Any]:
    return {name: None if value is None else value[start : start + _CHUNK] for name, value in parts.items()}


def _rotvec(rotations: Tensor, vector_dims: int) -> Tensor:
    """Rotation vectors, from those (with `vector_dims` dimensions) or from matrices (with one more)."""
    return rotations if rotations.ndim == vector_dims else matrix_to_rotvec(rotations)
