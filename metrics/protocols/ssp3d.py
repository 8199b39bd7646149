"""SSP-3D's protocol: body shape alone, in the T-pose, and how well the posed body covers the person."""

from __future__ import annotations

from human.skeleton import SMPL24
from metrics.protocols.base import Joints, protocol

_JOINTS = Joints("kinematic", SMPL24.joints)  # none is compared: the measures are of meshes

OFFICIAL = protocol(
    name="ssp3d/official",
    dataset="ssp3d",
    split="test",
    metrics=("pve_t_sc", "iou"),
    truth=_JOINTS,
    prediction=_JOINTS,
    cluster="person",
    source="akashsengupta1997/SSP-3D:metrics.py; pixelite1201/BEDLAM:eval_ssp.py",
    note="the predicted betas shape the body of the truth's gender, at the truth's size; SMPL-X must be fitted first; "
    "mIOU is in the whole picture by its camera (focal length 5000 px), where the predicted body stands",
)
