"""Dataset readers: everything registered in READERS turns a dataset into one :class:`PersonIndex` plus pictures."""

from datamodules.readers import (
    coco,
    emdb,
    hr_lspet,
    lsp,
    lspet,
    mpii,
    ochuman,
    pose2sim,
    rich,
    sports2d,
    ssp3d,
    threedpw,
)
from datamodules.readers.base import READERS, PersonIndex, PoseReader, make_reader

__all__ = [
    "READERS",
    "PersonIndex",
    "PoseReader",
    "coco",
    "emdb",
    "hr_lspet",
    "jhmdb",
    "lsp",
    "lspet",
    "make_reader",
    "mpii",
    "ochuman",
    "pose2sim",
    "rich",
    "smart",
    "sports2d",
    "ssp3d",
    "threedpw",
]
