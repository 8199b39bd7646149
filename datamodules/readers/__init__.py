"""Dataset readers: everything registered in READERS turns a dataset into one :class:`PersonIndex` plus pictures."""

from datamodules.readers import lspet, pose2sim, sports2d
from datamodules.readers.base import READERS, PersonIndex, PoseReader

__all__ = ["READERS", "PersonIndex", "PoseReader", "lspet", "pose2sim", "sports2d"]
