"""SSP-3D's protocol on a tiny SSP-3D: zero for the truth and for what it forgives, the known error for a known one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.readers.ssp3d import Ssp3dReader
from human.body import load_body
from metrics.evaluation import evaluate
from metrics.protocols import PROTOCOLS, protocols_of
from metrics.truth import Predictions, Truth
from tests.datasets import ssp3d
from tests.datasets.people import People, make_people
from tests.metrics.protocols import bodies


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return ssp3d.before_the_camera(make_people(("male", "female", "male"), frames=1, seed=8))


@pytest.fixture(scope="module")
def truth(people: People, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    root = ssp3d.write(tmp_path_factory.mktemp("ssp") / "ssp_3d", people)
    return bodies.truth_of(Ssp3dReader(root, cache=root / "cache"))


PROTOCOL = PROTOCOLS.get("ssp3d/official")


def still(body: str, betas: np.ndarray) -> np.ndarray:
    """(N,6890,3) metres in the T-pose, by the body model itself."""
    count = len(betas)
    with torch.no_grad():
        made = load_body(body).double()(torch.from_numpy(betas), torch.zeros(count, 23, 3), torch.zeros(count, 3))
    return made.vertices.numpy()


def reference(predicted: np.ndarray, true: np.ndarray) -> float:
    """mm: the published definition, person by person."""
    errors = []
    for p, t in zip(predicted, true, strict=True):
        centred = p - p.mean(0)
        size = np.sqrt((centred**2).sum() / len(p))
        wanted = np.sqrt(((t - t.mean(0)) ** 2).sum() / len(t))
        errors.append(np.linalg.norm(centred / size * wanted + t.mean(0) - t, axis=1).mean())
    return 1000 * float(np.mean(errors))


def test_the_truth_is_perfect_whatever_its_pose(truth: Truth) -> None:
    assert PROTOCOL in protocols_of("ssp3d")
    said = bodies.own(truth, "smpl")  # the gender that is said does not matter: the truth's body takes the betas
    bodies.assert_perfect(PROTOCOL, said, truth)
    assert said.pose is not None
    bodies.assert_perfect(PROTOCOL, replace(said, pose=np.zeros_like(said.pose), transl=said.transl + 1.0), truth)


def test_another_shape_has_the_published_error(truth: Truth, people: People) -> None:
    betas = np.array(truth["betas"], np.float64)
    wrong = betas + np.random.default_rng(0).normal(0, 1, betas.shape)
    (figure,) = evaluate(PROTOCOL, replace(bodies.own(truth, "smpl"), betas=wrong), truth).figures(resamples=2)
    parts = []
    for code, gender in ((1, "male"), (2, "female")):
        rows = np.flatnonzero(truth["gender"] == code)
        parts += [reference(still(f"smpl_{gender}", wrong[[r]]), still(f"smpl_{gender}", betas[[r]])) for r in rows]
    assert figure.value == pytest.approx(np.mean(parts), abs=1e-8)
    assert figure.value > 1
    # By the neutral body (the made-up genders differ little but in size), or without the correction of size, it would
    # be another figure.
    by_neutral = reference(still("smpl", wrong), still("smpl", betas))
    assert abs(by_neutral - figure.value) > 1e-5
    uncorrected = still("smpl_male", wrong) - still("smpl_male", betas)
    uncorrected -= uncorrected.mean(1, keepdims=True)
    assert abs(1000 * np.linalg.norm(uncorrected, axis=-1).mean() - figure.value) > 0.1


def test_predictions_of_another_body_are_a_note(truth: Truth) -> None:
    out = evaluate(PROTOCOL, bodies.own(truth, "smplx"), truth)
    assert out.figures() == []
    assert any("of smplx" in note for note in out.notes)


def test_missing_persons_are_told(truth: Truth) -> None:
    said = bodies.own(truth, "smpl").rows([0, 2])
    (figure,) = evaluate(PROTOCOL, said, truth).figures(resamples=2)
    assert (figure.count, figure.missing) == (2, 1)
    assert figure.value == pytest.approx(0, abs=1e-6)
    nobody = evaluate(PROTOCOL, Predictions([]), truth)
    assert nobody.figures() == []
