"""Dataset readers: everything registered in READERS turns a dataset into one :class:`PersonIndex` plus pictures."""

from datamodules.readers import hr_lspet, lsp, lspet, mpii, pose2sim, sports2d
from datamodules.readers.base import READERS, PersonIndex, PoseReader, make_reader

__all__ = [
    "READERS",
    "PersonIndex",
    "PoseReader",
    "hr_lspet",
    "lsp",
    "lspet",
    "make_reader",
    "mpii",
    "pose2sim",
    "sports2d",
]
