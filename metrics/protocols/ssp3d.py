"""SSP-3D's protocol: body shape alone, in the T-pose."""

from __future__ import annotations

from human.skeleton import SMPL24
from metrics.protocols.base import Joints, protocol

_JOINTS = Joints("kinematic", SMPL24.joints)  # none is compared: the measure is of vertices in the T-pose

OFFICIAL = protocol(
    name="ssp3d/official",
    dataset="ssp3d",
    split="test",
    metrics=("pve_t_sc",),
    truth=_JOINTS,
    prediction=_JOINTS,
    source="akashsengupta1997/SSP-3D:metrics.py; pixelite1201/BEDLAM:eval_ssp.py",
    note="the predicted betas shape the body of the truth's gender, at the truth's size; SMPL-X must be fitted first",
)
