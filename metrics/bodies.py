"""Meshes and joints of the two sides of an evaluation, float64, metres, camera frame."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from human.body import BodyModel, load_body
from human.body_folders import find_vertex_map
from human.errors import PosesynError
from human.lbs import SMPL_PARENTS
from human.regressors import FILES, find_regressor, is_published, joint_names, missing_regressor, regress
from human.rotations import rotvec_to_matrix
from human.skeleton import POSE32, SMPL24, SMPLX55, get_skeleton
from human.smpl_files import read_vertex_map
from metrics.truth import GENDERS


@lru_cache(maxsize=8)
def body_model(name: str, betas: int) -> BodyModel:
    """float64, on the CPU, with at least ``betas`` shape numbers where the file has them.

    ``name``: as registered, or that with "_kid" behind it: eleven numbers, the last leads to the children's template.
    """
    if name.endswith("_kid"):
        from human.licensed import load_licensed

        return load_licensed(name.removesuffix("_kid"), kid=True).double()
    body = load_body(name)
    if betas > body.num_betas:
        from human.licensed import load_licensed

        body = load_licensed(name, num_betas=betas)
    return body.double()


def body_name(kind: str, gender: int) -> str:
    """As registered: "smpl" is neutral; the free body has one gender."""
    return kind if gender == 0 or kind == "free" else f"{kind}_{GENDERS[gender]}"


def needed_betas(betas: Any) -> Any:
    """(B,S) without the last columns beyond the tenth that are all zero: not every body file has that many."""
    used = [column for column in range(10, betas.shape[1]) if bool((betas[:, column] != 0).any())]
    return betas[:, : max([10, *(column + 1 for column in used)])]


class Posed:
    """B bodies of one name, posed; meshes are made when somebody asks for them.

    Args:
        name: of the body model.
        pose: (B,K,3) rotation vectors, the root first, in the order of the body's file (24, 52 or 55; hands whole, with
            the mean hand in them), or the first 24 or 22 of SMPL's tree.
        betas, transl: (B,S), (B,3); without ``transl`` the pelvis' place means nothing.
        mesh: kind of mesh that vertices are given on ("" for the body's own).
    """

    def __init__(self, name: str, pose: Any, betas: Any, transl: Any = None, mesh: str = "") -> None:
        as_tensor = lambda x: torch.as_tensor(np.asarray(x, np.float64))  # noqa: E731
        self.name, self.mesh = name, mesh
        self.pose, self.betas = as_tensor(pose), needed_betas(as_tensor(betas))
        self.transl = as_tensor(transl) if transl is not None else self.pose.new_zeros(len(self.pose), 3)

    @cached_property
    def body(self) -> BodyModel:
        return body_model(self.name, self.betas.shape[1])

    @cached_property
    def _out(self) -> Any:
        matrices = rotvec_to_matrix(self.pose)
        count = matrices.shape[1]
        kind = self.name.split("_")[0]
        flat = torch.eye(3, dtype=matrices.dtype).expand(len(matrices), 2, 3, 3)
        parts: dict[str, Tensor] = {}
        if kind in ("smpl", "free") or count <= 24:
            body_pose = matrices[:, 1:24] if count >= 24 else torch.cat([matrices[:, 1:22], flat], 1)
        else:
            body_pose = torch.cat([matrices[:, 1:22], flat], 1)
            first = {"smplh": 22, "smplx": 25}[kind]
            if count < first + 30:
                raise PosesynError(f"a pose of {kind} has {first + 30} rotations, got {count}")
            if kind == "smplx":
                parts = {n: matrices[:, 22 + i] for i, n in enumerate(("jaw_pose", "leye_pose", "reye_pose"))}
            parts |= {"left_hand_pose": matrices[:, first : first + 15]}
            parts |= {"right_hand_pose": matrices[:, first + 15 : first + 30]}
        betas = self.betas[:, : self.body.num_betas]
        if betas.shape[1] < self.body.num_betas:
            betas = torch.nn.functional.pad(betas, (0, self.body.num_betas - betas.shape[1]))
        with torch.no_grad():
            return self.body(betas, body_pose, matrices[:, 0], self.transl, **parts)

    @cached_property
    def vertices(self) -> Tensor:
        """(B,V,3) on the mesh asked for."""
        vertices: Tensor = self._out.vertices
        return vertices if self.mesh in ("", self.name.split("_")[0]) else self._carried(vertices)

    def _carried(self, vertices: Tensor) -> Tensor:
        kind = self.name.split("_")[0]
        if {kind, self.mesh} == {"smpl", "smplh"}:  # one mesh
            return vertices
        path = find_vertex_map(kind, self.mesh)
        if path is None:
            raise PosesynError(
                f"to compare {kind} with {self.mesh} the map {kind}2{self.mesh}_deftrafo_setup.pkl is needed: it is "
                "part of SMPL-X's model_transfer data (https://smpl-x.is.tue.mpg.de), put it beside the body models"
            )
        matrix = _map_of(str(path))
        return torch.stack([torch.from_numpy(matrix @ v.numpy()) for v in vertices])

    @property
    def mesh_body(self) -> BodyModel:
        """The body whose mesh :attr:`vertices` are on, of the same gender."""
        kind, _, gender = self.name.partition("_")
        return self.body if self.mesh in ("", kind) else body_model("_".join(filter(None, (self.mesh, gender))), 10)

    @property
    def neutral_body(self) -> BodyModel:
        """The neutral body whose mesh :attr:`vertices` are on."""
        return body_model(self.mesh or self.name.split("_")[0], 10)

    def global_rotations(self, joints: Sequence[int]) -> Tensor:
        """(B,len(joints),3,3) of SMPL's joints, of the first 22: from the rest pose to the camera's frame."""
        local = rotvec_to_matrix(self.pose)
        chain = [local[:, 0]]
        for joint in range(1, 22):
            chain.append(chain[SMPL_PARENTS[joint]] @ local[:, joint])
        return torch.stack([chain[j] for j in joints], 1)

    def joints(self, source: str, names: tuple[str, ...]) -> Tensor:
        """(B,len(names),3) from a source of ``metrics.protocols.base.SOURCES``."""
        if source == "kinematic":
            return self._out.joints[:, POSE32.indices(*names)]
        if source == "smplx":
            if self.name.split("_")[0] != "smplx":
                from metrics.case import NotMeasured  # which builds on this module

                raise NotMeasured(f"a body {self.name!r} has not SMPL-X's joints")
            return self._out.all_joints[:, SMPLX55.indices(*names)]
        if source in ("posed24", "neutral24"):
            body = self.mesh_body if source == "posed24" else self.neutral_body
            every = body.J_regressor.double() @ self.vertices
            return every[:, SMPL24.indices(*names)]
        if source == "vertices":
            return self.vertices[:, [int(number) for number in names]]
        if source in FILES:
            if source == "j19" and is_published(self.mesh_body) and find_regressor(source) is None:
                from metrics.case import NotMeasured  # which builds on this module

                raise NotMeasured(missing_regressor(source))  # few have that file: other protocols go on
            known = joint_names(source)
            missing = [n for n in names if n not in known]
            if missing:
                raise PosesynError(f"the regressor {source!r} has no {', '.join(missing)}; it has {', '.join(known)}")
            return regress(self.vertices, source, self.mesh_body)[:, [known.index(n) for n in names]]
        raise PosesynError(f"a body has no joints from {source!r}")


@lru_cache(maxsize=2)
def _map_of(path: str) -> Any:
    """Scipy CSR (V_target, V_source), float64."""
    return read_vertex_map(path).astype(np.float64).tocsr()


def named(values: Any, skeleton: str, names: tuple[str, ...]) -> Tensor:
    """(B,len(names),C) float64: columns of joints in ``skeleton`` by name."""
    order = get_skeleton(skeleton).indices(*names)
    return torch.as_tensor(np.asarray(values, np.float64))[:, order]
