"""Protocols of HuMMan. No published evaluation says its joints: the 24 of SMPL and its mesh are taken."""

from __future__ import annotations

from human.skeleton import SMPL24
from metrics.protocols.base import Joints, protocol

SMPL = protocol(
    name="humman/smpl24",
    dataset="humman",
    split="test",
    metrics=("mpjpe", "pa_mpjpe", "pve"),
    truth=Joints("kinematic", SMPL24.joints),
    prediction=Joints("kinematic", SMPL24.joints),
    root=("pelvis",),
    cluster="sequence",
    source="smplbody/hmr-benchmarks reports MPJPE and PA-MPJPE; caizhongang/humman_toolbox has no evaluation",
    note="figures of papers may be of other joints",
)
