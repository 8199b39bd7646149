"""Where a regression of body parameters starts: a mean pose, shape and camera.

The originals start from SMPL's mean parameters (``smpl_mean_params.npz``, which comes with SPIN's data under SMPL's
licence). Without it the start is a person who stands upright, arms down, facing the camera.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from human.body import BodyModel
from human.body_folders import VARIABLE, search_folders
from human.errors import PosesynError
from lightning_modules.upright import upright_sixd

FILE = "smpl_mean_params.npz"
_FOLDERS = ("", "smpl", "data")
_SHAPES = {"pose": (144,), "shape": (10,), "cam": (3,)}


class MeanParameters(NamedTuple):
    """``pose`` (144,) 24 rotations in 6D, ``shape`` (10,), weak-perspective ``camera`` (3,)."""

    pose: Tensor
    shape: Tensor
    camera: Tensor


def load_mean_parameters(source: str, body: BodyModel) -> MeanParameters:
    """The start called ``source``.

    Args:
        source: "upright"; "smpl", the user's licensed file, found in the folders of ``human.body_folders``; or the path
            of such a file.
        body: what "upright" is framed for.

    Raises:
        PosesynError: no such file, or it is not laid out as SPIN's.
    """
    if source == "upright":
        return upright_parameters(body)
    return read_mean_parameters(_find() if source == "smpl" else Path(source).expanduser())


def upright_parameters(body: BodyModel) -> MeanParameters:
    """Upright, mean shape, most of the crop filled. The camera is that of the body's origin, not of its pelvis."""
    camera = torch.tensor([0.9, 0.0, 0.2])
    camera[1:] -= body.J_template[0, :2].cpu()
    return MeanParameters(upright_sixd().flatten(), torch.zeros(10), camera)


def read_mean_parameters(path: Path) -> MeanParameters:
    """SPIN's ``smpl_mean_params.npz``: ``pose`` (144,), ``shape`` (10,), ``cam`` (3,)."""
    if not path.is_file():
        raise PosesynError(f"mean parameters not found: {path.absolute()}; give a file, 'smpl' or 'upright'")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name], np.float32) for name in _SHAPES}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise PosesynError(f"{path} cannot be read as SPIN's mean parameters (npz with pose, shape, cam)") from error
    for name, shape in _SHAPES.items():
        if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
            raise PosesynError(f"{path}: {name} must be {shape[0]} finite numbers, got shape {arrays[name].shape}")
    return MeanParameters(*(torch.from_numpy(arrays[name]) for name in _SHAPES))


def _find() -> Path:
    for root in search_folders():
        for folder in _FOLDERS:
            if (path := root / folder / FILE).is_file():
                return path
    raise PosesynError(
        f"mean_params='smpl' needs the file {FILE}, which is in none of {', '.join(map(str, search_folders()))} nor in "
        f"their subfolders smpl and data: take it from SPIN's data (https://github.com/nkolot/SPIN, fetch_data.sh), "
        f"then put it into {search_folders()[-1]} or name its folder in {VARIABLE}; or start 'upright'"
    )
