"""Children in SMPL's and SMPL-X's bodies: a shape direction from the adults' template to an infant's, as in AGORA.

``smpl_kid_template.npy`` and ``smplx_kid_template.npy`` (vertices of SMIL's infant) are downloads of
https://agora.is.tue.mpg.de and the user's own; smplx takes them as ``kid_template_path`` with ``age="kid"``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from human.body_folders import search_folders
from human.errors import PosesynError
from human.smpl_files import SmplFile


def find_kid_template(kind: str) -> Path | None:
    """The file for "smpl" or "smplx" beside the body models, or None."""
    name = f"{kind}_kid_template.npy"
    places = (root / place for root in search_folders() for place in (name, f"{kind}/{name}"))
    return next((path for path in places if path.is_file()), None)


def missing_kid_template(kind: str) -> str:
    """What to tell a user who lacks it."""
    return (
        f"children need {kind}_kid_template.npy, which is in none of {', '.join(map(str, search_folders()))} nor in "
        f"their subfolder {kind}: get it from https://agora.is.tue.mpg.de (registration), beside the body models"
    )


def with_kid(file: SmplFile, num_betas: int) -> SmplFile:
    """``file`` with ``num_betas`` + 1 shape directions, the last from its template to the centred child's.

    Raises:
        PosesynError: no template file, or one of another mesh.
    """
    path = find_kid_template(file.kind)
    if path is None:
        raise PosesynError(missing_kid_template(file.kind))
    try:
        child = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PosesynError(f"{path} cannot be read as .npy of numbers: get it again") from error
    shape = getattr(child, "shape", None)
    if shape != file.v_template.shape or child.dtype.kind != "f" or not np.isfinite(child).all():
        raise PosesynError(f"{path} must hold {file.v_template.shape} finite numbers: it is of another mesh")
    direction = (child - child.mean(0) - file.v_template)[:, :, None].astype(file.shapedirs.dtype)
    return replace(file, shapedirs=np.concatenate([file.shapedirs[:, :, :num_betas], direction], 2))
