"""Stateless metrics: one value per person. The classes of the same names in :mod:`metrics` average them."""

from metrics.functional.angles import ORIENTED_JOINTS, mpjae, pa_mpjae
from metrics.functional.coco import AP_NAMES, keypoint_ap
from metrics.functional.motion import acceleration_error, countable_frames, jitter
from metrics.functional.mpjpe import countable_persons, joint_errors, mpjpe, n_mpjpe, pa_mpjpe
from metrics.functional.oks import COCO_SIGMAS, oks
from metrics.functional.pck import box_side, correct_joints, head_size, pck, torso_length
from metrics.functional.pck3d import CHALLENGE_THRESHOLDS, MPI_INF_THRESHOLDS, auc_3d, pck_3d
from metrics.functional.procrustes import Similarity, similarity_procrustes
from metrics.functional.summary import Bin, Summary, per_bin, per_joint, summarise
from metrics.functional.vertices import countable_meshes, pa_pve, pve, pve_t_sc
from metrics.functional.world import FOOT_VERTICES, foot_sliding, rte, w_mpjpe, wa_mpjpe

__all__ = [
    "AP_NAMES",
    "CHALLENGE_THRESHOLDS",
    "COCO_SIGMAS",
    "FOOT_VERTICES",
    "MPI_INF_THRESHOLDS",
    "ORIENTED_JOINTS",
    "Bin",
    "Similarity",
    "Summary",
    "acceleration_error",
    "auc_3d",
    "box_side",
    "correct_joints",
    "countable_frames",
    "countable_meshes",
    "countable_persons",
    "foot_sliding",
    "head_size",
    "jitter",
    "joint_errors",
    "keypoint_ap",
    "mpjae",
    "mpjpe",
    "n_mpjpe",
    "oks",
    "pa_mpjae",
    "pa_mpjpe",
    "pa_pve",
    "pck",
    "pck_3d",
    "per_bin",
    "per_joint",
    "pve",
    "pve_t_sc",
    "rte",
    "similarity_procrustes",
    "summarise",
    "torso_length",
    "w_mpjpe",
    "wa_mpjpe",
]
