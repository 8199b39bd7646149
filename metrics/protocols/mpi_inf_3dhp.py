"""Protocols of MPI-INF-3DHP: valid frames of the test set, the universal skeleton (univ_annot3), the pelvis as root."""

from __future__ import annotations

from typing import Any

from human.skeleton import DHP17
from metrics.protocols.base import Joints, Published, protocol

#: The joints that 3DPCK and AUC are taken on: without pelvis, spine and head.
FIRST14 = DHP17.joints[:14]
#: What SPIN's regressed joints (``human.regressors``, "h36m") are compared with.
SPIN_PAIRS = {"spine_3dhp": "spine_h36m", "head_3dhp": "nose"}
SCENES = {"green-screen": (1, 2), "no-green-screen": (3, 4), "outdoor": (5, 6)}  # numbers of TS


def _regressed(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(SPIN_PAIRS.get(name, name) for name in names)


_BASE: dict[str, Any] = {
    "dataset": "mpi_inf_3dhp",
    "split": "test",
    "root": ("pelvis",),
    "settings": {"labels3d": "universal3d"},
    "cluster": "sequence",
}
_SHARES: dict[str, Any] = {
    "metrics": ("pck3d@150", "auc3d"),
    "truth": Joints("labels", FIRST14),
    "prediction": Joints("labels", FIRST14),
    "source": "isarandi/posepile:src/posepile/ds/tdhp/eval.py, after mpii_compute_3d_pck.m of the test set",
}

OFFICIAL = protocol(name="mpi_inf_3dhp/official", **_SHARES, **_BASE)
SCENE = [
    protocol(name=f"mpi_inf_3dhp/official-{name}", keep=(("sequence", "in", sets),), **_SHARES, **_BASE)
    for name, sets in SCENES.items()
]
OFFICIAL_17 = protocol(
    name="mpi_inf_3dhp/official-17",
    metrics=("mpjpe", "pa_mpjpe"),
    truth=Joints("labels", DHP17.joints),
    prediction=Joints("labels", DHP17.joints),
    source=_SHARES["source"],
    note="the same evaluation's joint error, which counts 17 joints where its 3DPCK and AUC count 14",
    **_BASE,
)
ALIGNED = protocol(
    name="mpi_inf_3dhp/official-pa",
    **{**_SHARES, "metrics": ("pa_pck3d@150", "pa_auc3d")},
    **{**_BASE, "settings": {**_BASE["settings"], "fit": DHP17.joints}},
    note="after Procrustes with scale, fitted on 17 joints",
)
MESH = protocol(
    name="mpi_inf_3dhp/official-mesh",
    **{**_SHARES, "prediction": Joints("h36m", _regressed(FIRST14))},
    **_BASE,
    note="3DPCK and AUC of a mesh: its joints by Human3.6M's regressor, as SPIN hands them to the official code",
)
SPIN = protocol(
    name="mpi_inf_3dhp/spin",
    metrics=("mpjpe", "pa_mpjpe"),
    truth=Joints("labels", DHP17.joints),
    prediction=Joints("h36m", _regressed(DHP17.joints)),
    keep=(("native2d", "least", 17),),
    source="nkolot/SPIN:eval.py, datasets/preprocess/mpi_inf_3dhp.py",
    note="only frames with all 17 joints inside of the picture; the labels' spine and head are compared with "
    "Human3.6M's spine and jaw",
    published=(
        Published("SPIN", "pa_mpjpe", 67.5, "README of mkocabas/VIBE"),
        Published("Temporal HMR", "pa_mpjpe", 89.8, "README of mkocabas/VIBE"),
        Published("VIBE", "pa_mpjpe", 63.4, "README of mkocabas/VIBE"),
    ),
    **_BASE,
)
