"""SMART: states are not COCO's, boxes are not the set's, and Diffusion-HPC's clips and squares are its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.readers.base import decoded
from datamodules.readers.smart import FILES, SPORTS, SmartReader
from human.errors import PosesynError
from human.skeleton import BODY25, POSE32
from tests.datamodules.readers.ugly import (
    check_damage_is_named,
    check_index_is_kept,
    check_pictures,
    check_wrong_root,
)
from tests.datasets import smart
from tests.datasets.people import People, make_people


@pytest.fixture(scope="module")
def people() -> People:
    return make_people(("neutral",), frames=6, cameras=2, kind="free")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, people: People) -> tuple[Path, dict[str, smart.Written]]:
    root = tmp_path_factory.mktemp("smart")
    return root, smart.write(root, people)


TABLE = {"diving": "diving", "gym": "gym", "field": "polevalut_highjump_badminton"}


@pytest.mark.parametrize("split", FILES)
def test_labels_are_what_was_written(
    written: tuple[Path, dict[str, smart.Written]], tmp_path: Path, split: str
) -> None:
    root, tables = written
    truth = tables[TABLE[split]]
    reader = SmartReader(root, split, cache=tmp_path)
    index = reader.index
    assert list(index.ids) == [f"smart/{name[:-4]}" for name in truth.names]
    labelled = truth.state != 2
    np.testing.assert_array_equal(index.extras["native2d"][..., 2], labelled)
    np.testing.assert_array_equal(index.extras["native2d"][..., :2], truth.joints * labelled[..., None])
    np.testing.assert_array_equal(index.extras["state"], truth.state)
    wrist = BODY25.index("right_wrist")
    np.testing.assert_array_equal(index.joints2d[:, POSE32.index("right_wrist"), :2], truth.joints[:, wrist])
    assert (np.diff(index.extras["sequence"]) >= 0).all()
    assert index.extras["frame"][:3].tolist() == [1, 2, 3]
    assert index.bbox_xyxy.min() >= 0  # joints that cannot be inferred, at (-1, -1), are not in the boxes


def test_everything(written: tuple[Path, dict[str, smart.Written]], tmp_path: Path) -> None:
    root, tables = written
    reader = SmartReader(root, cache=tmp_path)
    assert len(reader.index) == sum(len(t.names) for t in tables.values())
    assert np.bincount(reader.index.extras["group"]).tolist() == [16 * 12, 15 * 12, 7 * 12]
    some = SmartReader(root, "vault_train", cache=tmp_path)
    check_pictures(some)


@pytest.mark.parametrize("sport", SPORTS)
def test_sports_are_diffusion_hpcs(written: tuple[Path, dict[str, smart.Written]], tmp_path: Path, sport: str) -> None:
    """The parser of parse_data_from_sportscap.py, written out clip by clip."""
    root, _ = written
    for part in ("train", "test"):
        expected = theirs(root, sport, part)
        index = SmartReader(root, f"{sport}_{part}", cache=tmp_path).index
        assert list(index.ids) == [f"smart/{name[:-4]}" for name, _, _ in expected]
        crop = np.array([[*centre, 200 * scale] for _, centre, scale in expected])
        np.testing.assert_allclose(index.extras["crop"], crop, rtol=1e-6)
        assert len(index) >= 2
        assert set(decoded(index.extras["activity"])) == {sport}


def theirs(root: Path, sport: str, part: str) -> list[tuple[str, list[float], float]]:
    """(picture, centre, scale) as that parser keeps them."""
    if sport in ("polevault", "highjump"):
        clips = json.loads((root / FILES["field"]).read_text())
        word = {"polevault": "cgt", "highjump": "tg"}[sport]
        labels = [c["action_labels"] for c in clips if word in c["action_labels"]]
        labels = labels[:2] if part == "train" else labels[2:]
        frames = [f for c in clips if c["action_labels"] in labels for f in c["frames"][:-5]]
    elif sport == "diving":
        clips = json.loads((root / FILES["diving"]).read_text())
        clips = clips[:15] if part == "train" else clips[15:]
        frames = [f for c in clips for f in c["frames"][::10]]
    else:
        clips = json.loads((root / FILES["gym"]).read_text())
        word, count = {"balancebeam": ("184;204", 5), "vault": ("vt", 4), "unevenbars": ("271", 3)}[sport]
        names = [c["VideoName"] for c in clips if c["action_labels"] in word]
        names = names[:count] if part == "train" else names[count:]
        frames = [f for c in clips if c["VideoName"] in names for f in c["frames"]]
    out = []
    for frame in frames:
        if not frame["joints"]:
            continue
        points = np.array(frame["joints"], float)
        if sport == "diving":
            points[:, 2] = points[:, 2] != 2
            if points[:, 2].sum() < 4:
                continue
            inside = points[points[:, 2] > 0]
            torsos = [
                np.linalg.norm(points[hip] - points[shoulder])
                for hip, shoulder in ((9, 2), (12, 5))
                if points[hip, 2] == 1 and points[shoulder, 2] == 1
            ]
            if not torsos:
                continue
        else:
            points[:, 2] = 1 - points[:, 2]
            points[15:, 2] = 0
            inside = points
            torsos = [np.linalg.norm(points[9] - points[2]), np.linalg.norm(points[12] - points[5])]
        low, high = inside[:, :2].min(0), inside[:, :2].max(0)
        scale = max(float(np.mean(torsos)) * 3, (high - low).max() * 1.2) / 200
        if sport == "diving" and scale < 0.5:
            continue
        out.append((frame["img_name"], ((low + high) / 2).tolist(), scale))
    return out


def test_divers_without_a_torso_or_too_small_are_not_evaluated(tmp_path: Path, people: People) -> None:
    """Four hard cases in the test clip: no torso, three joints, tiny, one torso side."""
    smart.write(tmp_path, people)
    path = tmp_path / FILES["diving"]
    clips = json.loads(path.read_text())
    base = clips[15]["frames"][0]
    clips[15]["frames"] = [json.loads(json.dumps({**base, "img_name": f"hard{i}.jpg"})) for i in range(41)]

    def unknown(frame: int, joints: list[int]) -> None:
        for joint in joints:
            clips[15]["frames"][frame]["joints"][joint] = [-1, -1, 2]

    unknown(0, [2, 12])
    unknown(10, [j for j in range(25) if j not in (2, 9, 3)])
    clips[15]["frames"][20]["joints"] = [[x // 4, y // 4, s] for x, y, s in base["joints"]]
    unknown(30, [5])
    path.write_text(json.dumps(clips))
    index = SmartReader(tmp_path, "diving_test", cache=tmp_path / "cache").index
    assert list(index.ids) == ["smart/hard30", "smart/hard40"]
    expected = theirs(tmp_path, "diving", "test")
    np.testing.assert_allclose(index.extras["crop"][:, 2], [200 * scale for _, _, scale in expected], rtol=1e-6)


def test_ugly_files(tmp_path: Path, people: People) -> None:
    root = tmp_path / "smart"
    smart.write(root, people)

    def make() -> SmartReader:
        return SmartReader(root, "gym", cache=tmp_path / "cache")

    check_index_is_kept(make, root / FILES["gym"])
    check_damage_is_named(make, root / FILES["gym"])
    check_wrong_root(SmartReader, tmp_path)
    (root / "images").rename(root / "pictures")
    with pytest.raises(PosesynError, match="no pictures of smart"):
        make()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"img_name": "../secret.jpg"}, "not below the data set's root"),
        ({"joints": [[1, 2, 0]] * 24}, "joints"),
        ({"joints": [[1, 2, 7]] * 25}, "states other than 0, 1, 2"),
        ({"frame_id": None}, "not laid out as SMART"),
        ({"joints": 3}, "not laid out as SMART"),
    ],
)
def test_tables_that_are_not_smarts(tmp_path: Path, people: People, change: dict[str, Any], said: str) -> None:
    smart.write(tmp_path, people)
    path = tmp_path / FILES["field"]
    clips = json.loads(path.read_text())
    clips[1]["frames"][2].update(change)
    path.write_text(json.dumps(clips))
    with pytest.raises(PosesynError, match=said) as caught:
        SmartReader(tmp_path, "field", cache=tmp_path / "cache")
    assert path.name in str(caught.value)


def test_real_tables(shared_data: Path, tmp_path: Path) -> None:
    """Hand-labelled poses of the released tables: as many as the parser keeps, in its squares."""
    root = tmp_path / "smart"
    (root / "images").mkdir(parents=True)
    (root / "annotations").symlink_to(shared_data / "samples" / "smart" / "annotations")
    gym, field = (SmartReader(root, split, cache=tmp_path / "cache").index for split in ("gym", "field"))
    assert (len(gym), len(field)) == (2641, 2495)
    assert 0.24 < (gym.extras["state"] == 1).mean() < 0.26
    counts = {"balancebeam": 865, "vault": 135, "unevenbars": 1216, "polevault": 1007, "highjump": 566}
    for sport, count in counts.items():
        index = SmartReader(root, f"{sport}_test", cache=tmp_path / "cache").index
        expected = theirs(root, sport, "test")
        assert list(index.ids) == [f"smart/{name[:-4]}" for name, _, _ in expected]
        assert len(index) == count
        crop = np.array([[*centre, 200 * scale] for _, centre, scale in expected])
        np.testing.assert_allclose(index.extras["crop"], crop, rtol=1e-5)
    with pytest.raises(PosesynError, match=r"Table_VideoInfo_diving\.json"):
        SmartReader(root, cache=tmp_path / "cache")
