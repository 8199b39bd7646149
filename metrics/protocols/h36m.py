"""Protocols of Human3.6M. "Protocol 1" and "2" mean three different things in the literature; the names here say whose.

SPIN and HMR: P1 is all four cameras, P2 the camera 60457274 only, both every 5th frame of S9 and S11. 3DMPPE: P1 is
PA-MPJPE on S11, P2 MPJPE on S9 and S11, every 64th frame. Lifting: #1 is MPJPE, #2 PA-MPJPE, #3 N-MPJPE.
"""

from __future__ import annotations

from human.regressors import joint_names
from human.skeleton import H36M17
from metrics.protocols.base import Joints, Published, protocol

J14 = joint_names("j14")
J17 = H36M17.joints
HIPS = ("left_hip", "right_hip")
_FRONTAL = 4  # camera 60457274 in ``datamodules.readers.h36m``
#: (subject, action, part) of the clips whose labels lie 20 cm beside the person: Greeting, SittingDown 1, Waiting 1 of
#: S9 (isarandi/posepile:src/posepile/ds/h36m/main.py); act_05_subact_02, act_10_subact_02, act_13_subact_01 in 3DMPPE's
#: names (Jeff-sjtu/HybrIK:hybrik/datasets/h36m_smpl.py).
DAMAGED = ((9, 5, 5), (9, 10, 6), (9, 13, 6), (9, 5, 2), (9, 10, 2), (9, 13, 1))


def sequences(
    subjects: tuple[int, ...] = (9, 11), cameras: tuple[int, ...] = (1, 2, 3, 4), damaged: bool = True
) -> tuple[int, ...]:
    """Values of the column "sequence" (``datamodules.readers.h36m``)."""
    clips = [(s, a, part) for s in subjects for a in range(2, 17) for part in (1, 2, *range(5, 10))]
    chosen = [clip for clip in clips if damaged or clip not in DAMAGED]
    return tuple(10000 * s + 100 * a + 10 * part + c for s, a, part in chosen for c in cameras)


_MESH = {
    "dataset": "h36m",
    "split": "test",
    "metrics": ("mpjpe", "pa_mpjpe"),
    "truth": Joints("labels", J14),
    "prediction": Joints("h36m", J14),
    "root": ("pelvis",),
    "cluster": "sequence",
}
_JOINTS = {**_MESH, "truth": Joints("labels", J17), "prediction": Joints("labels", J17)}
_VIBE = "README of mkocabas/VIBE"

SPIN_P1 = protocol(
    name="h36m/spin-p1",
    keep=(("sequence", "in", sequences()), ("frame", "every", 5)),
    source="nkolot/SPIN:eval.py, datasets/preprocess/h36m.py",
    note="HMR's and SPIN's protocol 1: all four cameras",
    **_MESH,
)
SPIN_P2 = protocol(
    name="h36m/spin-p2",
    keep=(("sequence", "in", sequences(cameras=(_FRONTAL,))), ("frame", "every", 5)),
    source="nkolot/SPIN:eval.py, datasets/preprocess/h36m.py",
    note="HMR's and SPIN's protocol 2: camera 60457274 only; HMR 2.0 names the same joints, but regresses them by its "
    "own SMPL_to_J19.pkl and moves the hips",
    published=(
        Published("SPIN", "pa_mpjpe", 41.1, _VIBE),
        Published("Temporal HMR", "pa_mpjpe", 56.8, _VIBE),
        Published("VIBE", "pa_mpjpe", 41.5, _VIBE),
    ),
    **_MESH,
)
BEDLAM = protocol(
    name="h36m/bedlam",
    keep=SPIN_P1.keep,
    source="pixelite1201/BEDLAM:train/core/hmr_trainer.py, train/core/config.py (h36m-p1)",
    note="SPIN's protocol 1 with the hips' middle as the root",
    **{**_MESH, "root": HIPS},
)
CROWDNET = protocol(
    name="h36m/3dcrowdnet",
    keep=(("sequence", "in", sequences(cameras=(_FRONTAL,))), ("frame", "every", 64)),
    source="hongsukchoi/3DCrowdNet_RELEASE:data/Human36M/Human36M.py",
    note="3DCrowdNet, I2L-MeshNet: SPIN's joints and camera, every 64th frame; fewer decimals, not other figures",
    **_MESH,
)
HYBRIK = protocol(
    name="h36m/hybrik",
    keep=(("sequence", "in", sequences(damaged=False)), ("frame", "every", 20)),
    settings={"fit": J17},
    source="Jeff-sjtu/HybrIK:hybrik/datasets/h36m_smpl.py (evaluate_xyz_17)",
    note="without the damaged clips of S9; Procrustes is fitted on 17 joints, the error taken on 14; that the test "
    "file Sample_20_test_Human36M_smpl holds every 20th frame is read from its name",
    published=(
        Published("HybrIK (ResNet-34, with 3DPW)", "pa_mpjpe", 33.8, "README of Jeff-sjtu/HybrIK"),
        Published("HybrIK (ResNet-34, with 3DPW)", "mpjpe", 55.5, "README of Jeff-sjtu/HybrIK"),
        Published("HybrIK (HRNet-W48, with 3DPW)", "pa_mpjpe", 29.8, "README of Jeff-sjtu/HybrIK"),
        Published("HybrIK (HRNet-W48, with 3DPW)", "mpjpe", 47.1, "README of Jeff-sjtu/HybrIK"),
    ),
    **_MESH,
)
MOON_P1 = protocol(
    name="h36m/3dmppe-p1",
    keep=(("sequence", "in", sequences(subjects=(11,))), ("frame", "every", 64)),
    source="mks0601/3DMPPE_POSENET_RELEASE:data/Human36M/Human36M.py",
    note="trained with S9 besides",
    **{**_JOINTS, "metrics": ("pa_mpjpe",)},
)
MOON_P2 = protocol(
    name="h36m/3dmppe-p2",
    keep=(("sequence", "in", sequences()), ("frame", "every", 64)),
    source="mks0601/3DMPPE_POSENET_RELEASE:data/Human36M/Human36M.py",
    **{**_JOINTS, "metrics": ("mpjpe",)},
)
LIFTING = protocol(
    name="h36m/videopose3d",
    options={"every": 1},
    average="group",
    settings={"groups": 17},
    source="facebookresearch/VideoPose3D:run.py",
    note="the lifting papers' protocols #1, #2, #3 together: every frame at 50 Hz, the mean of the 15 actions' means; "
    "their code takes predictions as they come, from an origin of their own",
    published=(
        Published("VideoPose3D (CPN, 243 frames)", "mpjpe", 46.8, "README of facebookresearch/VideoPose3D"),
        Published("VideoPose3D (CPN, 243 frames)", "pa_mpjpe", 36.5, "README of facebookresearch/VideoPose3D"),
    ),
    **{**_JOINTS, "metrics": ("mpjpe", "pa_mpjpe", "n_mpjpe")},
)
