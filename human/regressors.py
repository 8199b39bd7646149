"""Joint regressors of published evaluations, from the user's own files: posed SMPL vertices to joints.

``J_regressor_h36m.npy`` (17, 6890) and ``J_regressor_extra.npy`` (9, 6890) come with SPIN's data, ``SMPL_to_J19.pkl``
(19, 6890) with 4D-Humans'; they are under SMPL's licence and never bundled. On the free body, which has another mesh,
the body's own regressors take their place, by joint name; their hips lie elsewhere (docs/bodies.md), so figures through
them compare with each other only. :func:`is_published` tells the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from human.body import BodyModel
from human.body_folders import VARIABLE, search_folders
from human.errors import PosesynError
from human.safe_pickle import resolve, unpickle
from human.skeleton import LSP14, get_skeleton

#: Vertices of SMPL's (and SMPL-H's) mesh.
SMPL_VERTICES = 6890
_FOLDERS = ("", "data", "smpl", "regressors")
SPIN_DATA = "take it from SPIN's data (https://github.com/nkolot/SPIN, fetch_data.sh)"
_HMR2_DATA = "take it from 4D-Humans' data (https://github.com/shubham-goel/4D-Humans, fetch_demo_data.sh)"


@dataclass(frozen=True)
class RegressorFile:
    """A file of rows, and what they are.

    ``joints``: names in the file's order. ``free``: the (skeleton, joint) of :meth:`BodyModel.regress` that stands in
    for each on the free body. ``get_it``: where from.
    """

    file: str
    joints: tuple[str, ...]
    free: tuple[tuple[str, str], ...]
    get_it: str = SPIN_DATA


_H36M = (
    "pelvis", "left_hip", "left_knee", "left_ankle", "right_hip", "right_knee", "right_ankle",
    "spine_h36m", "thorax", "nose", "head_top", "left_shoulder", "left_elbow", "left_wrist",
    "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip
_EXTRA = {
    "right_hip": ("lsp14", "right_hip"),
    "left_hip": ("lsp14", "left_hip"),
    "upper_neck": ("lsp14", "upper_neck"),
    "head_top": ("lsp14", "head_top"),
    "pelvis": ("mpii16", "pelvis"),
    "thorax": ("mpii16", "thorax"),
    "spine_h36m": ("h36m17", "spine_h36m"),
    "jaw_h36m": ("h36m17", "nose"),
    "head_h36m": ("h36m17", "head_top"),
}
# The first 19 of SPIN's 24 joints of data sets (nkolot/SPIN:constants.py): LSP's 14, then these.
_J19 = {joint: ("lsp14", joint) for joint in LSP14.joints}
_J19 |= {joint: _EXTRA[joint] for joint in ("pelvis", "thorax", "spine_h36m", "jaw_h36m", "head_h36m")}
FILES = {
    # Left leg before right, unlike the data set: nkolot/SPIN:constants.py (H36M_TO_J17),
    # Jeff-sjtu/HybrIK:hybrik/datasets/h36m_smpl.py (joints_name_17).
    "h36m": RegressorFile("J_regressor_h36m.npy", _H36M, tuple(("h36m17", joint) for joint in _H36M)),
    # nkolot/SPIN:constants.py, JOINT_MAP 45..53.
    "extra": RegressorFile("J_regressor_extra.npy", tuple(_EXTRA), tuple(_EXTRA.values())),
    # shubham-goel/4D-Humans:hmr2/models/smpl_wrapper.py; TokenHMR and CameraHMR have it too. These are the joints 25 to
    # 43 of their vector of 44, the first 25 of which are BODY_25 from SMPL's own joints and vertices.
    "j19": RegressorFile("SMPL_to_J19.pkl", tuple(_J19), tuple(_J19.values()), _HMR2_DATA),
}
#: Rows of "j19" that 4D-Humans evaluates (joints 25 to 37 and 43 of its 44): LSP's without the head, and H36M's head.
J19_TO_J14 = (*range(13), 18)

#: Rows of "h36m" in the order of SPIN's 17 joints; the first 14 are those that 3DPW and Human3.6M are evaluated on.
H36M_TO_J17 = (6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10, 0, 7, 9)
_SELECTIONS = {"h36m": None, "extra": None, "j19": None, "j17": H36M_TO_J17, "j14": H36M_TO_J17[:14]}
NAMES = tuple(_SELECTIONS)


def joint_names(name: str) -> tuple[str, ...]:
    """The joints that :func:`regress` gives under ``name``, in order.

    "h36m" (17, the file's order), "j17" and "j14" (the same rows in SPIN's order: right ankle to left wrist as in LSP,
    neck, head; then pelvis, spine, jaw), "extra" (9), "j19" (LSP's 14, MPII's pelvis and thorax, H36M's spine, jaw and
    head). In "j14" and "j17" the neck is called thorax, as in "h36m".
    """
    rows = FILES[_file_of(name)].joints
    picked = _SELECTIONS[name]
    return rows if picked is None else tuple(rows[k] for k in picked)


def regress(vertices_BV3: Tensor, name: str, body: BodyModel) -> Tensor:
    """Joints (B, J, 3) called :func:`joint_names`, in the vertices' frame and unit.

    Args:
        vertices_BV3: posed vertices of ``body``.
        name: "h36m", "j14", "j17", "extra" or "j19".
        body: whose vertices they are: SMPL or SMPL-H with the user's regressor file, or the free body with its own.

    Raises:
        PosesynError: no such name, no such file, a file of another shape, or another mesh.
    """
    file = _file_of(name)
    if vertices_BV3.ndim != 3 or vertices_BV3.shape[1:] != body.v_template.shape:
        raise PosesynError(
            f"regress({name!r}) needs vertices of shape (B, {len(body.v_template)}, 3), got "
            f"{tuple(vertices_BV3.shape)}: pass the vertices of the body that is given"
        )
    if is_published(body):
        joints = load_regressor(file, body).to(vertices_BV3) @ vertices_BV3
    else:
        joints = _substitute(vertices_BV3, file, body)
    picked = _SELECTIONS[name]
    return joints if picked is None else joints[:, list(picked)]


def is_published(body: BodyModel) -> bool:
    """Whether ``body`` has SMPL's mesh, so that :func:`regress` uses the published rows; else: its own stand-ins."""
    return len(body.v_template) == SMPL_VERTICES


