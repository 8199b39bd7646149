"""3DPW's protocols. All but the challenge compare 14 joints regressed from both meshes on the test split."""

from __future__ import annotations

from human.regressors import J19_TO_J14, joint_names
from human.skeleton import SMPL24
from metrics.protocols.base import Joints, Published, protocol

_J14 = Joints("h36m", joint_names("j14"))
_HIPS = ("left_hip", "right_hip")
_DETECTED = (("detected", ">=", 1),)  # SPIN's box is that of the detected joints, the challenge skips the others too
_VIBE, _PARE = "mkocabas/VIBE:README.md", "mkocabas/PARE:README.md"
_CLIFF = "huawei-noah/noah-research:CLIFF/README.MD (names of the checkpoints)"
_HMR2 = (
    "Goel et al., ICCV 2023, as listed at https://cs.paperswithcode.com/paper/humans-in-4d-reconstructing-and-tracking"
)
_TOKENHMR, _HYBRIK = "saidwivedi/TokenHMR:README.md", "Jeff-sjtu/HybrIK:README.md"

SPIN = protocol(
    name="3dpw/spin",
    dataset="3dpw",
    split="test",
    metrics=("mpjpe", "pa_mpjpe", "pve"),
    truth=_J14,
    prediction=_J14,
    root=("pelvis",),
    keep=_DETECTED,
    cluster="sequence",
    source="nkolot/SPIN:eval.py; pixelite1201/BEDLAM:train/core/hmr_trainer.py; "
    "pixelite1201/CameraHMR:core/camerahmr_trainer_smpl.py",
    note="HMR 2.0 and TokenHMR name the same joints and root in their vector of 44, but regress them by their own "
    "SMPL_to_J19.pkl: 3dpw/hmr2",
    published=(
        Published("SPIN", "pa_mpjpe", 59.2, _VIBE),
        Published("PARE", "mpjpe", 82.0, _PARE),
        Published("PARE", "pa_mpjpe", 50.9, _PARE),
        Published("PARE", "pve", 97.9, _PARE),
        Published("PARE (3DPW in training)", "mpjpe", 74.5, _PARE),
        Published("PARE (3DPW in training)", "pa_mpjpe", 46.5, _PARE),
        Published("PARE (3DPW in training)", "pve", 88.6, _PARE),
        Published("CLIFF HRNet-W48 (3DPW in training)", "mpjpe", 69.0, _CLIFF),
        Published("CLIFF HRNet-W48 (3DPW in training)", "pa_mpjpe", 43.0, _CLIFF),
        Published("CLIFF HRNet-W48 (3DPW in training)", "pve", 81.2, _CLIFF),
        Published("CLIFF ResNet-50 (3DPW in training)", "mpjpe", 72.0, _CLIFF),
        Published("CLIFF ResNet-50 (3DPW in training)", "pa_mpjpe", 45.7, _CLIFF),
        Published("CLIFF ResNet-50 (3DPW in training)", "pve", 85.3, _CLIFF),
        Published("HMR 2.0", "mpjpe", 69.8, _HMR2),
        Published("HMR 2.0", "pa_mpjpe", 44.4, _HMR2),
        Published("HMR 2.0", "pve", 82.2, _HMR2),
        Published("TokenHMR", "mpjpe", 70.9, _TOKENHMR),
        Published("TokenHMR", "pa_mpjpe", 44.8, _TOKENHMR),
        Published("TokenHMR", "pve", 84.3, _TOKENHMR),
    ),
)

_J14_OF_J19 = Joints("j19", tuple(joint_names("j19")[k] for k in J19_TO_J14))

