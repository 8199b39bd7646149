"""EMDB's protocols on a tiny EMDB: zero for the truth, the known error for a known one, not zero for a mistake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from datamodules.readers.emdb import EmdbReader
from metrics.evaluation import evaluate
from metrics.protocols import PROTOCOLS, Protocol
from metrics.truth import Predictions, Truth
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


WORLD = ["emdb/2", "emdb/2-feet", "emdb/2-path"]
IN_WORLD = pytest.mark.parametrize("protocol", [PROTOCOLS.get(name) for name in WORLD], ids=WORLD)


def test_all_are_here() -> None:
    assert [p.name for p in bodies.of_set("emdb", "emdb1")] == NAMES
    assert [p.name for p in bodies.of_set("emdb", "emdb2")] == WORLD
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


def test_a_jump_is_an_acceleration_error(truth: Truth) -> None:
    """WHAM leaves out a value at either end of a track: with 4 frames none is left, with 5 the one in the middle."""
    protocol = PROTOCOLS.get("emdb/wham")
    said = bodies.joints_only(truth, protocol)
    out = evaluate(protocol, said, truth)
    assert out.figures(resamples=2)[-1].count == 0
    loose = replace(protocol, settings={"fps": 30, "margin": 0})
    assert said.joints3d is not None
    jumped = said.joints3d.copy()
    jumped[1, 20] += [0.0, 0.05, 0.0]  # a wrist of the first track's second frame
    figure = evaluate(loose, replace(said, joints3d=jumped), truth).figures(resamples=2)[-1]
    assert (figure.metric, figure.count) == ("accel", 4)
    assert figure.value == pytest.approx(900 / 24 * (2 * 0.05 + 0.05) / 4)


# -- EMDB 2 ----------------------------------------------------------------------------------------------------------
FRAMES = 6


@pytest.fixture(scope="module")
def walkers(body_files: Path) -> People:
    return make_people(("male", "female"), frames=FRAMES, moving_camera=True, seed=9)


@pytest.fixture(scope="module")
def world_truth(walkers: People, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    root = tmp_path_factory.mktemp("emdb2")
    for person, name in enumerate(("P2_20_outdoor_walk", "P3_31_outdoor_workout")):
        emdb.write(root, walkers, name, emdb1=False, emdb2=True, person=person)
    return bodies.truth_of(EmdbReader(root, "emdb2", cache=root / "cache"))


def in_world(people: People, part: Truth, body: str) -> Predictions:
    """The truth's parameters in the world, as EMDB stores them."""
    said = bodies.own(part, body)
    assert said.pose is not None
    pose, rows = said.pose.copy(), (part["sequence"], part["frame"])
    pose[:, 0] = people.global_orient[rows]
    return replace(said, pose=pose, transl=people.transl[rows])


def moved(said: Predictions, people: People, person: int, turn: Rotation, shift: list[float]) -> Predictions:
    """All of it turned about the origin and shifted: another world of the same motion."""
    assert said.pose is not None
    assert said.transl is not None
    body = people.body(person)
    with torch.no_grad():
        betas = torch.from_numpy(people.betas[person][None])
        rest = body.joints(betas, *(torch.zeros(1, *n, dtype=torch.float64) for n in ((23, 3), (3,))))[0, 0].numpy()
    pose = said.pose.copy()
    pose[:, 0] = (turn * Rotation.from_rotvec(pose[:, 0])).as_rotvec()
    return replace(said, pose=pose, transl=turn.apply(said.transl + rest) - rest + shift)


def values(protocol: Protocol, said: Predictions, truth: Truth) -> dict[str, float]:
    return {f.metric: f.value for f in evaluate(protocol, said, truth).figures(resamples=2)}


