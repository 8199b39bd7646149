"""SMART as Diffusion-HPC measures it (Table 3): the share of joints within a tenth of its crop, picture by picture."""

from __future__ import annotations

from human.skeleton import LIMB_JOINTS
from metrics.protocols.base import Joints, Published, protocol

_SOURCE = "ZZWENG/Diffusion_HPC"
_SEEN = Joints("labels", (*LIMB_JOINTS, "nose"))
_FACE = Joints("labels", (*_SEEN.names, "left_eye", "right_eye", "left_ear", "right_ear"))
_THEIRS = {
    "polevault": 77.70425618737436,
    "vault": 66.91005496561053,
    "diving": 79.27329921107761,
    "unevenbars": 44.143125469194544,
    "balancebeam": 85.0919520428191,
    "highjump": 78.13735096862305,
}

for _sport, _value in _THEIRS.items():
    _joints = _FACE if _sport == "diving" else _SEEN
    protocol(
        name=f"smart/diffusion-hpc-{_sport}",
        dataset="smart",
        split=f"{_sport}_test",
        metrics=("pck@0.1",),
        truth=_joints,
        prediction=_joints,
        states=(0, 1) if _sport == "diving" else (0,),
        normaliser="crop",
        average="person",
        cluster="sequence",
        source=f"{_SOURCE}:external/DAPA_release/eval_diffusion.py, "
        "downstream_utils/parse_from_real/parse_data_from_sportscap.py",
        published=(
            Published("Diffusion-HPC (released checkpoint)", "pck@0.1", round(_value, 2), f"{_SOURCE}:README.md"),
        ),
        note="22.4 px of its 224-pixel crop, where it rounds labels to whole pixels; neck, mid hip, feet never count",
    )
