"""Protocols of Ski-Pose PTZ: test split, 16 joints (the set's head joint is left out), from the hip."""

from __future__ import annotations

from human.skeleton import SKI17
from metrics.protocols.base import Joints, Published, protocol

J16 = tuple(joint for joint in SKI17.joints if joint != "head_ski")

DIFFUSION_HPC = protocol(
    name="skipose/diffusion-hpc",
    dataset="skipose",
    split="test",
    metrics=("mpjpe", "pa_mpjpe"),
    truth=Joints("labels", J16),
    prediction=Joints("h36m", J16),
    root=("pelvis",),
    cluster="sequence",
    source="ZZWENG/Diffusion_HPC:external/DAPA_release/eval_diffusion.py, "
    "downstream_utils/parse_from_real/parse_data_from_ski.py",
    note="the root counts as a joint with error 0; their parser exchanges the legs of the labels because the "
    "regressor's rows have the left leg first, here joints are paired by name",
    published=(
        Published("Diffusion-HPC (ski.pt)", "mpjpe", 111.67, "README of ZZWENG/Diffusion_HPC"),
        Published("Diffusion-HPC (ski.pt)", "pa_mpjpe", 81.76, "README of ZZWENG/Diffusion_HPC"),
    ),
)
ADAPTPOSE = protocol(
    name="skipose/adaptpose",
    dataset="skipose",
    split="test",
    metrics=("mpjpe", "pa_mpjpe"),
    truth=Joints("labels", J16),
    prediction=Joints("labels", J16),
    root=("pelvis",),
    cluster="sequence",
    source="mgholamikn/AdaptPose:function_adaptpose/data_preparation.py",
    note="for estimators of joints; which 16 joints their preprocessed file holds is not said, Human3.6M's usual 16 "
    "are taken",
)
