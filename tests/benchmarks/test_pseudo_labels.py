"""The comparison of mining by labels and by pseudo-labels, where the answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.pseudo_labels import compare, measure, table, write_pictures
from datamodules.readers import make_reader
from human.errors import PosesynError
from human.skeleton import convert
from tests.tiny import tiny_hmr, write_lspet


def test_figures_of_known_rankings() -> None:
    truth = np.arange(100.0)
    same = compare(truth, truth * 2 + 1)
    assert same == {"found": 1, "rho": pytest.approx(1), "overlap": 1, "best": 1, "gain": pytest.approx(1)}
    turned = compare(truth, -truth)
    assert (turned["rho"], turned["overlap"], turned["best"]) == (pytest.approx(-1), 0, 0)
    assert turned["gain"] == pytest.approx(-1)
    half = truth.copy()
    half[95:] = np.nan  # the five worst have no pseudo-labels
    missed = compare(truth, half)
    assert missed["found"] == 0.95
    assert missed["overlap"] == 0.5
    with pytest.raises(PosesynError, match="too few"):
        compare(truth, np.where(truth < 5, truth, np.nan))


def test_perfect_pseudo_labels_find_the_same_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From pictures through the reader and the EEM to the table; labels that are moved about find others."""
    monkeypatch.setenv("POSESYN_CACHE", str(tmp_path / "cache"))
    truth = make_reader("lspet", {"root": str(write_lspet(tmp_path / "lspet", range(30)))})
    names = write_pictures(truth, tmp_path / "pictures")
    joints, conf = convert(truth.index.joints2d[..., :2], truth.index.joints2d[..., 2], "pose32", "lsp14")
    rng = np.random.default_rng(0)
    labellers = {}
    for title, noise in (("perfect", 0.0), ("poor", 12.0)):
        people = []
        for name, i in names.items():
            moved = joints[i] + rng.normal(0, noise or 1e-9, joints[i].shape)
            points = np.concatenate([moved, conf[i][:, None] * 0.9], 1)
            people.append({"image_id": name, "keypoints": points.ravel().tolist()})
        content = {"images": [{"id": n, "file_name": n} for n in names], "annotations": people}
        (tmp_path / f"{title}.json").write_text(json.dumps(content))
        labellers[title] = ("coco", {"path": str(tmp_path / f"{title}.json"), "skeleton": "lsp14"})
    rows = measure(tiny_hmr(), truth, tmp_path / "pictures", labellers, [0.5], tmp_path / "labels")
    perfect, weighed, poor, _ = rows
    for row in (perfect, weighed):
        assert row["rho"] > 0.999
        assert (row["overlap"], row["best"], row["found"], row["pck"]) == (1, 1, 1, 1)
        assert row["gain"] == pytest.approx(1)
        assert row["miss"] < 1e-6
    assert poor["rho"] < 0.95
    assert poor["miss"] > 0.03
    assert table(rows).count("\n") == 5
