"""EMDB's protocols on a tiny EMDB: zero for the truth, the known error for a known one, not zero for a mistake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.readers.emdb import EmdbReader
from metrics.evaluation import evaluate
from metrics.protocols import PROTOCOLS, Protocol
from metrics.truth import Truth
from tests.datasets import emdb
from tests.datasets.people import People, make_people
from tests.metrics.protocols import bodies

NAMES = ["emdb/1", "emdb/camerahmr", "emdb/wham"]
PROTOCOL = pytest.mark.parametrize("protocol", [PROTOCOLS.get(name) for name in NAMES], ids=NAMES)


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(("male", "female"), frames=4, moving_camera=True, seed=6)


@pytest.fixture(scope="module")
def truth(people: People, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    root = tmp_path_factory.mktemp("emdb")
    for person, name in enumerate(("P0_00_mvs_a", "P1_10_walk")):
        emdb.write(root, people, name, person=person)
    return bodies.truth_of(EmdbReader(root, "emdb1", cache=root / "cache"))


def test_all_are_here() -> None:
    assert [p.name for p in bodies.of_set("emdb", "emdb1")] == NAMES
    assert len({PROTOCOLS.get(name).hash for name in NAMES}) == 3
    for protocol in map(PROTOCOLS.get, NAMES):
        assert all(p.metric in protocol.metrics and 30 < p.value < 120 for p in protocol.published)


@PROTOCOL
def test_the_truth_is_perfect(protocol: Protocol, truth: Truth) -> None:
    for body, part in bodies.by_gender(truth):
        bodies.assert_perfect(protocol, bodies.own(part, body), part)


@PROTOCOL
def test_joints_moved_by_30_mm(protocol: Protocol, truth: Truth) -> None:
    said = bodies.shifted(bodies.joints_only(truth, protocol), protocol.root)
    out = {f.metric: f for f in evaluate(protocol, said, truth).figures(resamples=2)}
    assert out["mpjpe"].value == pytest.approx(30 * 22 / 24, abs=1e-6)
    assert out["mpjpe"].count == 8
    assert "pve" not in out  # joints alone have no mesh


@PROTOCOL
def test_a_turned_body(protocol: Protocol, truth: Truth) -> None:
    for body, part in bodies.by_gender(truth):
        bodies.assert_turned(protocol, part, body, bodies.posed_truth(protocol))


@PROTOCOL
def test_mistakes_show(protocol: Protocol, truth: Truth, people: People) -> None:
    for body, part in bodies.by_gender(truth):
        said = bodies.own(part, body)
        neutral = bodies.figures(protocol, replace(said, body="smpl"), part)
        assert all(f.value > 1 for f in neutral.values() if f.unit == "mm")
        other = bodies.figures(replace(protocol, prediction_root=("pelvis",)), said, part)
        assert min(other["mpjpe"].value, other["pve"].value) > 1
        assert other["pa_mpjpe"].value < 1e-5
        in_world = bodies.own(part, body)
        assert in_world.pose is not None
        in_world.pose[:, 0] = people.global_orient[part["sequence"], part["frame"]]
        out = bodies.figures(protocol, in_world, part)
        assert min(out["mpjpe"].value, out["pve"].value) > 100
        assert out["pa_mpjpe"].value < 1e-4


def test_kinematic_and_regressed_joints_differ(truth: Truth) -> None:
    """A prediction's joints taken from another source than the truth's are not the same joints."""
    official, wham, neutral = (PROTOCOLS.get(name) for name in ("emdb/1", "emdb/wham", "emdb/camerahmr"))
    for body, part in bodies.by_gender(truth):
        said = bodies.own(part, body)
        for one, other in ((official, wham), (wham, neutral)):
            mixed = replace(one, prediction=other.prediction, metrics=("mpjpe", "pa_mpjpe"))
            out = bodies.figures(mixed, said, part)
            assert min(f.value for f in out.values()) > 0.05


def test_a_similarity_is_undone_by_procrustes_alone(truth: Truth) -> None:
    protocol = PROTOCOLS.get("emdb/1")
    said = bodies.joints_only(truth, protocol)
    assert said.joints3d is not None
    bigger = replace(said, joints3d=1.1 * said.joints3d + [0.3, 0.2, 0.1])
    out = {f.metric: f.value for f in evaluate(protocol, bigger, truth).figures(resamples=2)}
    joints = said.joints3d[:, :24] - said.joints3d[:, 1:3].mean(1, keepdims=True)
    assert out["mpjpe"] == pytest.approx(100 * np.linalg.norm(joints, axis=-1).mean(), abs=1e-6)
    assert out["pa_mpjpe"] == pytest.approx(0, abs=1e-6)
