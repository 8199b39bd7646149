"""``posesyn assets`` prints what there is and refuses unknown names before downloading anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.assets import run
from human.assets import load_manifest
from human.errors import PosesynError


def test_list_names_every_asset_and_where_the_cache_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("POSESYN_CACHE", str(tmp_path))
    run([])
    text = capsys.readouterr().out
    for name, asset in load_manifest().items():
        assert name in text
        assert asset.licence in text
    assert str(tmp_path) in text


def test_fetch_prints_where_an_asset_lies(capsys: pytest.CaptureFixture[str]) -> None:
    run(["fetch", "free_motion"])
    assert "free_motion.npz" in capsys.readouterr().out


def test_fetch_refuses_an_unknown_name_before_downloading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSESYN_CACHE", str(tmp_path))
    with pytest.raises(PosesynError, match="no asset is called 'nothing'"):
        run(["fetch", "sports2d_demo", "nothing"])
    assert not any(tmp_path.iterdir())
