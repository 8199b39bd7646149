"""Evaluation protocols of the data sets, under the names of the code bases that use them."""

from metrics.protocols import h36m, humman, mpi_inf_3dhp, panoptic, skipose
from metrics.protocols.base import PROTOCOLS, Joints, Protocol, Published, protocol, protocols_of

__all__ = [
    "PROTOCOLS",
    "Joints",
    "Protocol",
    "Published",
    "h36m",
    "humman",
    "mpi_inf_3dhp",
    "panoptic",
    "protocol",
    "protocols_of",
    "skipose",
]
