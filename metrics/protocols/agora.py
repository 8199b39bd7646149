"""AGORA's protocol: persons are matched by their joints in the picture, and misses and false alarms make errors larger.

B-MPJPE and B-MVE of the evaluator's SMPL-X part, from the middle of the hips, without Procrustes; NMJE and NMVE are
these over the F1 score of finding the persons. Hands and faces are not evaluated here.
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
    note="the evaluator's --onlybfh; children count in MPJPE but not in MVE, whose truth needs the children's template",
)
