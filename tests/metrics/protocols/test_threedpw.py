"""3DPW's protocols on a tiny 3DPW: zero for the truth, the known error for a known one, not zero for a mistake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.readers.threedpw import ThreeDPWReader
from human.regressors import joint_names
from human.skeleton import get_skeleton
from metrics.evaluation import evaluate
from metrics.protocols import PROTOCOLS, Joints, Protocol, protocols_of
from metrics.truth import Truth
from tests.datasets import threedpw
from tests.datasets.people import People, make_people
from tests.metrics.protocols import bodies

NAMES = ("3dpw/challenge", "3dpw/challenge-limbs", "3dpw/hmr2", "3dpw/hybrik", "3dpw/spin", "3dpw/wham")
OWN = [n for n in NAMES if n != "3dpw/hybrik"]  # those whose truth has its annotated gender


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(("male", "female"), frames=5, moving_camera=True, seed=5)


@pytest.fixture(scope="module")
def truths(people: People, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Truth]:
    """By split."""
    root = threedpw.write(tmp_path_factory.mktemp("3dpw"), people)
    return {split: bodies.truth_of(ThreeDPWReader(root, split, cache=root / "cache")) for split in ("test", "all")}


def cases(names: tuple[str, ...] | list[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("protocol", [PROTOCOLS.get(name) for name in names], ids=list(names))


def test_all_are_here() -> None:
    assert tuple(p.name for p in protocols_of("3dpw")) == NAMES
    assert len({p.hash for p in protocols_of("3dpw")}) == len(NAMES)
    for protocol in protocols_of("3dpw"):
        assert all(p.metric in protocol.metrics and 30 < p.value < 120 for p in protocol.published)


@cases(NAMES)
def test_the_truth_is_perfect(protocol: Protocol, truths: dict[str, Truth]) -> None:
    for body, part in bodies.by_gender(truths[protocol.split]):
        bodies.assert_perfect(protocol, bodies.own(part, "smpl" if protocol.truth_body == "neutral" else body), part)
    if protocol.prediction.source == "j19":  # no skeleton has these joints: bodies only
        return
    truth = truths[protocol.split]
    perfect = evaluate(protocol, bodies.joints_only(truth, protocol), truth).figures(resamples=2)
    for figure in perfect:  # joints alone, of both genders together
        assert figure.value == pytest.approx(100.0 if figure.unit == "%" else 0.0, abs=1e-6)
        assert figure.count == (2 if figure.metric == "accel" else 10)  # the middle frame of each track


@cases(["3dpw/challenge", "3dpw/hybrik", "3dpw/spin", "3dpw/wham"])
def test_joints_moved_by_30_mm(protocol: Protocol, truths: dict[str, Truth]) -> None:
    """All but the root's: MPJPE is 30 mm times the share of those that moved."""
    truth = truths[protocol.split]
    said = bodies.shifted(bodies.joints_only(truth, protocol), protocol.root)
    out = {f.metric: f.value for f in evaluate(protocol, said, truth).figures(resamples=2)}
    names = protocol.truth.names
    assert out["mpjpe"] == pytest.approx(30 * (1 - len(set(names) & set(protocol.root)) / len(names)), abs=1e-6)
    assert 0 <= out["pa_mpjpe"] < out["mpjpe"]


def test_limbs_moved_beyond_and_within_the_threshold(truths: dict[str, Truth]) -> None:
    """PCK counts a distance of 50 mm; the area under the curve over 0, 1 ... 199 mm is what lies right of the error."""
    protocol, truth = PROTOCOLS.get("3dpw/challenge-limbs"), truths["all"]
    for metres, pck, area in ((0.0499, 100.0, 149.1), (0.0501, 0.0, 148.9), (0.25, 0.0, 0.0)):
        said = bodies.shifted(bodies.joints_only(truth, protocol), ("pelvis",), metres)
        out = {f.metric: f.value for f in evaluate(protocol, said, truth).figures(resamples=2)}
        assert out["pck3d@50"] == pytest.approx(pck)
        assert out["auc3d"] == pytest.approx(100 * area / 199, abs=0.3)  # by steps of 1 mm


@cases(["3dpw/challenge", "3dpw/hmr2", "3dpw/spin", "3dpw/wham"])
def test_a_turned_body(protocol: Protocol, truths: dict[str, Truth]) -> None:
    for body, part in bodies.by_gender(truths[protocol.split]):
        bodies.assert_turned(protocol, part, body, bodies.posed_truth(protocol))


@cases(OWN)
def test_the_wrong_gender_shows(protocol: Protocol, truths: dict[str, Truth]) -> None:
    for _, part in bodies.by_gender(truths[protocol.split]):
        out = bodies.figures(protocol, bodies.own(part, "smpl"), part)
        assert all(f.value > 1 for n, f in out.items() if f.unit == "mm"), out
        if "auc3d" in out:
            assert out["auc3d"].value < 99.9


def test_hybrik_ignores_the_gender(truths: dict[str, Truth]) -> None:
    for body, part in bodies.by_gender(truths["test"]):
        out = bodies.figures(PROTOCOLS.get("3dpw/hybrik"), bodies.own(part, body), part)
        assert min(f.value for f in out.values()) > 1


