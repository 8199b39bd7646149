"""Protocols of CMU Panoptic: four multi-person sequences, cameras 16 and 30 (Zanfir et al. 2018, Jiang et al. 2020)."""

from __future__ import annotations

from typing import Any

from human.skeleton import PANOPTIC19
from metrics.protocols.base import Joints, protocol

#: Human3.6M's joints by the names of the set; spine, jaw and head are not among its labels.
_PAIRS = {"pelvis": "mid_hip", "thorax": "mid_shoulders"}
REGRESSED = (
    "pelvis", "left_hip", "left_knee", "left_ankle", "right_hip", "right_knee", "right_ankle", "thorax",
    "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip
LABELLED = tuple(_PAIRS.get(name, name) for name in REGRESSED)
#: Numbers of the column "group" (``datamodules.readers.panoptic``).
ACTIVITIES = {"haggling": 1, "mafia": 2, "ultimatum": 3, "pizza": 4}

_BASE: dict[str, Any] = {
    "dataset": "panoptic",
    "split": "multiperson",
    "options": {"cameras": [16, 30]},
    "metrics": ("mpjpe",),
    "root": ("mid_hip",),
    "cluster": "picture",
    "matching": "nearest",
    "source": "JiangWenPL/multiperson:mmdetection/mmdet/core/utils/eval_utils.py, "
    "misc/preprocess_datasets/full/panoptic.py",
}
_MESH: dict[str, Any] = {
    **_BASE,
    "truth": Joints("labels", LABELLED),
    "prediction": Joints("h36m", REGRESSED),
    "prediction_root": ("pelvis",),
    "note": "14 labelled joints; the original counts 17, taking spine, jaw and head from SMPL fits that are not part "
    "of the set, and picks 9,600 frames by lists (the reader's `frames`); predictions without the set's ids are "
    "matched as there: each person has the nearest of their picture",
}

MULTIPERSON = protocol(name="panoptic/multiperson", **_MESH)
ACTIVITY = [
    protocol(name=f"panoptic/multiperson-{name}", keep=(("group", "==", number),), **_MESH)
    for name, number in ACTIVITIES.items()
]
JOINTS = protocol(
    name="panoptic/joints",
    truth=Joints("labels", PANOPTIC19.joints),
    prediction=Joints("labels", PANOPTIC19.joints),
    note="for estimators of the set's own 19 joints; unlabelled ones do not count",
    **{**_BASE, "metrics": ("mpjpe", "pa_mpjpe")},
)
