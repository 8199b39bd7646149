"""Named plug-ins: bodies, datasets, engines, estimators, miners.

Registering a name lists it (``posesyn doctor --list``) and puts it under the tests that iterate the registry.
Third parties register through the entry-point group ``posesyn.<kind>``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from human.errors import PosesynError

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps names to classes or factories of one kind.

    Args:
        kind: what is registered, in the singular ("engine"); entry points are read from ``posesyn.<kind>``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}
        self._entry_points_read = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files a class under ``name``; a name can be taken once."""

        def add(item: T) -> T:
            if name in self._items:
                raise PosesynError(f"two {self.kind}s are registered as {name!r}: {self._items[name]} and {item}")
            self._items[name] = item
            return item

        return add

    def get(self, name: str) -> T:
        """The item called ``name``. Raises :class:`PosesynError` with the known names otherwise."""
        self._read_entry_points()
        if name not in self._items:
            raise PosesynError(f"no {self.kind} is called {name!r}; known: {', '.join(self.names()) or 'none'}")
        return self._items[name]

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self._read_entry_points()
        return sorted(self._items)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def _read_entry_points(self) -> None:
        if self._entry_points_read:
            return
        self._entry_points_read = True
        for point in entry_points(group=f"posesyn.{self.kind}"):
            if point.name not in self._items:
                self._items[point.name] = point.load()