@IN_WORLD
def test_the_true_motion_is_perfect_in_any_world(protocol: Protocol, world_truth: Truth, walkers: People) -> None:
    turn = Rotation.from_euler("xyz", [np.pi / 2, 0.3, -0.7])  # z up, say
    for person, (body, part) in enumerate(bodies.by_gender(world_truth)):
        said = in_world(walkers, part, body)
        for prediction in (said, moved(said, walkers, person, turn, [3.0, -2.0, 1.0])):
            out = values(protocol, prediction, part)
            assert list(out) == list(protocol.metrics)
            for metric in {"w_mpjpe", "wa_mpjpe", "rte"} & set(out):
                assert out[metric] == pytest.approx(0, abs=2e-3)  # the camera is stored as float32
            if "jitter" in out:
                joints = walkers.world_joints(person)[:, :24]
                third = np.linalg.norm(np.diff(joints, 3, axis=0), axis=-1).mean() * 30**3 / 10
                assert out["jitter"] == pytest.approx(third, rel=1e-6)


def test_drift_and_stepping(world_truth: Truth, walkers: People) -> None:
    """A prediction that slides sideways by 10 cm a frame: zero before, the known distance after the alignment."""
    for body, part in bodies.by_gender(world_truth):
        said = in_world(walkers, part, body)
        assert said.transl is not None
        late = np.clip(np.arange(FRAMES) - 1, 0, None)  # the first two frames are right
        drifting = replace(said, transl=said.transl + 0.1 * late[:, None] * [1.0, 0, 0])
        out = values(PROTOCOLS.get("emdb/2"), drifting, part)
        assert out["w_mpjpe"] == pytest.approx(100 * late.mean(), abs=0.01)
        assert 5 < out["wa_mpjpe"] < out["w_mpjpe"]  # a fit of the whole track shares the error out
        path = values(PROTOCOLS.get("emdb/2-path"), drifting, part)
        assert path["rte"] > 5


def test_feet_that_slide_while_they_stand(world_truth: Truth, walkers: People) -> None:
    """The truth stands still; the prediction's feet move by 4 cm a frame."""
    body, part = bodies.by_gender(world_truth)[0]
    still = in_world(walkers, part, body)
    assert still.pose is not None
    assert still.transl is not None
    pose, transl = np.tile(still.pose[:1], (FRAMES, 1, 1)), np.tile(still.transl[:1], (FRAMES, 1))
    camera = np.asarray(part["camera"], np.float64)
    rest = walkers.world_joints(0)[0, 0] - walkers.transl[0, 0]
    turned = pose.copy()
    turned[:, 0] = (Rotation.from_matrix(camera[:, :3, :3]) * Rotation.from_rotvec(pose[:, 0])).as_rotvec()
    before = np.einsum("nij,nj->ni", camera[:, :3, :3], transl + rest) + camera[:, :3, 3] - rest
    truth = replace(part, columns={**part.columns, "pose": turned, "transl": before})
    protocol = PROTOCOLS.get("emdb/2-feet")
    assert values(protocol, replace(still, pose=pose, transl=transl), truth)["foot_sliding"] == pytest.approx(
        0, abs=1e-3
    )
    sliding = replace(still, pose=pose, transl=transl + 0.04 * np.arange(FRAMES)[:, None] * [0.0, 0.6, 0.8])
    evaluation = evaluate(protocol, sliding, truth)
    (figure,) = evaluation.figures(resamples=2)
    assert figure.value == pytest.approx(40, abs=1e-3)
    assert figure.count == FRAMES - 1
    assert evaluation.values["foot_sliding"][1].sum() == 4 * (FRAMES - 1)


@IN_WORLD
def test_the_camera_frame_is_no_world(protocol: Protocol, world_truth: Truth) -> None:
    """Parameters before a moving camera, given as if they were in the world, are not perfect."""
    for body, part in bodies.by_gender(world_truth):
        out = values(protocol, bodies.own(part, body), part)
        for metric in {"w_mpjpe", "wa_mpjpe", "rte"} & set(out):
            assert out[metric] > 1
