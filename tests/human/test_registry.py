"""Registries: names taken once, unknown names, and plug-ins of other packages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from human.errors import PosesynError
from human.registry import Registry

PLUGIN = """
from plugin_kinds import THINGS

class Fancy:
    pass

@THINGS.register("decorated")
class Decorated:
    pass
"""


@pytest.fixture
def registry() -> Registry[type]:
    things: Registry[type] = Registry("test_thing")

    @things.register("cup")
    class Cup:
        pass

    @things.register("bowl")
    class Bowl:
        pass

    return things


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that offers test_things, some of them broken."""
    info = tmp_path / "plugin_things-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-things\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[posesyn.test_thing]\nfancy = plugin_things:Fancy\nbroken = plugin_broken:Thing\n"
        "absent = plugin_things:Absent\ncup = plugin_things:Fancy\ndecorated = plugin_things:Decorated\n"
    )
    (tmp_path / "plugin_kinds.py").write_text("from human.registry import Registry\nTHINGS = Registry('test_thing')\n")
    (tmp_path / "plugin_things.py").write_text(PLUGIN)
    (tmp_path / "plugin_broken.py").write_text("raise RuntimeError('needs a newer torch')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("plugin_kinds", "plugin_things", "plugin_broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_what_is_registered_is_found_and_listed_in_order(registry: Registry[type]) -> None:
    assert registry.get("cup").__name__ == "Cup"
    assert registry.names() == list(registry) == ["bowl", "cup"]


def test_unknown_names_list_the_known_ones(registry: Registry[type]) -> None:
    with pytest.raises(PosesynError, match=r"no test_thing is called 'cop'; known: bowl, cup"):
        registry.get("cop")
    with pytest.raises(PosesynError, match="known: none"):
        Registry("nothing_at_all").get("cup")


def test_a_name_is_taken_once(registry: Registry[type]) -> None:
    with pytest.raises(PosesynError, match=r"'cup'.*Cup"):
        registry.register("cup")(int)
    assert registry.get("cup").__name__ == "Cup"


@pytest.mark.usefixtures("third_party")
def test_entry_points_of_other_packages_count(registry: Registry[type]) -> None:
    assert registry.names() == ["absent", "bowl", "broken", "cup", "decorated", "fancy"]
    assert registry.get("fancy").__module__ == "plugin_things"
    assert registry.get("fancy") is registry.get("fancy")
    assert registry.get("cup").__name__ == "Cup"  # nobody replaces what is ours


@pytest.mark.usefixtures("third_party")
def test_a_plug_in_may_register_itself_while_it_is_imported() -> None:
    import plugin_kinds

    decorated = plugin_kinds.THINGS.get("decorated")
    assert decorated is sys.modules["plugin_things"].Decorated


@pytest.mark.usefixtures("third_party")
@pytest.mark.parametrize(("name", "cause"), [("broken", "needs a newer torch"), ("absent", "Absent")])
def test_a_broken_plug_in_is_named_and_stops_nobody_else(registry: Registry[type], name: str, cause: str) -> None:
    for _ in range(2):  # not only at the first try
        with pytest.raises(PosesynError, match=f"{name}.*{cause}"):
            registry.get(name)
    assert registry.get("bowl").__name__ == "Bowl"
