"""Named plug-ins: bodies, datasets, engines, estimators, miners.

Registering a name lists it (``posesyn doctor --list``) and puts it under the tests that iterate the registry.
Third parties register through the entry-point group ``posesyn.<kind>``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from human.errors import PosesynError

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps names to classes or factories of one kind.

    Args:
        kind: what is registered, in the singular ("engine", "body model"); entry points are read from the group
            ``posesyn.engine``, ``posesyn.body_model``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}
        self._entry_points: dict[str, EntryPoint] | None = None

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
        if name not in self._items:
            point = self._third_party().get(name)
            if point is None:
                raise PosesynError(f"no {self.kind} is called {name!r}; known: {', '.join(self.names()) or 'none'}")
            # Only what is asked for is imported: a broken package does not stop those who do not use it.
            try:
                loaded = point.load()
            except Exception as error:
                raise PosesynError(
                    f"the {self.kind} {name!r} ({point.value}) of an installed package cannot be imported "
                    f"({type(error).__name__}: {error}): repair or uninstall that package"
                ) from error
            self._items.setdefault(name, loaded)  # the import may have registered it
        return self._items[name]

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted({*self._items, *self._third_party()})

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def _third_party(self) -> dict[str, EntryPoint]:
        if self._entry_points is None:
            group = f"posesyn.{self.kind.replace(' ', '_')}"
            self._entry_points = {point.name: point for point in entry_points(group=group)}
        return self._entry_points


def make(registry: Registry[Any], name: str, options: Mapping[str, Any] | None = None) -> Any:
    """What is registered as ``name``, called with arguments from a config; :class:`PosesynError` says what is wrong."""
    kind, given = registry.get(name), options or {}
    try:
        inspect.signature(kind).bind(**given)
    except TypeError as error:
        raise PosesynError(
            f"options of the {registry.kind} {name!r}: {error}; it takes {inspect.signature(kind)}"
        ) from None
    return kind(**given)


def make_all(registry: Registry[Any], entries: Iterable[Mapping[str, Any] | str] | None, where: str) -> list[Any]:
    """One :func:`make` after the other.

    Args:
        entries: ``{"name": ..., "options": {...}}`` (options may be left out) or the name alone, as a config has them.
        where: the config's key, for errors.

    Raises:
        PosesynError: an entry is something else, or nothing has that name or takes those options.
    """
    made = []
    for number, entry in enumerate(entries or ()):
        entry = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str) or set(entry) - {"name", "options"}:
            raise PosesynError(f"{where}[{number}] must be {{name: ..., options: {{...}}}}, got {entry!r}")
        options = entry.get("options") or {}
        if not isinstance(options, Mapping):
            raise PosesynError(f"{where}[{number}] ({entry['name']}): options must be a mapping, got {options!r}")
        made.append(make(registry, entry["name"], options))
    return made
