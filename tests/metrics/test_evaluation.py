"""Evaluations of persons with exact truth: zero for the truth, the known error for a known error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from human.errors import PosesynError
from human.regressors import joint_names
from human.skeleton import COCO17, POSE32, SMPL24, convert
from metrics.evaluation import evaluate, interval
from metrics.protocols import Joints, Protocol
from metrics.truth import GENDERS, Predictions, Truth
from tests.datasets.people import People, make_people

J14 = joint_names("j14")


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(genders=("male", "female"), frames=3)


def both(people: People) -> tuple[Truth, Predictions]:
    """The persons as a truth, and their own parameters as predictions."""
    count, frames = len(people.genders), people.frames
    rows = [(p, f) for p in range(count) for f in range(frames)]

    def stack(of: Any) -> np.ndarray:
        return np.stack([of(p)[f] for p, f in rows])

    ids = [f"{p}/{f}" for p, f in rows]
    pictures = [f"{f}.jpg" for _, f in rows]
    pixels = stack(lambda p: people.pixels(0, p))[:, :24]
    joints = stack(lambda p: people.joints(0, p))[:, :24]
    one = np.ones((*pixels.shape[:2], 1))
    body_pose = np.stack([people.body_pose[p, f] for p, f in rows])
    pose = np.concatenate([stack(lambda p: people.camera_orient(0, p))[:, None], body_pose], 1)
    columns = {
        "native2d": np.concatenate([pixels, one], -1),
        "native3d": np.concatenate([joints, one], -1),
        "bbox_xyxy": np.concatenate([pixels.min(1), pixels.max(1)], 1),
        "intrinsics": np.tile(people.intrinsics[:1], (len(rows), 1, 1)),
        "pose": pose,
        "betas": np.stack([people.betas[p] for p, _ in rows]),
        "transl": stack(lambda p: people.camera_transl(0, p)),
        "gender": np.array([GENDERS.index(people.genders[p]) for p, _ in rows], np.int8),
        "sequence": np.array([p for p, _ in rows]),
        "frame": np.array([f for _, f in rows]),
    }
    truth = Truth("people", "test", "smpl24", "smpl", ids, pictures, columns)
    pose32 = stack(lambda p: people.joints(0, p)), stack(lambda p: people.pixels(0, p))
    said = Predictions(ids, joints3d=pose32[0], joints2d=pose32[1])
    return truth, said


def with_body(said: Predictions, truth: Truth, body: str, rows: slice) -> tuple[Predictions, Truth]:
    """The rows whose body this is, with its parameters."""
    index = np.arange(len(truth))[rows]
    part, same = truth.rows(index), said.rows(index)
    return replace(same, body=body, pose=part["pose"], betas=part["betas"], transl=part["transl"]), part


def make(source: str, names: tuple[str, ...], root: tuple[str, ...], **changes: Any) -> Protocol:
    joints = Joints(source, names)
    facts: dict[str, Any] = {"metrics": ("mpjpe", "pa_mpjpe"), "source": "here", "root": root, **changes}
    return Protocol("people/here", "people", "test", truth=joints, prediction=joints, **facts)


LABELS = make("labels", SMPL24.joints, ("pelvis",))
REGRESSED = make("h36m", J14, ("pelvis",), metrics=("mpjpe", "pa_mpjpe", "pve"))
IN_BOX = make("labels", SMPL24.joints, (), metrics=("pck@0.05",), normaliser="bbox", average="label")
PROTOCOLS = [
    LABELS,
    REGRESSED,
    IN_BOX,
    make("labels", SMPL24.joints, ("left_hip", "right_hip")),
    make(
        "kinematic",
        SMPL24.joints,
        ("left_hip", "right_hip"),
        metrics=(
            "mpjpe",
            "pa_mpjpe",
            "n_mpjpe",
            "pve",
            "pa_pve",
            "pa_pve_mesh",
            "pve_t_sc",
            "mpjae",
            "pa_mpjae",
            "pck3d@50",
            "pa_pck3d@50",
            "auc3d",
            "pa_auc3d",
        ),
    ),
    make("kinematic", SMPL24.joints, (), metrics=("mpjpe", "auc3d"), settings={"curve": "challenge"}),
    make("posed24", SMPL24.joints, ("left_hip", "right_hip"), metrics=("mpjpe", "pa_mpjpe", "pve")),
    make("labels", SMPL24.joints, (), metrics=("pck@0.05",), normaliser="torso", average="joint"),
    make("labels", SMPL24.joints, (), metrics=("pck@0.05",), normaliser="box"),
]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: f"{p.truth.source}-{'+'.join(p.root)}-{p.normaliser}")
@pytest.mark.parametrize("person", [0, 1])
def test_the_truth_is_perfect(people: People, protocol: Protocol, person: int) -> None:
    truth, said = both(people)
    rows = slice(3 * person, 3 * person + 3)
    same, part = with_body(said, truth, f"smpl_{people.genders[person]}", rows)
    figures = evaluate(protocol, same, part).figures(resamples=50)
    assert [f.metric for f in figures] == list(protocol.metrics)
    for figure in figures:
        goal = 100.0 if figure.unit == "%" else 0.0
        if figure.metric in ("auc3d", "pa_auc3d") and not protocol.settings:
            goal = 100 * 30 / 31  # no distance is less than the first threshold, 0
        assert figure.value == pytest.approx(goal, abs=1e-6), figure
        assert figure.low == pytest.approx(goal, abs=1e-6)
        assert (figure.count, figure.missing) == (3, 0)


def test_a_wrong_gender_a_wrong_root_and_swapped_legs_show(people: People) -> None:
    truth, said = both(people)
    same, part = with_body(said, truth, "smpl", slice(0, 3))
    protocol = REGRESSED
    wrong_gender = evaluate(protocol, same, part).figures()
    assert all(f.value > 5 for f in wrong_gender)
    same, part = with_body(said, truth, "smpl_male", slice(0, 3))
    other_root = evaluate(replace(protocol, prediction_root=("thorax",)), same, part).figures()
    assert other_root[0].value > 100
    assert other_root[1].value == pytest.approx(0, abs=1e-6)  # Procrustes needs no root
    swapped = tuple(n.replace("left", "?").replace("right", "left").replace("?", "right") for n in J14)
    figures = evaluate(replace(protocol, prediction=Joints("h36m", swapped)), same, part).figures()
    assert figures[0].value > 20
    assert figures[1].value > 20


def test_a_known_error(people: People) -> None:
    truth, said = both(people)
    shifted = said.joints3d.copy()
    wrist = POSE32.index("left_wrist")
    shifted[:, wrist] += [0.0, 0.0, 0.048]
    made = evaluate(LABELS, replace(said, joints3d=shifted), truth)
    figures, parts = made.figures(), made.breakdown()["mpjpe"]
    assert figures[0].value == pytest.approx(48 / 24, abs=1e-9)
    wanted = {name: 48.0 if name == "left_wrist" else 0.0 for name in SMPL24.joints}
    assert parts["joints"] == pytest.approx(wanted, abs=1e-9)
    assert sum(b["persons"] for b in parts["box_px"]) == 6
    assert all(b["mean"] == pytest.approx(2) for b in parts["box_px"] + parts["labelled_joints"])
    assert 0 < figures[1].value < 48 / 4  # least squares spreads it
    pixels = said.joints2d.copy()
    side = (truth["bbox_xyxy"][:, 2:] - truth["bbox_xyxy"][:, :2]).max(1)
    pixels[:, wrist, 0] += 0.051 * side
    pixels[:, POSE32.index("right_wrist"), 0] += 0.049 * side
    (figure,) = evaluate(IN_BOX, replace(said, joints2d=pixels), truth).figures()
    assert figure.value == pytest.approx(100 * 23 / 24)


def test_a_turned_body_and_a_scaled_one(people: People) -> None:
    """A turn about the root shows in angles and not after Procrustes; another size neither there nor in N-MPJPE."""
    truth, said = both(people)
    same, part = with_body(said, truth, "smpl_male", slice(0, 3))
    assert same.pose is not None
    pose = np.array(same.pose, np.float64)
    pose[:, 0] = (Rotation.from_euler("z", 90, degrees=True) * Rotation.from_rotvec(pose[:, 0])).as_rotvec()
    metrics = ("mpjpe", "pa_mpjpe", "mpjae", "pa_mpjae")
    protocol = make("kinematic", SMPL24.joints, ("pelvis",), metrics=metrics)
    values = {f.metric: f.value for f in evaluate(protocol, replace(same, pose=pose), part).figures()}
    assert values["mpjpe"] > 100
    assert values["pa_mpjpe"] == pytest.approx(0, abs=1e-6)
    assert values["mpjae"] == pytest.approx(90, abs=1e-5)
    assert values["pa_mpjae"] == pytest.approx(0, abs=1e-4)
    protocol = make("labels", SMPL24.joints, ("pelvis",), metrics=("mpjpe", "n_mpjpe"))
    larger = replace(said, joints3d=1.1 * said.joints3d)
    scaled = {f.metric: f.value for f in evaluate(protocol, larger, truth).figures()}
    assert scaled["mpjpe"] > 20
    assert scaled["n_mpjpe"] == pytest.approx(0, abs=1e-6)


def test_acceleration_of_tracks(body_files: Path) -> None:
    """A jump of one frame is an acceleration error of that frame's and its neighbours' second differences."""
    people = make_people(genders=("male", "female"), frames=5, seed=3)
    truth, said = both(people)
    protocol = make("labels", SMPL24.joints, (), metrics=("accel",))
    shuffled = np.random.default_rng(0).permutation(len(truth))
    (figure,) = evaluate(protocol, said, truth.rows(shuffled)).figures(resamples=10)
    assert figure.value == pytest.approx(0, abs=1e-9)
    assert figure.count == 6  # of 5 frames 3 have both neighbours, twice
    jumped = said.joints3d.copy()
    jumped[2] += [0.01, 0, 0]  # the middle frame of the first person
    (figure,) = evaluate(protocol, replace(said, joints3d=jumped), truth.rows(shuffled)).figures(resamples=10)
    assert figure.value == pytest.approx(900 * (0.01 + 0.02 + 0.01) / 6)


def test_average_precision_counts_people(people: People) -> None:
    truth, said = both(people)
    pixels, conf = convert(said.joints2d, np.ones(said.joints2d.shape[:2]), "pose32", "coco17")
    native = np.concatenate([pixels, conf[..., None]], -1)
    columns = {**truth.columns, "native2d": native, "state": np.full(conf.shape, 2), "area": np.full(len(truth), 5e3)}
    truth = replace(truth, columns=columns, skeleton="coco17")
    protocol = make("labels", COCO17.joints, (), metrics=("ap", "ar"))
    figures = evaluate(protocol, said, truth).figures()
    assert [f.value for f in figures] == pytest.approx([100, 100])
    half = said.rows(np.arange(0, len(said), 2))
    figures = evaluate(protocol, half, truth).figures()
    assert figures[1].value == pytest.approx(50)
    assert figures[0].value == pytest.approx(100 * 51 / 101)


def test_missing_and_broken_predictions_are_told(people: People) -> None:
    truth, said = both(people)
    broken = said.joints3d.copy()
    broken[1, 5] = np.nan
    part = replace(said, joints3d=broken).rows([0, 1, 2, 3])
    (mpjpe, pa) = evaluate(LABELS, part, truth).figures()
    assert (mpjpe.count, mpjpe.missing) == (3, 3) == (pa.count, pa.missing)
    assert mpjpe.value == pytest.approx(0, abs=1e-9)
    nobody = evaluate(LABELS, said.rows(np.zeros(0, int)), truth).figures()
    assert np.isnan(nobody[0].value)
    assert nobody[0].missing == 6
    with pytest.raises(PosesynError, match="none of the predictions' persons"):
        evaluate(LABELS, replace(said, ids=[f"x{i}" for i in said.ids]), truth)
    with pytest.raises(PosesynError, match="twice"):
        evaluate(LABELS, replace(said, ids=["0/0"] * len(said)), truth)
    out = evaluate(REGRESSED, said, truth)
    assert [f.metric for f in out.figures()] == []
    assert any("no body parameters" in note for note in out.notes) or any("neither a body" in n for n in out.notes)


def test_another_set_or_nobody_left_is_one_error(people: People) -> None:
    truth, said = both(people)
    with pytest.raises(PosesynError, match="is for elsewhere"):
        evaluate(replace(LABELS, dataset="elsewhere"), said, truth)
    with pytest.raises(PosesynError, match="leaves nobody"):
        evaluate(replace(LABELS, keep=(("frame", "==", 77),)), said, truth)
    with pytest.raises(PosesynError, match="has no 'area'"):
        evaluate(replace(LABELS, keep=(("area", ">=", 77),)), said, truth)
    kept = evaluate(replace(LABELS, keep=(("frame", "every", 2), ("sequence", "in", (0, 1)))), said, truth)
    assert kept.figures()[0].count == 4


def test_hash_names_the_definition() -> None:
    one = LABELS
    assert one.hash == replace(one, name="other/name", note="other").hash
    changed = [
        replace(one, root=("neck",)),
        replace(one, truth_body="neutral"),
        replace(one, keep=(("frame", "every", 5),)),
    ]
    assert len({one.hash, *(p.hash for p in changed)}) == 4


def test_intervals_cover_and_repeat() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(60):
        groups = np.repeat(np.arange(40), 5)
        values = (rng.normal(50, 10, 40)[groups] + rng.normal(0, 3, 200))[:, None]
        value, low, high = interval(values, np.ones((200, 1)), groups, f"{trial}", 400)
        assert low < value < high
        inside += low < 50 < high
        assert interval(values, np.ones((200, 1)), groups, f"{trial}", 400) == (value, low, high)
    assert inside >= 50
