"""Which of six parts of the body each pixel of a drawing shows: head, trunk, arms, legs, as UPi-S1h labels pictures
(Lassner et al., CVPR 2017; classner/up:up_tools/model.py, six_region_groups: the neck and the shoulders are trunk).

The free body's parts are those of the joint that the surface follows most. On SMPL's mesh they are SPIN's own:
``vertex_texture.npy`` and ``cube_parts.npy`` of its data, which are the user's files like the regressors and never
bundled: a colour is interpolated in each triangle as neural_renderer does, and looked up in a table.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from human.body import BodyModel
from human.body_folders import search_folders
from human.errors import PosesynError
from human.raster import Fragments
from human.regressors import SPIN_DATA, find_file, is_published
from human.skeleton import SMPL24

PARTS = ("head", "trunk", "right_arm", "left_arm", "right_leg", "left_leg")
_FILES = ("vertex_texture.npy", "cube_parts.npy")


def _part_of(joint: str) -> int:
    """1 to 6."""
    side, _, name = joint.partition("_")
    if joint == "head":
        return 1
    limb = {"shoulder": "arm", "elbow": "arm", "wrist": "arm", "hand": "arm"}
    limb |= {"hip": "leg", "knee": "leg", "ankle": "leg", "foot": "leg"}
    return 1 + PARTS.index(f"{side}_{limb[name]}") if name in limb else 2


#: Part (1 to 6) of each of SMPL's 24 joints.
PART_OF_JOINT: tuple[int, ...] = tuple(_part_of(joint) for joint in SMPL24.joints)


def draw_parts(fragments: Fragments, body: BodyModel) -> Tensor:
    """(B,H,W) uint8: 0 where nothing is, else 1 + the place in :data:`PARTS`.

    Raises:
        PosesynError: the body has SMPL's mesh and SPIN's files are not there (which, where to get them), or another
            licensed mesh.
    """
    if is_published(body):
        return _spin_parts(fragments)
    if getattr(body, "kind", None) is not None:
        raise PosesynError(
            f"no division of this {body.kind} body into six parts is known: convert to SMPL first (human.convert_body)"
        )
    corner = fragments.bary.argmax(-1, keepdim=True)
    vertex = body.faces.long()[fragments.face.clamp_min(0).long()].gather(-1, corner)[..., 0]
    part = torch.tensor(PART_OF_JOINT, dtype=torch.uint8)[body.part.cpu().long()]
    return torch.where(fragments.mask, part[vertex], 0)


def _spin_parts(fragments: Fragments) -> Tensor:
    """nkolot/SPIN:utils/part_utils.py; the texture of a triangle as in daniilidis-group/neural_renderer."""
    texture_F, table = _spin_files()  # (F,T,T,T,3) and (N,N,N)
    if int(fragments.face.max()) >= len(texture_F):
        raise PosesynError(f"{_FILES[0]} has {len(texture_F)} triangles, this mesh has more: get it again")
    steps = texture_F.shape[1]
    shown = fragments.mask
    corners = texture_F[fragments.face[shown].long()]
    at = (fragments.bary[shown] * (steps - 1)).clamp(0, steps - 1 - 1e-3)
    low = at.floor()
    share = at - low
    rows, first = torch.arange(len(at)), low.long()
    colour = torch.zeros(len(at), 3)
    for bits in range(8):
        up = torch.tensor([bits >> k & 1 for k in range(3)])
        weight = torch.where(up.bool(), share, 1 - share).prod(1)
        i, j, k = (first + up).unbind(1)
        colour += weight[:, None] * corners[rows, i, j, k]
    index = (100 * colour).floor().long().clamp(0, len(table) - 1)
    out = torch.zeros(shown.shape, dtype=torch.uint8)
    out[shown] = table[tuple(index.unbind(1))].to(torch.uint8)
    return out


def _spin_files() -> tuple[Tensor, Tensor]:
    paths = [find_file(name) for name in _FILES]
    if missing := [name for name, path in zip(_FILES, paths, strict=True) if path is None]:
        raise PosesynError(
            f"the parts of SMPL's mesh need {' and '.join(missing)}, which is in none of "
            f"{', '.join(map(str, search_folders()))}: {SPIN_DATA}"
        )
    texture, table = (_read(path, path.stat().st_mtime_ns) for path in paths if path is not None)
    if texture.ndim == 6:
        texture = texture[0]
    if texture.ndim != 5 or texture.shape[-1] != 3 or len(set(texture.shape[1:4])) != 1 or texture.shape[1] < 2:
        raise PosesynError(f"{paths[0]} has the shape {tuple(texture.shape)}, not (1, F, T, T, T, 3): get it again")
    if table.ndim != 3 or len(set(table.shape)) != 1 or not len(table) or table.min() < 0 or table.max() > len(PARTS):
        raise PosesynError(f"{paths[1]} is no cube of numbers from 0 to {len(PARTS)}: get it again")
    return texture, table


@lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> Tensor:
    """float32; ``changed``: a file that has been replaced is read again."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PosesynError(f"{path} cannot be read as .npy of numbers: get it again") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub" or not np.isfinite(values).all():
        raise PosesynError(f"{path} does not hold finite numbers: get it again")
    return torch.from_numpy(values.astype(np.float32))
