"""AGORA's protocols: people are matched by their joints in the picture; misses and false alarms make errors larger.

MPJPE and MVE of the evaluator's SMPL part, and of its SMPL-X part those of the body (B-MPJPE, B-MVE), from the middle
of the hips, without Procrustes; NMJE and NMVE are these over the F1 score of finding the persons. Hands and faces are
not evaluated here.
"""

from __future__ import annotations

from human.skeleton import SMPL24, SMPLX55
from metrics.protocols.base import Joints, protocol

_BODY = SMPL24.joints[:22]

AGORA_SMPLX = protocol(
    name="agora/smplx",
    dataset="agora",
    split="validation",
    options={"everyone": True},
    metrics=("mpjpe", "mve", "nmje", "nmve", "f1", "precision", "recall"),
    truth=Joints("labels", _BODY),
    prediction=Joints("kinematic", _BODY),
    root=("left_hip", "right_hip"),
    keep=(("group", "==", 1),),
    matching="agora",
    settings={"match_joints": SMPLX55.joints[:24]},
    source="pixelite1201/agora_evaluation:README.md, agora_evaluation/calculate_v2v_error.py, compute_average_error.py",
    note="the evaluator's --onlybfh; MVE needs smplx_kid_template.npy where there are children",
)

AGORA_SMPL = protocol(
    name="agora/smpl",
    dataset="agora",
    split="validation",
    options={"everyone": True, "body": "smpl"},
    metrics=AGORA_SMPLX.metrics,
    truth=Joints("labels", SMPL24.joints),
    prediction=Joints("kinematic", SMPL24.joints),
    root=("left_hip", "right_hip"),
    matching="agora",
    settings={"match_joints": SMPL24.joints},
    source=AGORA_SMPLX.source,
    note="--modeltype SMPL: 24 joints, all pictures, every body neutral; MVE needs smpl_kid_template.npy for children",
)
