"""What HumanML3D's own code makes of the motions of ``tests/human/motions.py``.

Writes ``tests/human/reference/motion_features.npz``, with which ``tests/human/test_motion_features_reference.py``
compares ours. The notebook's functions and ``common/`` run as they are, with stand-ins only for names that NumPy and
SciPy have dropped since; none of their code is kept here.

    python -m scripts.msm_reference.motion_features FOLDER

FOLDER is a checkout of EricGuo5513/HumanML3D.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
import torch

from human.motion_features import HUMANML3D, KIT, FeatureLayout
from human.motion_skeleton import bone_lengths
from tests.human.motions import smooth_motion

OUT = Path(__file__).parents[2] / "tests" / "human" / "reference" / "motion_features.npz"
# name: layout, frames, seed. "across" turns through 180 degrees from its start, "kit" and "walk" do not.
MOTIONS: dict[str, tuple[FeatureLayout, int, int]] = {
    "walk": (HUMANML3D, 50, 14),
    "across": (HUMANML3D, 50, 25),
    "kit": (KIT, 30, 12),
}
# As upstream's own scripts set them; KIT's are those of the same authors' motion_process.py.
SETTINGS: dict[str, dict[str, Any]] = {
    "humanml3d": {"l_idx1": 5, "l_idx2": 8, "fid_r": [8, 11], "fid_l": [7, 10], "face_joint_indx": [2, 1, 17, 16]},
    "kit": {"l_idx1": 17, "l_idx2": 18, "fid_r": [14, 15], "fid_l": [19, 20], "face_joint_indx": [11, 16, 5, 8]},
}
THRESHOLDS = {"humanml3d": 0.002, "kit": 0.05}


def notebook(folder: Path, layout: FeatureLayout) -> dict[str, Any]:
    """The functions of motion_representation.ipynb with the globals that its last cell sets for a data set."""
    vars(np)["float"] = float
    filters = types.ModuleType("scipy.ndimage.filters")
    vars(filters)["gaussian_filter1d"] = scipy.ndimage.gaussian_filter1d
    sys.modules["scipy.ndimage.filters"] = filters
    sys.path.insert(0, str(folder))
    space: dict[str, Any] = {"__name__": "notebook"}
    for cell in json.loads((folder / "motion_representation.ipynb").read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and ("def " in source or "import" in source):
            exec(source.replace("from tqdm import tqdm", ""), space)
    prefix = "kit" if layout is KIT else "t2m"
    space |= SETTINGS[layout.name]
    space["r_hip"], space["l_hip"], *_ = SETTINGS[layout.name]["face_joint_indx"]
    space["n_raw_offsets"] = torch.from_numpy(space[f"{prefix}_raw_offsets"])
    space["kinematic_chain"] = space[f"{prefix}_kinematic_chain"]
    return space


def main(folder: Path) -> None:
    arrays: dict[str, Any] = {}
    for name, (layout, frames, seed) in MOTIONS.items():
        space = notebook(folder, layout)
        joints = smooth_motion(layout, batch=1, frames=frames, seed=seed)[0]
        other = smooth_motion(layout, batch=1, frames=1, seed=seed + 1)[0, 0]
        skeleton = space["Skeleton"](space["n_raw_offsets"], space["kinematic_chain"], "cpu")
        space["tgt_offsets"] = skeleton.get_offsets_joints(other)
        uniform = space["uniform_skeleton"](joints.numpy().copy(), space["tgt_offsets"])
        features, _, _, _ = space["process_file"](joints.numpy().copy(), THRESHOLDS[layout.name])
        arrays |= {
            f"{name}_joints": joints.numpy(),
            f"{name}_lengths": bone_lengths(other, layout).numpy(),
            f"{name}_uniform": uniform[:3].astype(np.float32),
            f"{name}_features": features.astype(np.float32),
        }
    OUT.parent.mkdir(exist_ok=True)
    np.savez_compressed(OUT, **arrays)
    print(f"{OUT}: {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
