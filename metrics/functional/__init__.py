"""Stateless metrics: one value per person. The classes of the same names in :mod:`metrics` average them."""

from metrics.functional.mpjpe import countable_persons, mpjpe, pa_mpjpe
from metrics.functional.pck import box_side, correct_joints, head_size, torso_length
from metrics.functional.procrustes import Similarity, similarity_procrustes

__all__ = [
    "Similarity",
    "box_side",
    "correct_joints",
    "countable_persons",
    "head_size",
    "mpjpe",
    "pa_mpjpe",
    "similarity_procrustes",
    "torso_length",
]
