"""Pose metrics: torchmetrics classes here, their stateless halves in :mod:`metrics.functional`."""

from metrics.angles import MPJAE, PAMPJAE
from metrics.functional.summary import Bin, Summary, per_bin, per_joint, summarise
from metrics.motion import RTE, WAMPJPE, WMPJPE, AccelerationError, FootSliding, Jitter
from metrics.mpjpe import MPJPE, NMPJPE, PAMPJPE
from metrics.oks import OKS, KeypointAP
from metrics.pck import PCK
from metrics.pck3d import AUC3D, PCK3D
from metrics.vertices import PAPVE, PVE, PVETSC

__all__ = [
    "AUC3D",
    "MPJAE",
    "MPJPE",
    "NMPJPE",
    "OKS",
    "PAMPJAE",
    "PAMPJPE",
    "PAPVE",
    "PCK",
    "PCK3D",
    "PVE",
    "PVETSC",
    "RTE",
    "WAMPJPE",
    "WMPJPE",
    "AccelerationError",
    "Bin",
    "FootSliding",
    "Jitter",
    "KeypointAP",
    "Summary",
    "per_bin",
    "per_joint",
    "summarise",
]
