"""Evaluation protocols of the data sets, under the names of the code bases that use them."""

from metrics.protocols import bedlam, emdb, rich, ssp3d, threedpw
from metrics.protocols.base import PROTOCOLS, Joints, Protocol, Published, protocol, protocols_of

__all__ = [
    "PROTOCOLS",
    "Joints",
    "Protocol",
    "Published",
    "bedlam",
    "emdb",
    "protocol",
    "protocols_of",
    "rich",
    "ssp3d",
    "threedpw",
]
