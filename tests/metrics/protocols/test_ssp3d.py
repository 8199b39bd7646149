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
SHAPE = replace(PROTOCOL, metrics=("pve_t_sc",))
COVER = replace(PROTOCOL, metrics=("iou",))


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
    bodies.assert_perfect(SHAPE, said, truth)
    assert said.pose is not None
    bodies.assert_perfect(SHAPE, replace(said, pose=np.zeros_like(said.pose), transl=said.transl + 1.0), truth)
    for body, part in bodies.by_gender(truth):  # the silhouette is another matter
        bodies.assert_perfect(PROTOCOL, bodies.own(part, body), part)


def test_another_shape_has_the_published_error(truth: Truth, people: People) -> None:
    betas = np.array(truth["betas"], np.float64)
    wrong = betas + np.random.default_rng(0).normal(0, 1, betas.shape)
    (figure,) = evaluate(SHAPE, replace(bodies.own(truth, "smpl"), betas=wrong), truth).figures(resamples=2)
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
    out = evaluate(SHAPE, bodies.own(truth, "smplx"), truth)
    assert out.figures() == []
    assert any("of smplx" in note for note in out.notes)


def test_missing_persons_are_told(truth: Truth) -> None:
    said = bodies.own(truth, "smpl").rows([0, 2])
    figure, cover = evaluate(PROTOCOL, said, truth).figures(resamples=2)
    assert (figure.count, figure.missing) == (2, 1) == (cover.count, cover.missing)
    assert figure.value == pytest.approx(0, abs=1e-6)
    nobody = evaluate(PROTOCOL, Predictions([]), truth)
    assert nobody.figures() == []


def test_the_share_of_the_silhouettes_is_counted_in_pixels(truth: Truth, people: People) -> None:
    """Three pictures to the right by what moves a body by 12 px at its own depth."""
    for body, part in bodies.by_gender(truth):
        said = bodies.own(part, body)
        assert said.transl is not None
        beside = replace(said, transl=said.transl + np.array([1.5, 0, 0]))  # 1.5 m: off the silhouette altogether
        assert evaluate(COVER, beside, part).figures(resamples=2)[0].value == pytest.approx(0)
        aside = replace(said, transl=said.transl + 12 / ssp3d.FOCAL * said.transl[:, 2:] * [1.0, 0, 0])
        got = evaluate(COVER, aside, part).per_person("iou")
        for i, share in enumerate(got):
            mask = np.unpackbits(part["silhouette"][i], axis=1).astype(bool)
            shifted = np.zeros_like(mask)
            shifted[:, 12:] = mask[:, :-12]  # parts nearer or farther than the pelvis move a little more or less
            expected = 100 * (mask & shifted).sum() / (mask | shifted).sum()
            assert share == pytest.approx(expected, abs=3)
            assert share < 95
    (figure,) = evaluate(COVER, bodies.own(truth, "smpl"), truth).figures(resamples=2)
    assert figure.value < 99.9  # the wrong gender
    out = evaluate(COVER, replace(bodies.own(truth, "smpl"), transl=None), truth)
    assert out.figures() == []
    assert any("where their bodies stand" in note for note in out.notes)
