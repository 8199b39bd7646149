"""RICH's protocols: both meshes are carried to SMPL's, whose regressor gives 24 joints, the hips' middle the origin.

The truth is SMPL-X of the annotated gender with its hands at rest. SMPL-X predictions are carried over as well.
"""

from __future__ import annotations

from human.skeleton import SMPL24
from metrics.protocols.base import Joints, protocol

_HIPS = ("left_hip", "right_hip")

BEDLAM = protocol(
    name="rich/bedlam",
    dataset="rich",
    split="test",
    metrics=("mpjpe", "pa_mpjpe", "pve"),
    truth=Joints("posed24", SMPL24.joints),
    prediction=Joints("posed24", SMPL24.joints),
    root=_HIPS,
    truth_as="smpl",
    cluster="sequence",
    source="pixelite1201/BEDLAM:train/dataset/dataset.py, train/core/hmr_trainer.py",
    note="the truth's joints by the regressor of the SMPL body of its gender; BEDLAM's list of pictures is its own",
)

WHAM = protocol(
    name="rich/wham",
    dataset="rich",
    split="test",
    metrics=("mpjpe", "pa_mpjpe", "pve", "accel"),
    settings={"fps": 30, "margin": 1},
    truth=Joints("neutral24", SMPL24.joints),
    prediction=Joints("neutral24", SMPL24.joints),
    root=_HIPS,
    truth_as="smpl",
    keep=(("subjects", "==", 1),),
    cluster="sequence",
    source="yohanshin/WHAM:lib/eval/evaluate_rich.py; zju3dv/GVHMR:hmr4d/dataset/rich/rich_utils.py",
    note="the neutral regressor on both meshes; only sequences of a single subject",
)

CAMERAHMR = protocol(
    name="rich/camerahmr",
    dataset="rich",
    split="test",
    metrics=("mpjpe", "pa_mpjpe", "pve"),
    truth=Joints("neutral24", SMPL24.joints),
    prediction=Joints("neutral24", SMPL24.joints),
    root=_HIPS,
    truth_as="smpl",
    cluster="sequence",
    source="pixelite1201/CameraHMR:core/camerahmr_trainer_smpl.py, core/datasets/dataset_val.py",
    note="the neutral regressor on both meshes; all sequences",
)
