"""Body models in SMPL's format (Loper et al., SIGGRAPH Asia 2015): shape blend shapes, joint regressor, skinning.

Frame: metres, y up, the person faces +z, the person's left is +x; all rotations zero is the T-pose.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from human.errors import PosesynError
from human.lbs import SMPL_PARENTS, forward_kinematics, skin
from human.registry import Registry
from human.rotations import rotvec_to_matrix

BODY_MODELS: Registry[Callable[[], "BodyModel"]] = Registry("body model")


@dataclass(frozen=True)
class BodyOutput:
    """vertices (B, V, 3) and joints (B, 32, 3) in POSE32 order, metres, in the frame of `global_orient`."""

    vertices: Tensor
    joints: Tensor


@dataclass(frozen=True)
class JointRegressor:
    """Named linear map from posed vertices to joints: row j is sum_k weight[j, k] * vertex[index[j, k]].

    Rows are padded with weight 0; each sums to 1.
    """

    index: NDArray[np.int64]  # (J, K)
    weight: NDArray[np.float32]  # (J, K)


@dataclass(frozen=True)
class BodyArrays:
    """Everything a `BodyModel` is made of, as SMPL's files hold it; pose blend shapes are zero."""

    v_template: NDArray[np.float32]  # (V, 3) metres
    shapedirs: NDArray[np.float32]  # (V, 3, 10) metres per unit of beta
    faces: NDArray[np.int64]  # (F, 3), counter-clockwise seen from outside
    weights: NDArray[np.float32]  # (V, 24) skinning weights, rows sum to 1
    rest_joints: JointRegressor  # rest vertices -> 24 joints, SMPL's J_regressor
    regressors: Mapping[str, JointRegressor]  # posed vertices -> joints of a named skeleton; "extra": POSE32's last 8
    uv: NDArray[np.float32]  # (T, 2) texture coordinates, u right, v up, in [0, 1]
    faces_uv: NDArray[np.int64]  # (F, 3) row of `uv` at each corner of each face
    mirror: NDArray[np.int64]  # (V,) vertex on the other side of the body


