"""BEDLAM's protocol on a tiny BEDLAM: zero for the truth, the known error for a known one, not zero for a mistake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.readers.bedlam import BedlamReader
from human.skeleton import SMPLX55
from metrics.evaluation import evaluate
from metrics.protocols import Protocol, protocols_of
from metrics.protocols.bedlam import BEDLAM_VALIDATION
from metrics.truth import Predictions, Truth
from tests.datasets import bedlam
from tests.datasets.people import make_people
from tests.metrics.protocols import bodies

Mistake = Callable[[Protocol, Predictions], tuple[Protocol, Predictions]]


@pytest.fixture(scope="module")
def truth(body_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    root = tmp_path_factory.mktemp("bedlam")
    bedlam.write(root, make_people(("neutral",) * 2, 5, kind="smplx", seed=1))
    return bodies.truth_of(BedlamReader(root, "validation", cache=root / "cache"))


def test_it_is_here() -> None:
    assert protocols_of("bedlam") == [BEDLAM_VALIDATION]
    assert BEDLAM_VALIDATION.truth.names[21:] == ("right_wrist", "jaw", "left_eyeball")


def test_the_truth_is_perfect(truth: Truth) -> None:
    assert len(truth) == 2
    bodies.assert_perfect(BEDLAM_VALIDATION, bodies.own(truth, "smplx"), truth)


def test_a_turned_body(truth: Truth) -> None:
    bodies.assert_turned(BEDLAM_VALIDATION, truth, "smplx", bodies.posed_truth(BEDLAM_VALIDATION))


def test_joints_moved_by_30_mm(truth: Truth) -> None:
    joints = bodies.posed_truth(BEDLAM_VALIDATION)(truth, "smplx").joints("smplx", SMPLX55.joints).numpy()
    said = Predictions(list(truth.ids), skeleton="smplx55", joints3d=joints)
    exact = evaluate(BEDLAM_VALIDATION, said, truth)
    assert [f.value for f in exact.figures(2)] == pytest.approx([0, 0], abs=1e-6)
    assert "pve" in exact.notes[0]  # joints alone have no mesh
    moved = bodies.shifted(said, ("left_hip", "right_hip"))
    figures = {f.metric: f.value for f in evaluate(BEDLAM_VALIDATION, moved, truth).figures(2)}
    assert figures["mpjpe"] == pytest.approx(30 * 22 / 24, abs=1e-6)


def wrong_root(protocol: Protocol, said: Predictions) -> tuple[Protocol, Predictions]:
    return replace(protocol, prediction_root=("pelvis",)), said


def wrong_gender(protocol: Protocol, said: Predictions) -> tuple[Protocol, Predictions]:
    return protocol, replace(said, body="smplx_female")


def another_frame(protocol: Protocol, said: Predictions) -> tuple[Protocol, Predictions]:
    assert said.pose is not None
    pose = said.pose.copy()
    pose[:, 0] = [0.1, 2.0, 0.3]
    return protocol, replace(said, pose=pose)


def other_joints(protocol: Protocol, said: Predictions) -> tuple[Protocol, Predictions]:
    """SMPL's hands where SMPL-X has jaw and eyeball."""
    names = (*SMPLX55.joints[:22], "left_middle1", "right_middle1")
    return replace(protocol, prediction=replace(protocol.prediction, names=names)), said


@pytest.mark.parametrize("mistake", [wrong_root, wrong_gender, another_frame, other_joints])
def test_a_mistake_is_seen(truth: Truth, mistake: Mistake) -> None:
    protocol, said = mistake(BEDLAM_VALIDATION, bodies.own(truth, "smplx"))
    figures = {f.metric: f.value for f in evaluate(protocol, said, truth).figures(2)}
    assert figures["mpjpe"] > 5
    assert np.isfinite(list(figures.values())).all()


def test_smpl_predictions_are_not_measured(truth: Truth) -> None:
    out = evaluate(BEDLAM_VALIDATION, bodies.own(truth, "smpl"), truth)
    assert out.figures(2) == []
    assert any("has not SMPL-X's joints" in note for note in out.notes)
