"""Dataset readers: everything registered in READERS turns a dataset into one :class:`PersonIndex` plus pictures."""

from datamodules.readers import (
    emdb,
    h36m,
    humman,
    lspet,
    mpi_inf_3dhp,
    muco,
    panoptic,
    pose2sim,
    rich,
    skipose,
    sports2d,
    ssp3d,
    threedpw,
)
from datamodules.readers.base import READERS, PersonIndex, PoseReader, make_reader

__all__ = [
    "READERS",
    "PersonIndex",
    "PoseReader",
    "emdb",
    "h36m",
    "humman",
    "lspet",
    "make_reader",
    "mpi_inf_3dhp",
    "muco",
    "panoptic",
    "pose2sim",
    "rich",
    "skipose",
    "sports2d",
    "ssp3d",
    "threedpw",
]