HMR2 = protocol(
    name="3dpw/hmr2",
    dataset="3dpw",
    split="test",
    metrics=("mpjpe", "pa_mpjpe"),
    truth=_J14_OF_J19,
    prediction=_J14_OF_J19,
    root=("pelvis",),
    keep=_DETECTED,
    cluster="sequence",
    source="shubham-goel/4D-Humans:hmr2/configs/datasets_eval.yaml (joints 25 to 37 and 43 of 44, root 39), "
    "hmr2/models/smpl_wrapper.py, hmr2/utils/pose_utils.py",
    note="joints by SMPL_to_J19.pkl on posed vertices; the authors read the truth's from their own npz, here they "
    "come from the annotated body's vertices by the same file",
)

WHAM = protocol(
    name="3dpw/wham",
    dataset="3dpw",
    split="test",
    metrics=("mpjpe", "pa_mpjpe", "pve", "accel"),
    settings={"fps": 30, "margin": 1},
    truth=_J14,
    prediction=_J14,
    root=_HIPS,
    keep=_DETECTED,
    cluster="sequence",
    source="yohanshin/WHAM:lib/eval/evaluate_3dpw.py; zju3dv/GVHMR:hmr4d/model/gvhmr/callbacks/metric_3dpw.py",
    note="VIBE, TCMR and GVHMR use the same root; WHAM counts the frames of TCMR's list",
    published=(
        Published("Temporal HMR", "pa_mpjpe", 76.7, _VIBE),
        Published("VIBE", "pa_mpjpe", 56.5, _VIBE),
        Published("VIBE (3DPW in training)", "pa_mpjpe", 51.9, _VIBE),
    ),
)

HYBRIK = protocol(
    name="3dpw/hybrik",
    dataset="3dpw",
    split="test",
    metrics=("mpjpe", "pa_mpjpe"),
    truth=_J14,
    prediction=_J14,
    root=("pelvis",),
    truth_body="neutral",
    keep=_DETECTED,
    cluster="sequence",
    source="Jeff-sjtu/HybrIK:hybrik/datasets/pw3d.py (evaluate_xyz_17); its issue 88",
    note="the truth's gender is ignored: its parameters pose the neutral body",
    published=(
        Published("HybrIK HRNet-W48", "pa_mpjpe", 48.6, _HYBRIK),
        Published("HybrIK HRNet-W48", "mpjpe", 88.0, _HYBRIK),
        Published("HybrIK HRNet-W48 (3DPW in training)", "pa_mpjpe", 41.8, _HYBRIK),
        Published("HybrIK HRNet-W48 (3DPW in training)", "mpjpe", 71.3, _HYBRIK),
        Published("HybrIK ResNet-34 (3DPW in training)", "pa_mpjpe", 44.5, _HYBRIK),
        Published("HybrIK ResNet-34 (3DPW in training)", "mpjpe", 72.4, _HYBRIK),
    ),
)

_KINEMATIC = Joints("kinematic", SMPL24.joints)
# Joints 1 2 4 5 7 8 16 to 21 of SMPL.
_LIMBS = Joints("kinematic", tuple(SMPL24.joints[i] for i in (1, 2, 4, 5, 7, 8, 16, 17, 18, 19, 20, 21)))
_CHALLENGE = "aymenmir1/3dpw-eval:evaluate.py, readme.md (ECCV 2020 workshop)"

CHALLENGE = protocol(
    name="3dpw/challenge",
    dataset="3dpw",
    split="all",
    metrics=("mpjpe", "pa_mpjpe", "mpjae", "pa_mpjae"),
    truth=_KINEMATIC,
    prediction=_KINEMATIC,
    root=("pelvis",),
    keep=_DETECTED,
    cluster="sequence",
    source=_CHALLENGE,
    note="24 joints on all three splits; not comparable with the other protocols",
)

CHALLENGE_LIMBS = protocol(
    name="3dpw/challenge-limbs",
    dataset="3dpw",
    split="all",
    metrics=("pck3d@50", "auc3d"),
    truth=_LIMBS,
    prediction=_LIMBS,
    root=("pelvis",),
    keep=_DETECTED,
    cluster="sequence",
    settings={"inclusive": True, "curve": "challenge"},
    source=_CHALLENGE,
    note="the challenge's PCK and AUC, on 12 of the 24 joints",
)
