"""Protocols of the data that this project is developed with: nobody publishes figures under them."""

from __future__ import annotations

from human.skeleton import LIMB_JOINTS, LSP14
from metrics.protocols.base import Joints, protocol

_LIMBS = Joints("labels", LIMB_JOINTS)
_HIPS = ("left_hip", "right_hip")
_ATHLETE = Joints("labels", LSP14.joints)

protocol(
    name="pose2sim/limbs",
    dataset="pose2sim",
    split="eval",
    metrics=("mpjpe", "pa_mpjpe", "n_mpjpe", "pck3d@150", "auc3d"),
    truth=_LIMBS,
    prediction=_LIMBS,
    root=_HIPS,
    source="docs/data/pose2sim.md",
    note="12 joints triangulated from a 2D detector in four views of one take: a check, not motion capture",
)

for _name, _normaliser, _threshold in (("torso", "torso", 0.2), ("box", "box", 0.1)):
    protocol(
        name=f"lspet/{_name}",
        dataset="lspet",
        split="val",
        metrics=(f"pck@{_threshold:g}",),
        truth=_ATHLETE,
        prediction=_ATHLETE,
        normaliser=_normaliser,
        average="joint",
        source="docs/manual.md: pictures 5001-6000, persons with at least 12 joints labelled",
        note="unlabelled joints never count",
    )
