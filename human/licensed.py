"""SMPL, SMPL-H and SMPL-X bodies from the user's own files, behind :class:`human.body.BodyModel`.

Papers: SMPL (Loper et al. 2015, Eq. 2-9), SMPL-H (Romero et al. 2017), SMPL-X (Pavlakos et al. 2019, Eq. 1). Equal to
`smplx.SMPL`, `SMPLH` and `SMPLX` on the same arrays; `smplx` itself reads no file here, since it unpickles whatever it
is given, and the face landmarks' vertex numbers are its own.

The tree seen from outside is always SMPL's 24 joints. SMPL-H and SMPL-X have no hand joint: here one lies at the first
joint of the middle finger, between wrist and fingers, so that `body_pose`'s two hand rotations turn all fingers of a
hand together, as they do on the free body. At zero the fingers are the file's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from smplx.vertex_ids import vertex_ids
from torch import Tensor

from human.body import BodyArrays, BodyModel, BodyOutput, JointRegressor
from human.body_folders import VARIANTS, require_body_file
from human.errors import PosesynError
from human.kid_template import with_kid
from human.lbs import forward_kinematics, skin
from human.rotations import rotvec_to_matrix
from human.skeleton import SKELETONS, SMPL24
from human.smpl_files import F32, LAYOUTS, SmplFile, read_smpl_file

_HEAD, _WRISTS, _HANDS = 15, (20, 21), (22, 23)
_MIDDLE = 3  # the middle finger's first joint among a hand's 15 (index, middle, pinky, ring, thumb)
_FACE_POINTS = {"nose": "nose", "left_eye": "leye", "right_eye": "reye", "left_ear": "lear", "right_ear": "rear"}


@dataclass(frozen=True)
class LicensedOutput(BodyOutput):
    """all_joints (B, J, 3): every joint of the file in its own order (24, 52 or 55), metres."""

    all_joints: Tensor


class LicensedBody(BodyModel):
    """A body of the SMPL family.

    Beyond :class:`BodyModel`: pose blend shapes, and for SMPL-H and SMPL-X hands, face and expression as keywords.
    `weights` and `part` are folded onto the 24 joints (fingers to the hands; jaw and eyes to the head); skinning uses
    all joints. Without texture coordinates in the file `uv` is the template seen from the front (left half) and from
    behind (right half).

    Attributes:
        kind: "smpl", "smplh" or "smplx"; gender as registered; num_expression: 0 but for SMPL-X;
        flat_hand_mean: whether zero hand poses mean a flat hand (as AMASS stores them) or the relaxed mean hand.
    """

    posedirs: Tensor  # (9 (J - 1), 3 V)
    all_weights: Tensor  # (V, J') columns in the order of `self.tree`

    def __init__(
        self, file: SmplFile, *, num_betas: int = 10, num_expression: int = 10, flat_hand_mean: bool = False
    ) -> None:
        layout = LAYOUTS[file.kind]
        order, tree = _tree(file)
        if not 0 < num_betas <= file.shapedirs.shape[2]:
            raise PosesynError(
                f"{file.path} has {file.shapedirs.shape[2]} shape directions: ask for 1 to that many, not {num_betas}"
            )
        super().__init__(_body_arrays(file, order, num_betas))
        self.kind, self.flat_hand_mean = file.kind, flat_hand_mean
        self.tree = tree  # parents of all joints: SMPL24's, then the file's others
        self.num_expression = min(num_expression, file.expression.shape[2])
        self._face, self._has_hands = len(layout.face), layout.hands is not None

        def keep(name: str, value: NDArray[np.generic]) -> None:
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)), persistent=False)

        # the file's joint behind each joint of the tree, and the tree's joint behind each of the file
        keep("tree_joint", np.array(order))
        hands = _HANDS if self._has_hands else ()
        keep("file_joint", np.array([next(i for i, o in enumerate(order) if o == j and i not in hands)
                                     for j in range(layout.joints)]))  # fmt: skip
        keep("finger_joint", np.array([first + 3 * k for first in layout.hands or () for k in range(5)], np.int64))
        weights = file.weights[:, order]
        weights[:, list(hands)] = 0  # they only carry the fingers
        flat = file.posedirs.reshape(-1, file.posedirs.shape[2]).T
        expression = file.expression[:, :, : self.num_expression]
        used = self.get_buffer("extra_vertices").numpy()
        keep("posedirs", flat)
        keep("all_weights", weights)
        keep("expression_dirs", expression)
        keep("extra_posedirs", file.posedirs[used].reshape(-1, flat.shape[0]).T)
        keep("extra_all_weights", weights[used])
        keep("extra_expression_dirs", expression[used])
        J = file.J_regressor[order]
        keep("all_J_template", (J @ file.v_template).astype(np.float32))
        keep("all_J_shapedirs", _regress(J, file.shapedirs[:, :, :num_betas]))
        keep("all_J_expression", _regress(J, expression))
        if self._has_hands and file.hands_mean is not None and file.hands_components is not None:
            keep("hands_mean", np.zeros_like(file.hands_mean) if flat_hand_mean else file.hands_mean)
            keep("hands_components", file.hands_components)

    def forward(  # type: ignore[override]
        self,
        betas: Tensor,
        body_pose: Tensor,
        global_orient: Tensor,
        transl: Tensor | None = None,
        **parts: Tensor | None,
    ) -> LicensedOutput:
        """Pose the mesh; the first four as :meth:`BodyModel.forward`.

        Args:
            parts: any of left_hand_pose, right_hand_pose: (B, P) principal components, (B, 15, 3) rotation vectors
                (both added to the mean hand, as smplx does) or (B, 15, 3, 3) matrices (taken as they are);
                jaw_pose, leye_pose, reye_pose: (B, 3) or (B, 3, 3); expression: (B, up to num_expression).

        Raises:
            PosesynError: a shape does not fit, or the body has no such part.
        """
        with torch.autocast(self.v_template.device.type, enabled=False):
            betas, local, expression, transl = self._pose(betas, body_pose, global_orient, transl, parts)
            rest, world, joints = self._kinematics(betas, local, expression)
            shaped = self._shaped(self.v_template, self.shapedirs, betas)
            shaped = self._deform(shaped, local, expression, self.get_buffer("expression_dirs"), self.posedirs)
            vertices = skin(shaped, self.all_weights, world, joints, rest)
            extra = self.extra_regressor @ vertices[:, self.get_buffer("extra_vertices")]
            named = torch.cat([joints[:, :24], extra], dim=1)
            every = joints[:, self.get_buffer("file_joint")]
            if transl is not None:
                vertices, named, every = (x + transl[:, None] for x in (vertices, named, every))
        return LicensedOutput(vertices, named, every)

    def joints(  # type: ignore[override]
        self,
        betas: Tensor,
        body_pose: Tensor,
        global_orient: Tensor,
        transl: Tensor | None = None,
        **parts: Tensor | None,
    ) -> Tensor:
        """`forward(...).joints` (B, 32, 3) without the mesh."""
        with torch.autocast(self.v_template.device.type, enabled=False):
            betas, local, expression, transl = self._pose(betas, body_pose, global_orient, transl, parts)
            rest, world, joints = self._kinematics(betas, local, expression)
            shaped = self._shaped(self.extra_template, self.extra_shapedirs, betas)
            directions = self.get_buffer("extra_expression_dirs"), self.get_buffer("extra_posedirs")
            shaped = self._deform(shaped, local, expression, *directions)
            extra = self.extra_regressor @ skin(shaped, self.get_buffer("extra_all_weights"), world, joints, rest)
            named = torch.cat([joints[:, :24], extra], dim=1)
            return named if transl is None else named + transl[:, None]

    def _kinematics(self, betas: Tensor, local: Tensor, expression: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rest joints, world rotations and posed joints of the whole tree."""
        rest = self._shaped(self.get_buffer("all_J_template"), self.get_buffer("all_J_shapedirs"), betas)
        if expression.shape[1]:
            rest = rest + _blend(self.get_buffer("all_J_expression"), expression)
        world, joints = forward_kinematics(local, rest, self.tree)
        return rest, world, joints

    def _deform(
        self, shaped: Tensor, local: Tensor, expression: Tensor, expression_dirs: Tensor, posedirs: Tensor
    ) -> Tensor:
        """Expression and pose blend shapes (SMPL Eq. 8-9) on rest vertices (B, N, 3)."""
        if expression.shape[1]:
            shaped = shaped + _blend(expression_dirs, expression)
        relative = local[:, self.get_buffer("file_joint")]
        if self._has_hands:  # relative to the wrist, which is the fingers' parent in the file
            first = self.get_buffer("finger_joint")  # of both hands, left before right
            turned = local[:, 22:24].repeat_interleave(5, dim=1) @ relative[:, first]
            relative = relative.index_copy(1, first, turned)
        feature = (relative[:, 1:] - torch.eye(3, dtype=local.dtype, device=local.device)).flatten(1)
        return shaped + (feature @ posedirs).unflatten(1, shaped.shape[1:])

    def _pose(
        self,
        betas: Tensor,
        body_pose: Tensor,
        global_orient: Tensor,
        transl: Tensor | None,
        parts: dict[str, Tensor | None],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Checked inputs; local rotations (B, J', 3, 3) of the whole tree; expression (B, E)."""
        betas, body, transl = self._prepare(betas, body_pose, global_orient, transl)
        batch, given = len(betas), {k: v for k, v in parts.items() if v is not None}
        known = ["left_hand_pose", "right_hand_pose"] if self._has_hands else []
        face = ["jaw_pose", "leye_pose", "reye_pose"] if self._face else []
        if odd := sorted(set(given) - {*known, *face, *(["expression"] if face else [])}):
            raise PosesynError(f"body model {self.kind!r} has no {', '.join(odd)}: leave it out or use SMPL-X")
        local = [body]
        for name in face:
            shapes = [(batch, 3), (batch, 3, 3)]
            local.append(self._rotations(name, given.get(name), shapes, body.new_zeros(batch, 3))[:, None])
        for side, name in enumerate(known):
            local.append(self._hand(name, given.get(name), side, batch, body))
        expression = given.get("expression")
        if expression is None:
            expression = body.new_zeros(batch, 0)
        elif expression.ndim != 2 or len(expression) != batch or expression.shape[1] > self.num_expression:
            raise PosesynError(
                f"body model: expression must have shape ({batch}, up to {self.num_expression}), "
                f"got {tuple(expression.shape)}"
            )
        return betas, torch.cat(local, dim=1), expression.to(body.dtype), transl

    def _hand(self, name: str, value: Tensor | None, side: int, batch: int, like: Tensor) -> Tensor:
        mean = self.get_buffer("hands_mean")[side]
        if value is None:
            value = like.new_zeros(batch, 15, 3)
        if value.ndim == 2 and len(value) == batch and value.shape[1] <= 45:
            value = (value.to(like.dtype) @ self.get_buffer("hands_components")[side, : value.shape[1]]).unflatten(
                1, (15, 3)
            )
        shapes = [(batch, 15, 3), (batch, 15, 3, 3)]
        if tuple(value.shape) == shapes[0]:
            value = value + mean.unflatten(0, (15, 3))
        return self._rotations(f"{name} (or (B, up to 45) components)", value, shapes, value)

    @staticmethod
    def _rotations(name: str, value: Tensor | None, shapes: list[tuple[int, ...]], like: Tensor) -> Tensor:
        value = like if value is None else value.to(like.dtype)
        if tuple(value.shape) not in shapes:
            wanted = " or ".join(map(str, shapes))
            raise PosesynError(f"body model: {name} must have shape {wanted}, got {tuple(value.shape)}")
        return value if value.ndim == len(shapes[1]) else rotvec_to_matrix(value)


def load_licensed(
    name: str,
    path: str | Path | None = None,
    *,
    num_betas: int = 10,
    num_expression: int = 10,
    flat_hand_mean: bool = False,
    kid: bool = False,
) -> LicensedBody:
    """A licensed body by its registered name ("smpl", "smplx_female", ...).

    Args:
        path: its file; None searches the folders of :func:`human.body_folders.search_folders`.
        kid: one more shape number, which leads to the children's template (``human.kid_template``).

    Raises:
        PosesynError: no such body, no file (the message says where to register and where it was looked for), or a
            file that does not hold this body.
    """
    if name not in VARIANTS:
        raise PosesynError(f"no licensed body is called {name!r}; known: {', '.join(VARIANTS)}")
    variant = VARIANTS[name]
    file = read_smpl_file(path if path is not None else require_body_file(variant), variant.kind)
    if kid:
        file, num_betas = with_kid(file, num_betas), num_betas + 1
    return LicensedBody(file, num_betas=num_betas, num_expression=num_expression, flat_hand_mean=flat_hand_mean)


def split_pose(kind: str, poses_BP: Tensor) -> dict[str, Tensor]:
    """Keywords of :meth:`LicensedBody.forward` from whole pose vectors (AMASS, BEDLAM, smplx's `full_pose`).

    Args:
        kind: "smpl" (72), "smplh" (156) or "smplx" (165 numbers: rotation vectors of the file's joints in its order).

    Returns:
        global_orient, body_pose (the hand joints of SMPL-H and SMPL-X zero) and the hands and face there are. Hands are
        as stored: add nothing to AMASS's (`flat_hand_mean=True`).
    """
    joints = LAYOUTS[kind].joints if kind in LAYOUTS else 0
    if poses_BP.ndim != 2 or poses_BP.shape[1] != 3 * joints:
        raise PosesynError(
            f"poses of kind {kind!r} must have shape (B, {3 * joints}), got {tuple(poses_BP.shape)}; "
            "kinds: smpl 72, smplh 156, smplx 165 numbers"
        )
    vectors = poses_BP.unflatten(1, (joints, 3))
    parts = {"global_orient": vectors[:, 0]}
    if kind == "smpl":
        return parts | {"body_pose": vectors[:, 1:]}
    parts["body_pose"] = torch.cat([vectors[:, 1:22], torch.zeros_like(vectors[:, :2])], dim=1)
    layout = LAYOUTS[kind]
    names = ("jaw_pose", "leye_pose", "reye_pose")
    parts |= {name: vectors[:, j] for name, j in zip(names, layout.face, strict=False)}
    left, right = layout.hands or (0, 0)
    return parts | {"left_hand_pose": vectors[:, left : left + 15], "right_hand_pose": vectors[:, right : right + 15]}


def _blend(directions_N3E: Tensor, values_BK: Tensor) -> Tensor:
    """Offsets (B, N, 3) of the first K directions."""
    directions = directions_N3E[..., : values_BK.shape[1]]
    return (values_BK @ directions.flatten(0, 1).T).unflatten(1, directions.shape[:2])


def _tree(file: SmplFile) -> tuple[list[int], tuple[int, ...]]:
    """The file's joint at each place of the tree (hands: the middle finger's), and the tree's parents."""
    layout = LAYOUTS[file.kind]
    if layout.hands is None:
        return list(range(24)), file.parents
    order = [*range(22), *(first + _MIDDLE for first in layout.hands), *range(22, layout.joints)]
    place = {j: i for i, j in enumerate(order) if i not in _HANDS}
    parents = [*file.parents[:22], *_WRISTS]
    for j in range(22, layout.joints):
        parent = place[file.parents[j]]
        parents.append(_HANDS[_WRISTS.index(parent)] if parent in _WRISTS else parent)
    return order, tuple(parents)


def _body_arrays(file: SmplFile, order: list[int], num_betas: int) -> BodyArrays:
    layout = LAYOUTS[file.kind]
    weights = file.weights[:, :24].copy()
    if layout.hands is not None:
        weights[:, _HEAD] += file.weights[:, list(layout.face)].sum(1)
        for joint, first in zip(_HANDS, layout.hands, strict=True):
            weights[:, joint] = file.weights[:, first : first + 15].sum(1)
    uv, faces_uv = (file.uv, file.faces_uv) if file.uv is not None else _front_and_back(file.v_template, file.faces)
    mirror = file.mirror
    if mirror is None:
        mirror = cKDTree(file.v_template).query(file.v_template * np.array([-1, 1, 1], np.float32))[1].astype(np.int64)
    assert faces_uv is not None
    rest = file.J_regressor[order[:24]]
    return BodyArrays(
        v_template=file.v_template,
        shapedirs=file.shapedirs[:, :, :num_betas],
        faces=file.faces,
        weights=weights,
        rest_joints=_padded(rest),
        regressors={name: _padded(rows) for name, rows in _posed_regressors(file, rest, weights).items()},
        uv=uv,
        faces_uv=faces_uv,
        mirror=mirror,
    )


def _posed_regressors(
    file: SmplFile, rest: scipy.sparse.csr_matrix, weights: F32
) -> dict[str, scipy.sparse.csr_matrix]:
    """Rows on posed vertices for POSE32's last 8 joints ("extra") and the named skeletons (docs/bodies.md)."""
    vertices = len(file.v_template)
    numbers = vertex_ids["smplx" if file.kind == "smplx" else "smplh"]  # SMPL and SMPL-H share their mesh
    joint = {name: rest[i] for i, name in enumerate(SMPL24.joints)}
    for name, short in _FACE_POINTS.items():
        joint[name] = _one(numbers[short], vertices)
    head = np.flatnonzero(weights.argmax(1) == _HEAD)
    if not len(head):
        raise PosesynError(f"{file.path}: no vertex follows the head; give the original file")
    joint["head_top"] = _one(int(head[file.v_template[head, 1].argmax()]), vertices)
    joint["upper_neck"] = (joint["neck"] + joint["head"]) / 2
    shoulders = (joint["left_shoulder"] + joint["right_shoulder"]) / 2
    joint["thorax"] = (shoulders + joint["neck"]) / 2
    extra = [*_FACE_POINTS, "upper_neck", "head_top", "thorax"]
    order = {"extra": SKELETONS["pose32"].joints[24:]}
    assert set(order["extra"]) == set(extra)
    order |= {name: SKELETONS[name].joints for name in ("coco17", "lsp14", "mpii16", "h36m17")}
    joint["spine_h36m"] = joint["spine3"]
    annotated = joint | {"pelvis": (joint["left_hip"] + joint["right_hip"]) / 2}
    return {name: scipy.sparse.vstack([annotated[j] for j in joints]).tocsr() for name, joints in order.items()}


def _one(vertex: int, vertices: int) -> scipy.sparse.csr_matrix:
    return scipy.sparse.csr_matrix(([1.0], ([0], [vertex])), shape=(1, vertices))


def _padded(rows: scipy.sparse.csr_matrix) -> JointRegressor:
    width = max(1, int(np.diff(rows.indptr).max()))
    index, weight = np.zeros((rows.shape[0], width), np.int64), np.zeros((rows.shape[0], width), np.float32)
    for row in range(rows.shape[0]):
        part = slice(rows.indptr[row], rows.indptr[row + 1])
        index[row, : part.stop - part.start] = rows.indices[part]
        weight[row, : part.stop - part.start] = rows.data[part]
    return JointRegressor(index, weight)


def _regress(regressor: scipy.sparse.csr_matrix, directions_V3K: F32) -> F32:
    flat = regressor @ directions_V3K.reshape(len(directions_V3K), 3 * directions_V3K.shape[2])
    return flat.reshape(regressor.shape[0], *directions_V3K.shape[1:]).astype(np.float32)


def _front_and_back(template_V3: F32, faces: NDArray[np.int64]) -> tuple[F32, NDArray[np.int64]]:
    """Planar texture coordinates: the front in the left half, the back (mirrored, as seen from behind) in the right."""
    low, size = template_V3.min(0), np.ptp(template_V3, axis=0).max()
    x, y = ((template_V3[:, :2] - low[:2]) / max(float(size), 1e-6)).T
    front, back = np.stack([x / 2, y], 1), np.stack([1 - x / 2, y], 1)
    a, b, c = (template_V3[faces[:, k], :2] for k in range(3))
    towards = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0] >= 0
    uv = np.concatenate([front, back]).astype(np.float32)
    return uv, np.where(towards[:, None], faces, faces + len(template_V3))
