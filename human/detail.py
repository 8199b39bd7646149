"""The free body with fewer triangles, for pictures in which a person is a few hundred pixels tall.

Made by scripts/bake_free_detail.py. The vertices are some of the body's own, so whatever is known of those (shape,
skinning, surface coordinates) holds for these.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from human.errors import PosesynError

DETAIL_PATH = Path(__file__).parent / "data" / "free_detail.npz"


@dataclass(frozen=True)
class Detail:
    """A coarser mesh over some of a body's vertices.

    * ``vertices`` (N,) int64: which of the body's, neighbours close together
    * ``faces`` (F,3) int64 into ``vertices``, counter-clockwise seen from outside
    * ``faces_uv`` (F,3) int64: the corners' texture coordinates, as ``BodyModel.faces_uv``
    * ``bind_face`` (V,) int64 and ``bind_bary`` (V,3) float32 by shell: the nearest point of this surface at rest
    """

    vertices: NDArray[np.int64]
    faces: NDArray[np.int64]
    faces_uv: NDArray[np.int64]
    bind_face: dict[str, NDArray[np.int64]]
    bind_bary: dict[str, NDArray[np.float32]]


def load_detail(path: Path = DETAIL_PATH) -> Detail:
    """The packaged one, for the free body and its wardrobe.

    Raises:
        PosesynError: the file is absent or holds something else.
    """
    if not path.is_file():
        raise PosesynError(
            f"no coarse body at {path}: reinstall the package, or make it with scripts/bake_free_detail.py"
        )
    with np.load(path) as archive:
        data = {key: archive[key] for key in archive.files}
    missing = {"vertices", "faces", "faces_uv"} - set(data)
    if missing:
        raise PosesynError(f"{path} has no {min(missing)!r}: make it again with scripts/bake_free_detail.py")
    shells = [key.removesuffix("_bind_face") for key in data if key.endswith("_bind_face")]
    return Detail(
        data["vertices"].astype(np.int64),
        data["faces"].astype(np.int64),
        data["faces_uv"].astype(np.int64),
        {name: data[f"{name}_bind_face"].astype(np.int64) for name in shells},
        {name: data[f"{name}_bind_bary"].astype(np.float32) for name in shells},
    )
