"""BEDLAM's protocol: validation on a part of its training scenes. The test set is scored by a server alone.

The 24 joints are the first of SMPL-X's own, jaw and left eyeball among them (the code takes as many as SMPL has).
Hands are at rest on both sides.
"""

from __future__ import annotations

from human.skeleton import SMPLX55
from metrics.protocols.base import Joints, protocol

_JOINTS = Joints("smplx", SMPLX55.joints[:24])

BEDLAM_VALIDATION = protocol(
    name="bedlam/validation",
    dataset="bedlam",
    split="validation",
    metrics=("mpjpe", "pa_mpjpe", "pve"),
    truth=_JOINTS,
    prediction=_JOINTS,
    root=("left_hip", "right_hip"),
    truth_body="neutral",
    cluster="sequence",
    source="pixelite1201/BEDLAM:train/core/hmr_trainer.py, train/dataset/dataset.py",
    note="PVE over all of SMPL-X's 10,475 vertices",
)
