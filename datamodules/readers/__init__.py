"""Dataset readers: everything registered in READERS turns a dataset into one :class:`PersonIndex` plus pictures."""

from importlib import import_module
from pkgutil import iter_modules

from datamodules.readers.base import READERS, PersonIndex, PoseReader, make_reader

for _module in iter_modules(__path__):  # those that are readers register themselves
    import_module(f"{__name__}.{_module.name}")

__all__ = ["READERS", "PersonIndex", "PoseReader", "make_reader"]
