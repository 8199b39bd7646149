"""EMDB's protocols. All compare SMPL's 24 joints from the middle of the hips, but not the same 24 joints.

"Joints" are the body's kinematic ones for EMDB's own evaluator, and SMPL's regressor on the posed vertices for those
who follow WHAM; the two lie apart wherever the pose bends the skin.
"""

from __future__ import annotations

from human.skeleton import SMPL24
from metrics.functional.world import FOOT_VERTICES
from metrics.protocols.base import Joints, Published, protocol

_HIPS = ("left_hip", "right_hip")
_TOKENHMR = "saidwivedi/TokenHMR:README.md"

OFFICIAL = protocol(
    name="emdb/1",
    dataset="emdb",
    split="emdb1",
    metrics=("mpjpe", "pa_mpjpe", "pve", "pa_pve", "mpjae", "pa_mpjae"),
    truth=Joints("kinematic", SMPL24.joints),
    prediction=Joints("kinematic", SMPL24.joints),
    root=_HIPS,
    cluster="sequence",
    source="eth-ait/emdb:evaluation_metrics.py, evaluation_engine.py",
    note="PVE is called MVE there; PA-PVE moves the vertices by the joints' transform",
)

WHAM = protocol(
    name="emdb/wham",
    dataset="emdb",
    split="emdb1",
    metrics=("mpjpe", "pa_mpjpe", "pve", "accel"),
    settings={"fps": 30, "margin": 1},
    truth=Joints("posed24", SMPL24.joints),
    prediction=Joints("posed24", SMPL24.joints),
    root=_HIPS,
    cluster="sequence",
    source="yohanshin/WHAM:lib/eval/evaluate_emdb.py",
    note="each body's own regressor: that of the annotated gender for the truth, the neutral one for the prediction",
)

CAMERAHMR = protocol(
    name="emdb/camerahmr",
    dataset="emdb",
    split="emdb1",
    metrics=("mpjpe", "pa_mpjpe", "pve"),
    truth=Joints("neutral24", SMPL24.joints),
    prediction=Joints("neutral24", SMPL24.joints),
    root=_HIPS,
    cluster="sequence",
    source="pixelite1201/CameraHMR:core/camerahmr_trainer_smpl.py; "
    "saidwivedi/TokenHMR:tokenhmr/lib/utils/pose_utils.py, tokenhmr/eval.py; "
    "zju3dv/GVHMR:hmr4d/model/gvhmr/callbacks/metric_emdb.py",
    note="the neutral body's regressor on both meshes",
    published=(
        Published("TokenHMR", "mpjpe", 89.5, _TOKENHMR),
        Published("TokenHMR", "pa_mpjpe", 55.6, _TOKENHMR),
        Published("TokenHMR", "pve", 108.5, _TOKENHMR),
        Published("TokenHMR (BEDLAM only)", "mpjpe", 89.6, _TOKENHMR),
        Published("TokenHMR (BEDLAM only)", "pa_mpjpe", 49.8, _TOKENHMR),
        Published("TokenHMR (BEDLAM only)", "pve", 106.2, _TOKENHMR),
    ),
)

# -- EMDB 2: the way through the world -------------------------------------------------------------------------------
_WORLD = "yohanshin/WHAM:lib/eval/evaluate_emdb.py, lib/eval/eval_utils.py"
_OWN_WORLD = (
    "pose and transl of the predictions are in a world of the method's own; frames that EMDB calls bad are left out "
    "first, which joins what lies before and behind them"
)

WORLD = protocol(
    name="emdb/2",
    dataset="emdb",
    split="emdb2",
    metrics=("w_mpjpe", "wa_mpjpe"),
    truth=Joints("posed24", SMPL24.joints),
    prediction=Joints("posed24", SMPL24.joints),
    cluster="sequence",
    source=_WORLD,
    note=_OWN_WORLD,
)

WORLD_PATH = protocol(
    name="emdb/2-path",
    dataset="emdb",
    split="emdb2",
    metrics=("rte", "jitter"),
    truth=Joints("kinematic", SMPL24.joints),
    prediction=Joints("kinematic", SMPL24.joints),
    cluster="sequence",
    source=_WORLD,
    note=_OWN_WORLD,
)

WORLD_FEET = protocol(
    name="emdb/2-feet",
    dataset="emdb",
    split="emdb2",
    metrics=("foot_sliding",),
    truth=Joints("vertices", tuple(map(str, FOOT_VERTICES))),
    prediction=Joints("vertices", tuple(map(str, FOOT_VERTICES))),
    cluster="sequence",
    source=_WORLD,
    note=_OWN_WORLD,
)