@cases(NAMES)
def test_another_root_shows(protocol: Protocol, truths: dict[str, Truth]) -> None:
    for body, part in bodies.by_gender(truths[protocol.split]):
        other = ("pelvis",) if protocol.root != ("pelvis",) else ("left_hip", "right_hip")
        said = bodies.own(part, "smpl" if protocol.truth_body == "neutral" else body)
        out = bodies.figures(replace(protocol, prediction_root=other), said, part)
        for name, figure in out.items():
            if name in ("mpjpe", "pve"):
                assert figure.value > 1, figure
            elif name.startswith(("pa_", "mpjae")):
                assert figure.value < 1e-3  # these know no root
            elif name == "auc3d":
                assert figure.value < 99.5


@cases(NAMES)
def test_swapped_legs_show(protocol: Protocol, truths: dict[str, Truth]) -> None:
    def mirrored(name: str) -> str:
        side, _, rest = name.partition("_")
        if rest not in ("hip", "knee", "ankle", "foot"):
            return name
        return f"{'right' if side == 'left' else 'left'}_{rest}"

    swapped = Joints(protocol.prediction.source, tuple(map(mirrored, protocol.prediction.names)))
    for body, part in bodies.by_gender(truths[protocol.split]):
        said = bodies.own(part, "smpl" if protocol.truth_body == "neutral" else body)
        out = bodies.figures(replace(protocol, prediction=swapped), said, part)
        touched = [f for n, f in out.items() if n in ("mpjpe", "pa_mpjpe")]
        assert all(f.value > 10 for f in touched)
        if "pck3d@50" in out:
            assert out["pck3d@50"].value < 95
            assert out["auc3d"].value < 95


@cases(["3dpw/challenge", "3dpw/spin", "3dpw/wham"])
def test_the_root_left_in_the_world_shows(protocol: Protocol, truths: dict[str, Truth], people: People) -> None:
    for body, part in bodies.by_gender(truths[protocol.split]):
        said = bodies.own(part, body)
        assert said.pose is not None
        for i, (p, f) in enumerate(zip(part["person"], part["frame"], strict=True)):
            said.pose[i, 0] = people.global_orient[p, f]
        out = bodies.figures(protocol, said, part)
        assert out["mpjpe"].value > 100
        assert out["pa_mpjpe"].value < 1e-4  # no wonder: Procrustes turns it back
        if "mpjae" in out:
            assert out["mpjae"].value > 30
            assert out["pa_mpjae"].value < 1e-3


def test_a_jump_is_an_acceleration_error(truths: dict[str, Truth]) -> None:
    protocol, truth = PROTOCOLS.get("3dpw/wham"), truths["test"]
    said = bodies.joints_only(truth, protocol)
    assert said.joints3d is not None
    joints = said.joints3d.copy()
    middle = (truth["person"] == 0) & (truth["frame"] == 2)
    joints[middle, get_skeleton(said.skeleton).index("left_wrist")] += [0.0, 0.03, 0.0]
    figure = evaluate(protocol, replace(said, joints3d=joints), truth).figures(resamples=2)[-1]
    assert (figure.metric, figure.count) == ("accel", 2)
    assert figure.value == pytest.approx(900 * 2 * 0.03 / 14 / 2)


def test_without_4d_humans_file_the_other_protocols_go_on(truths: dict[str, Truth], body_files: Path) -> None:
    """One note that names the file; and with it, other figures than SPIN's."""
    body, part = bodies.by_gender(truths["test"])[0]
    said, protocol = bodies.turned(bodies.own(part, body)), PROTOCOLS.get("3dpw/hmr2")
    ours, spins = (bodies.figures(p, said, part)["mpjpe"].value for p in (protocol, PROTOCOLS.get("3dpw/spin")))
    assert abs(ours - spins) > 0.1
    file = body_files / "SMPL_to_J19.pkl"
    content = file.read_bytes()
    try:
        file.unlink()
        out = evaluate(protocol, said, part)
        assert not out.figures(resamples=2)
        assert "SMPL_to_J19.pkl" in out.notes[0]
        assert "4D-Humans" in out.notes[0]
    finally:
        file.write_bytes(content)


def test_the_j14_order_is_the_published_one() -> None:
    names = PROTOCOLS.get("3dpw/spin").truth.names
    assert names == joint_names("j14")
    assert names[:6] == ("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle")


def test_frames_without_detections_are_not_counted(people: People, tmp_path: Path) -> None:
    content = threedpw.labels(people, "downtown_arguing_00")
    content["poses2d"][0][1] = 0
    root = threedpw.write(tmp_path / "3dpw", people)
    threedpw.write_labels(root, "test", content)
    truth = ThreeDPWReader(root, cache=tmp_path / "cache").truth()
    out = evaluate(PROTOCOLS.get("3dpw/spin"), bodies.joints_only(truth, PROTOCOLS.get("3dpw/spin")), truth)
    assert out.figures(resamples=2)[0].count == 9
    assert np.isfinite(out.per_person("mpjpe")).all()
