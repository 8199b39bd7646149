"""LSP and the whole of LSPET: athletes, 14 joints, 2D."""

from __future__ import annotations

from human.skeleton import LIMB_JOINTS, LSP14
from metrics.protocols.base import Joints, protocol

_ALL = Joints("labels", LSP14.joints)

protocol(
    name="lsp/pck-torso",
    dataset="lsp",
    split="test",
    metrics=("pck@0.2",),
    truth=_ALL,
    prediction=_ALL,
    normaliser="torso",
    average="joint",
    source="Yang & Ramanan's PCK with the torso (left shoulder to right hip) as unit, the norm of 2D work on LSP",
    note="person-centric labels: left is the athlete's left; occluded joints count",
)

protocol(
    name="lsp/spin",
    dataset="lsp",
    split="test",
    options={"masks": True},
    metrics=("fg_accuracy", "fg_f1", "parts_accuracy", "parts_f1"),
    truth=Joints("labels", LIMB_JOINTS),
    prediction=Joints("kinematic", LIMB_JOINTS),
    average="label",
    settings={"scale": 1.2, "side": 224, "focal": 5000},
    source="nkolot/SPIN:eval.py, utils/part_utils.py, utils/imutils.py (uncrop), datasets/preprocess/lsp_dataset.py",
    note="the small pictures with UPi-S1h's masks; drawn in SPIN's crop of 224 px with focal length 5000 and enlarged; "
    "all pixels of all pictures are one pool, F1 is the mean over background and parts; SMPL's parts are those of "
    "SPIN's vertex_texture.npy, the free body's its own: such figures compare with each other only",
)

protocol(
    name="lspet/hmr2",
    dataset="hr_lspet",
    split="hmr2",
    metrics=("pck@0.05", "pck@0.1"),
    truth=_ALL,
    prediction=_ALL,
    normaliser="box",
    normaliser_scale=1.2,
    average="joint",
    source="shubham-goel/4D-Humans:eval.py, hmr2/utils/pose_utils.py, hmr2/datasets/preprocess/lspet_to_npz.py",
    note="LSP-EXTENDED there: all 10,000 persons, all 14 joints, also those that nobody labelled and lie anywhere",
)
