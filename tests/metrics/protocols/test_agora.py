"""AGORA's protocol on a tiny AGORA: exact for the truth and for known errors, misses and false alarms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.readers.agora import AgoraReader
from human.errors import PosesynError
from human.skeleton import POSE32, SMPLX55, convert
from metrics.evaluation import Figure, evaluate
from metrics.protocols import Protocol, protocols_of
from metrics.protocols.agora import AGORA_SMPLX
from metrics.truth import Predictions, Truth
from tests.datasets import agora
from tests.datasets.people import make_people

FILE = "body_verts_smplx.npy"


@pytest.fixture(scope="module")
def truth(body_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Truth]:
    """Three pictures of three neutral persons; the last of each is not valid; the middle picture is not "bfh"."""
    root = tmp_path_factory.mktemp("agora")
    agora.write(root, make_people(("neutral",) * 3, 3, kind="smplx", seed=4), children=())
    np.save(body_files / FILE, np.arange(0, 10475, 3))
    yield AgoraReader(root, cache=root / "cache", everyone=True).truth()
    (body_files / FILE).unlink()


def perfect(truth: Truth) -> Predictions:
    """Everybody who is valid, under names of their own."""
    rows = np.flatnonzero(truth["valid"])
    parameters = {name: np.array(truth[name], np.float64)[rows] for name in ("pose", "betas", "transl")}
    return Predictions(
        [f"found/{k}" for k in range(len(rows))],
        body="smplx",
        skeleton="smplx55",
        joints2d=np.array(truth["native2d"], np.float64)[rows, :, :2],
        pictures=[truth.pictures[i] for i in rows],
        **parameters,
    )


def figures(said: Predictions, truth: Truth, protocol: Protocol = AGORA_SMPLX) -> dict[str, Figure]:
    out = {f.metric: f for f in evaluate(protocol, said, truth).figures(resamples=2)}
    assert list(out) == list(AGORA_SMPLX.metrics)
    return out


def values(said: Predictions, truth: Truth, protocol: Protocol = AGORA_SMPLX) -> list[float]:
    return [f.value for f in figures(said, truth, protocol).values()]


def test_it_is_here() -> None:
    assert protocols_of("agora") == [AGORA_SMPLX]


def test_the_truth_is_perfect_in_any_order(truth: Truth) -> None:
    said = perfect(truth)
    assert len(said) == 6
    for order in (np.arange(6), np.random.default_rng(0).permutation(6)):
        found = figures(said.rows(order), truth)
        # Labels of joints are of 32 bits: a hundredth of a millimetre at most.
        assert [f.value for f in found.values()] == pytest.approx([0, 0, 0, 0, 100, 100, 100], abs=0.01)
        assert {f.count for f in found.values()} == {4}  # without the picture that is not "bfh"
        assert {f.missing for f in found.values()} == {0}


def test_a_miss_and_a_false_alarm(truth: Truth) -> None:
    said = perfect(truth)
    found = figures(said.rows(np.arange(1, 6)), truth)
    assert (found["f1"].value, found["recall"].value) == pytest.approx((100 * 3 / 3.5, 75.0))
    assert (found["precision"].value, found["mpjpe"].value) == pytest.approx((100.0, 0.0), abs=0.01)
    assert found["f1"].missing == 1
    far = replace(said, joints2d=said.joints2d + np.where(np.arange(6) == 0, 5000, 0)[:, None, None])  # type: ignore[operator]
    found = figures(far, truth)
    assert (found["f1"].value, found["precision"].value, found["recall"].value) == pytest.approx((75, 75, 75))
    elsewhere = replace(said, pictures=["other.png"] * 6)
    found_scores = {f.metric: f.value for f in evaluate(AGORA_SMPLX, elsewhere, truth).figures(2)}
    assert found_scores["f1"] == found_scores["recall"] == 0


def test_errors_are_divided_by_the_rounded_score(truth: Truth) -> None:
    said = perfect(truth)
    assert said.betas is not None
    taller = replace(said, betas=said.betas + 0.7).rows(np.arange(1, 6))
    mpjpe, mve, nmje, nmve, f1, _, _ = values(taller, truth)
    assert mpjpe > 2
    assert mve > 2
    assert f1 == pytest.approx(85.714, abs=1e-3)
    assert (nmje, nmve) == pytest.approx((mpjpe / 0.86, mve / 0.86))


def test_joints_moved_by_30_mm(truth: Truth) -> None:
    rows = np.flatnonzero(truth["valid"])
    solid = np.array(truth["native3d"], np.float64)[rows, :, :3]
    solid[:, np.setdiff1d(np.arange(55), SMPLX55.indices("left_hip", "right_hip")), 1] += 0.03
    said = perfect(truth)
    assert said.joints2d is not None
    solid, flat = (convert(x, np.ones((6, 55)), "smplx55", "pose32")[0] for x in (solid, said.joints2d))
    said = Predictions(said.ids, joints3d=solid, joints2d=flat, pictures=said.pictures)
    out = evaluate(AGORA_SMPLX, said, truth)
    found = {f.metric: f.value for f in out.figures(2)}
    assert found["mpjpe"] == pytest.approx(30 * 20 / 22, abs=1e-3)
    assert found["nmje"] == pytest.approx(30 * 20 / 22, abs=1e-3)
    assert "mve" not in found
    assert any(note.startswith("mve") for note in out.notes)


def test_joints_of_another_skeleton_find_their_person(truth: Truth) -> None:
    """POSE32 has no jaw and no eyeballs: matched by 22 joints."""
    said = perfect(truth)
    assert said.joints2d is not None
    points, _ = convert(said.joints2d, np.ones((6, 55)), "smplx55", "pose32")
    found = figures(replace(said, skeleton="pose32", joints2d=points), truth)
    assert found["f1"].value == 100
    assert len(set(SMPLX55.joints[:24]) & set(POSE32.joints)) == 22


def test_predictions_need_joints_in_2d(truth: Truth) -> None:
    with pytest.raises(PosesynError, match="agora/smplx matches by 2D joints"):
        evaluate(AGORA_SMPLX, replace(perfect(truth), joints2d=None), truth)


def test_without_the_list_of_vertices_there_is_no_mve(truth: Truth, body_files: Path) -> None:
    content = (body_files / FILE).read_bytes()
    try:
        (body_files / FILE).unlink()
        out = evaluate(AGORA_SMPLX, perfect(truth), truth)
        assert {f.metric for f in out.figures(2)} == {"mpjpe", "nmje", "f1", "precision", "recall"}
        assert any(FILE in note for note in out.notes)
        np.save(body_files / FILE, np.array([0, 20000]))
        with pytest.raises(PosesynError, match="holds no numbers of 10475 vertices"):
            evaluate(AGORA_SMPLX, perfect(truth), truth)
        (body_files / FILE).write_bytes(b"junk")
        with pytest.raises(PosesynError, match="is damaged"):
            evaluate(AGORA_SMPLX, perfect(truth), truth)
    finally:
        (body_files / FILE).write_bytes(content)


Mistake = Callable[[Protocol, Predictions], tuple[Protocol, Predictions]]


def wrong_root(protocol: Protocol, said: Predictions) -> tuple[Protocol, Predictions]:
    return replace(protocol, prediction_root=("pelvis",)), said


def wrong_gender(protocol: Protocol, said: Predictions) -> tuple[Protocol, Predictions]:
    return protocol, replace(said, body="smplx_male")


def world_frame(protocol: Protocol, said: Predictions) -> tuple[Protocol, Predictions]:
    assert said.pose is not None
    pose = said.pose.copy()
    pose[:, 0] = [0.1, 2.0, 0.3]
    return protocol, replace(said, pose=pose)


def swapped_legs(protocol: Protocol, said: Predictions) -> tuple[Protocol, Predictions]:
    swap = {
        "left_knee": "right_knee",
        "right_knee": "left_knee",
        "left_ankle": "right_ankle",
        "right_ankle": "left_ankle",
    }
    names = tuple(swap.get(n, n) for n in protocol.prediction.names)
    return replace(protocol, prediction=replace(protocol.prediction, names=names)), said


@pytest.mark.parametrize("mistake", [wrong_root, wrong_gender, world_frame, swapped_legs])
def test_a_mistake_is_seen(truth: Truth, mistake: Mistake) -> None:
    protocol, said = mistake(AGORA_SMPLX, perfect(truth))
    assert values(said, truth, protocol)[0] > 5