def load_regressor(name: str, body: BodyModel) -> Tensor:
    """(J, 6890) float32, rows called :func:`joint_names`, of the user's file "h36m", "extra" or "j19".

    Raises:
        PosesynError: no such file (the message says where to get it), a file that does not hold it, or a body with
            another mesh.
    """
    if name not in FILES:
        raise PosesynError(f"no regressor file is called {name!r}; known: {', '.join(FILES)}")
    if not is_published(body):
        raise PosesynError(
            f"{FILES[name].file} belongs to SMPL's mesh of {SMPL_VERTICES} vertices; this body has "
            f"{len(body.v_template)}: convert to SMPL first (human.convert_body)"
        )
    path = find_regressor(name)
    if path is None:
        raise PosesynError(missing_regressor(name))
    return _read(path, len(FILES[name].joints), path.stat().st_mtime_ns).clone()


def missing_regressor(name: str) -> str:
    """What to tell a user who lacks the file of "h36m", "extra" or "j19"."""
    return (
        f"joints of {name!r} need the file {FILES[name].file}, which is in none of "
        f"{', '.join(map(str, search_folders()))} nor in their subfolders {', '.join(filter(None, _FOLDERS))}: "
        f"{FILES[name].get_it}, then put it into {search_folders()[-1]} or name its folder in {VARIABLE}"
    )


def find_regressor(name: str) -> Path | None:
    """The first file of the regressor "h36m", "extra" or "j19" in the folders of ``human.body_folders``, or None."""
    if name not in FILES:
        raise PosesynError(f"no regressor file is called {name!r}; known: {', '.join(FILES)}")
    return find_file(FILES[name].file)


def find_file(name: str) -> Path | None:
    """The first file of that name beside the body models, or in the folders that regressors lie in."""
    for root in search_folders():
        for folder in _FOLDERS:
            if (path := root / folder / name).is_file():
                return path
    return None


@lru_cache(maxsize=8)
def _read(path: Path, joints: int, changed: int) -> Tensor:
    """``changed``: a file that has been replaced is read again."""
    if path.suffix == ".pkl":
        with path.open("rb") as file:
            content = unpickle(file, str(path))
        try:
            rows = np.asarray(resolve(content))
        except (ValueError, TypeError, RecursionError) as error:
            raise PosesynError(f"{path} cannot be read as a joint regressor (a pickled array): get it again") from error
    else:
        try:
            rows = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise PosesynError(f"{path} cannot be read as a joint regressor (.npy of numbers): get it again") from error
    if not isinstance(rows, np.ndarray) or rows.shape != (joints, SMPL_VERTICES) or rows.dtype.kind not in "fiu":
        shape = getattr(rows, "shape", "an archive")
        raise PosesynError(
            f"{path} must hold ({joints}, {SMPL_VERTICES}) numbers, found {shape}: this is another regressor"
        )
    if not np.isfinite(rows).all():
        raise PosesynError(f"{path} holds NaN or infinite numbers: get it again")
    return torch.from_numpy(rows.astype(np.float32))


def _substitute(vertices_BV3: Tensor, file: str, body: BodyModel) -> Tensor:
    """The body's own joints of the same names."""
    if getattr(body, "kind", None) is not None:
        raise PosesynError(
            f"{FILES[file].file} belongs to SMPL's mesh; this {body.kind} body has {len(body.v_template)} vertices: "
            "convert to SMPL first (human.convert_body)"
        )
    wanted = FILES[file].free
    sets = {skeleton: body.regress(vertices_BV3, skeleton) for skeleton in {s for s, _ in wanted}}
    return torch.stack([sets[s][:, get_skeleton(s).index(joint)] for s, joint in wanted], 1)


def _file_of(name: str) -> str:
    if name not in _SELECTIONS:
        raise PosesynError(f"no joint regressor is called {name!r}; known: {', '.join(NAMES)}")
    return name if name in FILES else "h36m"
