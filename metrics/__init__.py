"""Pose metrics: torchmetrics classes here, their stateless halves in :mod:`metrics.functional`."""

from metrics.mpjpe import MPJPE, PAMPJPE
from metrics.pck import PCK

__all__ = ["MPJPE", "PAMPJPE", "PCK"]
