"""AGORA's protocol on a tiny AGORA: exact for the truth and for known errors, misses and false alarms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.readers.agora import AgoraReader
from human.body import load_body
from human.errors import PosesynError
from human.licensed import load_licensed
from human.skeleton import POSE32, SMPL24, SMPLX55, convert
from metrics.case import Case
from metrics.evaluation import Figure, evaluate
from metrics.protocols import Protocol, protocols_of
from metrics.protocols.agora import AGORA_SMPL, AGORA_SMPLX
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


def test_they_are_here() -> None:
    assert protocols_of("agora") == [AGORA_SMPL, AGORA_SMPLX]
    assert AGORA_SMPL.hash != AGORA_SMPLX.hash


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


# -- SMPL, and children ----------------------------------------------------------------------------------------------
@pytest.fixture
def templates(body_files: Path) -> Iterator[Path]:
    """Made-up children's templates: small, with large heads."""
    files = []
    for kind in ("smpl", "smplx"):
        adult = load_body(kind).v_template.double().numpy()
        child = 0.55 * adult * (1 + 0.3 * (adult[:, 1:2] > 0.2))
        files.append(body_files / kind / f"{kind}_kid_template.npy")
        np.save(files[-1], child + np.array([0.3, 1.0, 0.2]))  # its place does not matter
        np.save(body_files / f"body_verts_{kind}.npy", np.arange(0, len(adult), 3))
    yield body_files
    for file in [*files, *(body_files / f"body_verts_{kind}.npy" for kind in ("smpl", "smplx"))]:
        file.unlink(missing_ok=True)
    np.save(body_files / FILE, np.arange(0, 10475, 3))


def smpl_truth(root: Path, children: tuple[int, ...] = ()) -> Truth:
    agora.write(root, make_people(("neutral",) * 3, 3, kind="smpl", seed=5), children=children)
    return AgoraReader(root, cache=root / "cache", **AGORA_SMPL.options).truth()


def test_smpl_has_24_joints_in_all_pictures(templates: Path, tmp_path: Path) -> None:
    truth = smpl_truth(tmp_path)
    assert (truth.skeleton, truth.body, truth["native3d"].shape[1]) == ("smpl24", "smpl", 24)
    assert not truth["gender"].any()
    said = replace(perfect(truth), body="smpl", skeleton="smpl24")
    found = {f.metric: f for f in evaluate(AGORA_SMPL, said, truth).figures(2)}
    assert [f.value for f in found.values()] == pytest.approx([0, 0, 0, 0, 100, 100, 100], abs=0.01)
    assert {f.count for f in found.values()} == {6}  # the middle picture too
    assert said.betas is not None
    taller = replace(said, betas=said.betas + 0.7)
    assert evaluate(AGORA_SMPL, taller, truth).figures(2)[0].value > 2


@pytest.mark.parametrize("kind", ["smpl", "smplx"])
def test_children_by_their_template(templates: Path, tmp_path: Path, kind: str) -> None:
    protocol = AGORA_SMPL if kind == "smpl" else AGORA_SMPLX
    people = make_people(("neutral",) * 3 if kind == "smpl" else ("male", "female", "male"), 3, kind=kind, seed=6)
    agora.write(tmp_path, people, children=(0, 1))
    truth = AgoraReader(tmp_path, cache=tmp_path / "cache", **protocol.options).truth()
    kids = np.asarray(truth["kid"], bool)
    assert np.isnan(truth["betas"][kids]).all()
    assert np.isfinite(truth["kid_betas"][kids]).all()
    assert np.isnan(truth["kid_betas"][~kids]).all()
    case = Case(protocol, truth, Predictions([""] * len(truth)))
    posed = torch.full((len(truth), 24, 3), torch.nan, dtype=torch.float64)
    for rows, body in case.truth_bodies:
        posed[torch.as_tensor(rows)] = body.joints("kinematic", SMPL24.joints)
    # The children's bodies are where the labels have them, to the labels' 32 bits.
    labels = truth["native3d"][:, :22, :3]
    np.testing.assert_allclose(posed[:, :22].numpy()[kids], labels[kids], atol=1e-5)
    vertices = case.truth_vertices.numpy()
    heights = np.ptp(vertices.reshape(len(truth), -1), axis=1)
    assert np.isfinite(vertices).all()
    assert heights[kids].max() < heights[~kids].max()
    # An adult of the same pose is not the child.
    said = replace(perfect(truth), body=kind, skeleton=truth.skeleton, betas=np.zeros((int(truth["valid"].sum()), 10)))
    out = {f.metric: f.value for f in evaluate(protocol, said, truth).figures(2)}
    assert out["mve"] > 50
    (templates / kind / f"{kind}_kid_template.npy").unlink()
    out = evaluate(protocol, said, truth)
    assert {f.metric for f in out.figures(2)} == {"mpjpe", "nmje", "f1", "precision", "recall"}
    assert any(f"{kind}_kid_template.npy" in note and "agora.is.tue.mpg.de" in note for note in out.notes)


@pytest.mark.parametrize(("content", "says"), [(np.zeros((5, 3)), "another mesh"), (None, "cannot be read")])
def test_a_template_that_is_something_else(templates: Path, content: np.ndarray | None, says: str) -> None:
    file = templates / "smpl" / "smpl_kid_template.npy"
    if content is None:
        file.write_bytes(b"junk")
    else:
        np.save(file, content)
    with pytest.raises(PosesynError, match=rf"smpl_kid_template\.npy.*{says}"):
        load_licensed("smpl", kid=True)
