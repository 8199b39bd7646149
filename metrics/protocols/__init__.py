"""Evaluation protocols of the data sets, under the names of the code bases that use them."""

from metrics.protocols import coco, jhmdb, lsp, mpii, smart
from metrics.protocols.base import PROTOCOLS, Joints, Protocol, Published, protocol, protocols_of

__all__ = [
    "PROTOCOLS",
    "Joints",
    "Protocol",
    "Published",
    "coco",
    "jhmdb",
    "lsp",
    "mpii",
    "protocol",
    "protocols_of",
    "smart",
]
