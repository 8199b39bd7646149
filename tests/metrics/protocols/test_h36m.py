"""Human3.6M's protocols, from files on disk to figures."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.readers.h36m import H36mReader
from datamodules.readers.h36m_cameras import CAMERAS
from metrics.evaluation import evaluate, kept
from metrics.protocols import h36m as protocols
from metrics.protocols import protocols_of
from metrics.truth import Truth
from tests.datasets import h36m
from tests.datasets.people import People, make_people
from tests.metrics.protocols.round_trip import (
    Row,
    assert_joint_protocol,
    assert_mesh_protocol,
    figures,
    labels,
)

pytestmark = pytest.mark.usefixtures("body_files")
HOLD = 64
MESH = [p for p in protocols_of("h36m") if p.prediction.source == "h36m"]
JOINTS = [p for p in protocols_of("h36m") if p.prediction.source == "labels"]


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(genders=("neutral", "neutral"), frames=2, cameras=4, size=(128, 128))


@pytest.fixture(scope="module")
def root(people: People, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("h36m")
    h36m.write(root, people, hold=HOLD)
    return root


@pytest.fixture(scope="module")
def whole(root: Path) -> Truth:
    return H36mReader(root, "test", cache=root / "cache").truth()


@pytest.fixture(scope="module")
def truth(whole: Truth) -> Truth:
    """A frame for each stride: 5, 20, 64."""
    return whole.rows(np.flatnonzero(np.isin(whole["frame"], (5, 20, 64))))


def rows(truth: Truth) -> list[Row]:
    out = []
    for name in truth.ids:
        _, subject, _, camera, frame = name.split("/")
        out.append((CAMERAS.index(camera), (9, 11).index(int(subject[1:])), int(frame) // HOLD))
    return out


def test_the_list_is_whole() -> None:
    assert {p.name for p in MESH} == {f"h36m/{n}" for n in ("spin-p1", "spin-p2", "bedlam", "3dcrowdnet", "hybrik")}
    assert {p.name for p in JOINTS} == {f"h36m/{n}" for n in ("3dmppe-p1", "3dmppe-p2", "videopose3d")}
    hashes = {p.hash for p in (*MESH, *JOINTS)}
    assert len(hashes) == 8


@pytest.mark.parametrize("protocol", MESH, ids=lambda p: p.name)
def test_round_trip_of_meshes(protocol: protocols.Protocol, people: People, truth: Truth) -> None:
    assert_mesh_protocol(protocol, people, truth, rows(truth))


@pytest.mark.parametrize("protocol", JOINTS, ids=lambda p: p.name)
def test_round_trip_of_joints(protocol: protocols.Protocol, truth: Truth) -> None:
    assert_joint_protocol(protocol, truth)


def test_which_frames_each_protocol_counts(whole: Truth) -> None:
    truth = whole
    frames = truth["frame"]
    views, subjects = truth["sequence"] % 10, truth["sequence"] // 10000
    by_name = {p.name.split("/")[1]: kept(p, truth) for p in (*MESH, *JOINTS)}
    assert (by_name["spin-p1"] == (frames % 5 == 0)).all()
    assert (by_name["spin-p2"] == ((frames % 5 == 0) & (views == 4))).all()
    assert (by_name["bedlam"] == by_name["spin-p1"]).all()
    assert (by_name["3dcrowdnet"] == ((frames % 64 == 0) & (views == 4))).all()
    assert (by_name["3dmppe-p1"] == ((frames % 64 == 0) & (subjects == 11))).all()
    assert (by_name["3dmppe-p2"] == (frames % 64 == 0)).all()
    assert by_name["spin-p2"].sum() == 2 * 26  # 0, 5 ... 125 of S9 and S11


def test_hybrik_leaves_the_damaged_clips_out(people: People, tmp_path: Path) -> None:
    h36m.write(tmp_path / "root", people, title="Greeting")
    greeting = H36mReader(tmp_path / "root", "test", cache=tmp_path / "cache").truth()
    assert set(greeting["sequence"][kept(protocols.SPIN_P1, greeting)] // 10000) == {9, 11}
    assert set(greeting["sequence"][kept(protocols.HYBRIK, greeting)] // 10000) == {11}
    h36m.write_json(tmp_path / "json", people, action=13)  # act_13_subact_01
    waiting = H36mReader(tmp_path / "json", "test", cache=tmp_path / "cache").truth()
    assert set(waiting["sequence"][kept(protocols.HYBRIK, waiting)] // 10000) == {11}


def test_hybrik_fits_on_more_joints_than_it_counts(truth: Truth) -> None:
    """A joint that is fitted but not counted moves the aligned error."""
    as_joints = replace(protocols.HYBRIK, prediction=replace(protocols.HYBRIK.truth, source="labels"))
    said = labels(truth)
    moved = said.joints3d.copy()
    moved[:, 9] += [0.3, 0.0, 0.0]  # the nose: fitted, not counted
    assert figures(as_joints, replace(said, joints3d=moved), truth)["pa_mpjpe"] > 3
    alone = replace(as_joints, settings={})
    assert figures(alone, replace(said, joints3d=moved), truth)["pa_mpjpe"] < 5e-3


def test_lifting_averages_over_actions(people: People, tmp_path: Path) -> None:
    """Actions count alike, however long they are."""
    for title, subjects in (("Directions 1", (9, 11)), ("Eating", (9,))):
        h36m.write(tmp_path / "part", people, subjects, title, hold=2)
        shutil.copytree(tmp_path / "part", tmp_path / "root", dirs_exist_ok=True)
        shutil.rmtree(tmp_path / "part")
    reader = H36mReader(tmp_path / "root", "test", cache=tmp_path / "cache", **protocols.LIFTING.options)
    truth = reader.truth()
    assert [int((truth["group"] == g).sum()) for g in (2, 4)] == [32, 16]
    said = labels(truth)
    moved = said.joints3d.copy()
    step = np.where(truth["group"] == 2, 0.017, 0.051)  # of 17 joints 16 are not the root: 16 and 48 mm
    moved[:, 1:, 2] += step[:, None]
    evaluation = evaluate(protocols.LIFTING, replace(said, joints3d=moved), truth)
    by_metric = {f.metric: f for f in evaluation.figures(50)}
    assert by_metric["mpjpe"].value == pytest.approx(32, abs=5e-3)  # over frames it were 26.7
    assert by_metric["mpjpe"].count == 48
