"""Evaluation protocols of the data sets, under the names of the code bases that use them: one module per data set."""

from importlib import import_module
from pkgutil import iter_modules

from metrics.protocols.base import PROTOCOLS, Joints, Protocol, Published, protocol, protocols_of

for _module in iter_modules(__path__):  # each registers its own
    import_module(f"{__name__}.{_module.name}")

__all__ = ["PROTOCOLS", "Joints", "Protocol", "Published", "protocol", "protocols_of"]