class BodyModel(nn.Module):
    """Shape and pose to a mesh and POSE32's joints.

    The first 24 joints are kinematic; the other 8 (nose, eyes, ears, upper_neck, head_top, thorax) are regressed
    from the posed vertices.

    Attributes (buffers that stay out of checkpoints):
        faces (F, 3) long; parents tuple of 24; num_betas 10; weights (V, 24); v_template (V, 3) metres;
        part (V,) long, the joint each vertex follows most; uv (T, 2), faces_uv (F, 3) texture coordinates per face
        corner; mirror (V,) long, the vertex on the other side; J_template (24, 3), J_shapedirs (24, 3, 10),
        J_regressor (24, V).
    """

    v_template: Tensor
    shapedirs: Tensor
    weights: Tensor
    faces: Tensor
    uv: Tensor
    faces_uv: Tensor
    mirror: Tensor
    part: Tensor
    J_template: Tensor
    J_shapedirs: Tensor
    extra_template: Tensor
    extra_shapedirs: Tensor
    extra_weights: Tensor
    extra_regressor: Tensor

    def __init__(self, arrays: BodyArrays) -> None:
        super().__init__()
        self.parents: tuple[int, ...] = SMPL_PARENTS
        self.num_betas = arrays.shapedirs.shape[2]
        self.regressor_names: tuple[str, ...] = tuple(name for name in arrays.regressors if name != "extra")

        def keep(name: str, value: NDArray[np.generic]) -> None:
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)), persistent=False)

        for name in ("v_template", "shapedirs", "weights", "faces", "uv", "faces_uv", "mirror"):
            keep(name, getattr(arrays, name))
        keep("part", arrays.weights.argmax(1))
        rest = arrays.rest_joints
        keep("rest_index", rest.index)
        keep("rest_weight", rest.weight)
        # float64 sums, so that these equal J_regressor @ v_shaped to float32 rounding
        weight = rest.weight.astype(np.float64)
        keep("J_template", np.einsum("jk,jkc->jc", weight, arrays.v_template[rest.index]).astype(np.float32))
        keep("J_shapedirs", np.einsum("jk,jkcb->jcb", weight, arrays.shapedirs[rest.index]).astype(np.float32))
        for name in self.regressor_names:
            keep(f"{name}_index", arrays.regressors[name].index)
            keep(f"{name}_weight", arrays.regressors[name].weight)

        # `joints` skins only the vertices that the 8 regressed joints are made of
        extra = arrays.regressors["extra"]
        used, position = np.unique(extra.index, return_inverse=True)
        matrix = np.zeros((len(extra.index), len(used)), np.float32)
        np.add.at(matrix, (np.arange(len(matrix))[:, None], position.reshape(extra.index.shape)), extra.weight)
        keep("extra_regressor", matrix)
        keep("extra_vertices", used)
        keep("extra_template", arrays.v_template[used])
        keep("extra_shapedirs", arrays.shapedirs[used])
        keep("extra_weights", arrays.weights[used])

    @property
    def J_regressor(self) -> Tensor:
        """(24, V) dense: rest vertices -> rest joints. Signed weights, rows sum to 1."""
        matrix = self.v_template.new_zeros(len(self.parents), len(self.v_template))
        return matrix.scatter_add_(1, self.get_buffer("rest_index"), self.get_buffer("rest_weight"))

    def forward(
        self, betas: Tensor, body_pose: Tensor, global_orient: Tensor, transl: Tensor | None = None
    ) -> BodyOutput:
        """Pose the mesh.

        Args:
            betas: (B, 10) shape, unit variance over the people it was made from.
            body_pose: (B, 23, 3) rotation vectors or (B, 23, 3, 3) matrices, each relative to the parent joint.
            global_orient: (B, 3) or (B, 3, 3) rotation of the pelvis.
            transl: (B, 3) metres added to everything, or None.

        Raises:
            PosesynError: a shape does not fit.
        """
        with torch.autocast(self.v_template.device.type, enabled=False):
            betas, rotations, transl = self._prepare(betas, body_pose, global_orient, transl)
            rest = self._shaped(self.J_template, self.J_shapedirs, betas)
            world, joints = forward_kinematics(rotations, rest, self.parents)
            shaped = self._shaped(self.v_template, self.shapedirs, betas)
            vertices = skin(shaped, self.weights, world, joints, rest)
            extra = self.extra_regressor @ vertices[:, self.get_buffer("extra_vertices")]
            joints = torch.cat([joints, extra], dim=1)
            if transl is not None:
                vertices, joints = vertices + transl[:, None], joints + transl[:, None]
        return BodyOutput(vertices, joints)

    def joints(self, betas: Tensor, body_pose: Tensor, global_orient: Tensor, transl: Tensor | None = None) -> Tensor:
        """`forward(...).joints` (B, 32, 3) without the mesh: cheap enough for every training step."""
        with torch.autocast(self.v_template.device.type, enabled=False):
            betas, rotations, transl = self._prepare(betas, body_pose, global_orient, transl)
            rest = self._shaped(self.J_template, self.J_shapedirs, betas)
            world, joints = forward_kinematics(rotations, rest, self.parents)
            shaped = self._shaped(self.extra_template, self.extra_shapedirs, betas)
            extra = self.extra_regressor @ skin(shaped, self.extra_weights, world, joints, rest)
            joints = torch.cat([joints, extra], dim=1)
            return joints if transl is None else joints + transl[:, None]

    def regress(self, vertices_BV3: Tensor, name: str) -> Tensor:
        """Joints (B, J, 3) of skeleton `name`, in the vertices' frame and unit.

        * "coco17": anny's COCO keypoints, where annotators click: hips and shoulders lie 2 to 3 cm from the
          kinematic joints, the face points on the skin.
        * "lsp14", "mpii16", "h36m17": rings of vertices around the kinematic hips, knees, ankles, shoulders, elbows
          and wrists, which follow them through random poses to 1 to 10 mm on average, 3 cm at a fully bent knee.
          pelvis is the middle of the hips, 2 cm below the kinematic one; thorax lies halfway between the shoulder
          line and the base of the neck; upper_neck halfway between the base of the neck and the base of the skull;
          head_top is the crown; spine_h36m is SMPL's spine3, halfway from pelvis to thorax; nose is COCO's.

        Raises:
            PosesynError: no such regressor, or another mesh.
        """
        if name not in self.regressor_names:
            raise PosesynError(
                f"no joint regressor is called {name!r}; this body has {', '.join(self.regressor_names)}"
            )
        if vertices_BV3.ndim != 3 or vertices_BV3.shape[1:] != self.v_template.shape:
            raise PosesynError(
                f"regress({name!r}) needs vertices of shape (B, {len(self.v_template)}, 3), "
                f"got {tuple(vertices_BV3.shape)}; pass the vertices of this body model"
            )
        weight = self.get_buffer(f"{name}_weight")
        return (vertices_BV3[:, self.get_buffer(f"{name}_index")] * weight[..., None]).sum(2)

    @staticmethod
    def _shaped(template_N3: Tensor, directions_N3K: Tensor, betas_BK: Tensor) -> Tensor:
        flat = betas_BK @ directions_N3K.flatten(0, 1).T
        return template_N3 + flat.unflatten(1, template_N3.shape)

    def _prepare(
        self, betas: Tensor, body_pose: Tensor, global_orient: Tensor, transl: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Checked inputs in the buffers' dtype; the two rotations as (B, 24, 3, 3)."""
        batch = betas.shape[0] if betas.ndim else 0
        bones = len(self.parents) - 1
        _check("betas", betas, [(batch, self.num_betas)])
        _check("body_pose", body_pose, [(batch, bones, 3), (batch, bones, 3, 3)])
        _check("global_orient", global_orient, [(batch, 3), (batch, 3, 3)])
        if transl is not None:
            _check("transl", transl, [(batch, 3)])
            transl = transl.to(self.v_template.dtype)
        dtype = self.v_template.dtype
        root = global_orient.to(dtype) if global_orient.ndim == 3 else rotvec_to_matrix(global_orient.to(dtype))
        body = body_pose.to(dtype) if body_pose.ndim == 4 else rotvec_to_matrix(body_pose.to(dtype))
        return betas.to(dtype), torch.cat([root[:, None], body], dim=1), transl


def _check(name: str, value: Tensor, shapes: Sequence[tuple[int, ...]]) -> None:
    if tuple(value.shape) not in shapes:
        wanted = " or ".join(str(shape) for shape in shapes)
        raise PosesynError(f"body model: {name} must have shape {wanted}, got {tuple(value.shape)}")


@BODY_MODELS.register("free")
def _free() -> BodyModel:
    from human.free_body import load_free_body  # it builds on this module, hence not at the top

    return load_free_body()


def _licensed(name: str) -> BodyModel:
    from human.licensed import load_licensed  # as above

    return load_licensed(name)


for _kind in ("smpl", "smplh", "smplx"):
    for _gender in ("", "_male", "_female"):  # without a gender: neutral
        BODY_MODELS.register(_kind + _gender)(partial(_licensed, _kind + _gender))


def load_body(name: str = "free") -> BodyModel:
    """The body model registered as `name`; "free" needs no licence, "smpl", "smplh", "smplx" and their genders do.

    Raises:
        PosesynError: no such name, or the licensed file is missing: which, where it was looked for, where to register.
    """
    return BODY_MODELS.get(name)()
