"""Dataset readers: everything registered in READERS turns a dataset into one :class:`PersonIndex` plus pictures."""

from datamodules.readers import bedlam, emdb, lspet, pose2sim, rich, sports2d, ssp3d, threedpw
from datamodules.readers.base import READERS, PersonIndex, PoseReader, make_reader

__all__ = [
    "READERS",
    "PersonIndex",
    "PoseReader",
    "bedlam",
    "emdb",
    "lspet",
    "make_reader",
    "pose2sim",
    "rich",
    "sports2d",
    "ssp3d",
    "threedpw",
]
