"""COCO: AP by the official evaluator on its own files, and 4D-Humans' share of correct joints."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from datamodules.readers.coco import CocoReader
from human.errors import PosesynError
from human.skeleton import COCO17, convert
from metrics.average_precision import FIGURES, average_precision
from metrics.evaluation import evaluate, kept
from metrics.functional import oks
from metrics.protocols import PROTOCOLS
from metrics.truth import Predictions, Truth
from tests.datasets import coco
from tests.datasets.people import make_people
from tests.metrics.protocols.flat import check_mistakes_show, check_pck, lengths, perfect, values

AP, HMR2 = PROTOCOLS.get("coco/ap"), PROTOCOLS.get("coco/hmr2")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("coco")
    coco.write(root, make_people(("neutral", "neutral"), frames=3, kind="free"))
    return root


@pytest.fixture(scope="module")
def truth(root: Path) -> Truth:
    return CocoReader(root, "val", cache=root / "cache").truth()


def figures(said: Predictions, truth: Truth) -> dict[str, float]:
    return {name: value for name, (value, _, _) in average_precision(AP, said, truth).items()}


def persons(truth: Truth) -> Predictions:
    """The labels of those who have any, as predictions of all 17 joints."""
    rows = np.flatnonzero((truth["native2d"][..., 2] > 0).any(1))
    return perfect(truth).rows(rows)


def official(labels: Path, predicted: Predictions) -> dict[str, float]:
    """The evaluator on the annotation file itself, as HRNet and mmpose run it."""
    with redirect_stdout(StringIO()):
        ground = COCO(str(labels))
        number = {image["file_name"]: image["id"] for image in ground.dataset["images"]}
        score = np.ones(len(predicted)) if predicted.score is None else predicted.score
        results = [
            {
                "image_id": number[Path(name).name],
                "category_id": 1,
                "keypoints": np.concatenate([joints, np.ones((17, 1))], 1).ravel().tolist(),
                "score": float(s),
            }
            for name, joints, s in zip(predicted.pictures, predicted.joints2d, score, strict=True)
        ]
        evaluator = COCOeval(ground, ground.loadRes(results), "keypoints")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return {name: 100 * float(v) for name, v in zip(FIGURES, evaluator.stats, strict=True)}


def test_the_labels_have_full_precision(truth: Truth) -> None:
    found = evaluate(AP, persons(truth), truth).figures()
    assert [f.metric for f in found] == list(AP.metrics)
    for figure in found:
        if figure.metric == "ap_l":
            assert np.isnan(figure.value)  # nobody here is 96 px wide and tall
        else:
            assert figure.value == pytest.approx(100)
        assert (figure.count, figure.missing, figure.unit) == (6, 0, "%")


def test_hmr2_round_trip(truth: Truth) -> None:
    check_pck(HMR2, truth)
    check_mistakes_show(HMR2, truth)


def test_hmr2_counts_whole_bodies_by_their_own_box(truth: Truth) -> None:
    """Row 1's hidden wrist is labelled: it counts. Nobody of the crowd does."""
    assert kept(HMR2, truth).tolist() == [True] * 6 + [False] * 2
    box = truth["bbox_xyxy"][:6]
    np.testing.assert_allclose(lengths(HMR2, truth), 1.2 * (box[:, 2:] - box[:, :2]).max(1), rtol=1e-6)
    without = truth.rows(np.arange(8))
    without.columns["native2d"][2, COCO17.index("left_knee"), 2] = 0
    assert kept(HMR2, without).tolist() == [True, True, False, True, True, True, False, False]


def test_a_known_error_is_its_similarity(truth: Truth) -> None:
    """Everybody off by what makes OKS 0.72: counted up to 0.70, 5 of 10 thresholds; AR alike."""
    said = persons(truth)
    rows = truth.rows(np.arange(6))
    target = np.asarray(rows["native2d"], np.float64)
    sigma = np.array([0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087])
    sigma = np.concatenate([sigma, [0.087, 0.089, 0.089]])
    distance = 2 * sigma * np.sqrt(2 * np.asarray(rows["area"])[:, None] * -np.log(0.72))
    moved = replace(said, joints2d=said.joints2d + distance[..., None] * [0.6, 0.8])
    import torch

    similarity = oks(*map(torch.as_tensor, (moved.joints2d, target[..., :2], rows["area"], target[..., 2])))
    np.testing.assert_allclose(similarity.numpy(), 0.72, atol=1e-5)
    found = figures(moved, truth)
    assert found["ap"] == pytest.approx(50)
    assert (found["ap_50"], found["ap_75"]) == (pytest.approx(100), pytest.approx(0))
    assert found["ar"] == pytest.approx(50)


def test_mistakes_show(truth: Truth) -> None:
    said = persons(truth)
    swapped = replace(said, joints2d=said.joints2d[:, list(COCO17.flip_permutation)])
    other_picture = replace(said, pictures=[*said.pictures[2:], *said.pictures[:2]])
    shifted = replace(said, joints2d=said.joints2d + 20)
    for mistake in (swapped, other_picture, shifted):
        assert figures(mistake, truth)["ap"] < 60


def test_false_alarms_cost_and_crowds_excuse(truth: Truth) -> None:
    """An alarm with the highest score in a person's picture costs; over the crowd's region it is not looked at."""
    said = persons(truth)
    score = np.linspace(0.9, 0.8, len(said))
    far = said.joints2d[:1] + np.array([400.0, 0.0])
    inside = np.full((1, 17, 2), 15.0) + np.random.default_rng(0).normal(0, 3, (1, 17, 2))

    def with_one_more(joints: np.ndarray) -> Predictions:
        return Predictions(
            [*said.ids, "alarm"],
            skeleton="coco17",
            joints2d=np.concatenate([said.joints2d, joints]),
            score=np.append(score, 0.99),
            pictures=[*said.pictures, said.pictures[0]],
        )

    assert figures(with_one_more(far), truth)["ap"] < 90
    assert figures(with_one_more(inside), truth)["ap"] == pytest.approx(100)


def test_against_the_evaluator_on_the_file(root: Path, truth: Truth) -> None:
    """Noise, missing and doubled persons, scores: the same ten figures as from the annotation file itself."""
    rng = np.random.default_rng(3)
    said = persons(truth)
    rows = [0, 1, 1, 2, 4, 5]
    noisy = said.rows(rows)
    noisy = replace(
        noisy,
        ids=[f"d{k}" for k in range(len(rows))],
        joints2d=noisy.joints2d + rng.normal(0, 4, noisy.joints2d.shape),
        score=rng.uniform(0.2, 1, len(rows)),
    )
    expected = official(root / "annotations" / "person_keypoints_val2017.json", noisy)
    found = figures(noisy, truth)
    assert 10 < expected["ap"] < 90
    for name, value in expected.items():
        if value < 0:
            assert np.isnan(found[name])
        else:
            assert found[name] == pytest.approx(value, rel=1e-9), name


def test_detections_through_the_reader(root: Path) -> None:
    """A detector's boxes are persons of their own: their predictions say the picture, and one is nobody."""
    boxes = CocoReader(root, "val", detections="COCO_val2017_detections_AP_H_56_person.json", cache=root / "cache")
    truth = boxes.truth()
    labels = persons(truth)
    joints = np.concatenate([labels.joints2d, np.random.default_rng(0).uniform(5, 90, (1, 17, 2))])
    said = Predictions(
        boxes.index.ids, skeleton="coco17", joints2d=joints, score=boxes.index.extras["score"], pictures=boxes.pictures
    )
    ap = evaluate(AP, said, truth).figures()[0]
    assert ap.value == pytest.approx(100)  # the false alarm has the lowest score
    assert (ap.count, ap.missing) == (6, 0)


def test_what_cannot_be_evaluated_is_said(truth: Truth) -> None:
    said = persons(truth)
    with pytest.raises(PosesynError, match="does not say its picture"):
        figures(replace(said, ids=[f"x{i}" for i in range(6)], pictures=[]), truth)
    assert figures(replace(said, score=np.full(6, np.nan)), truth)["ap"] == 0
    nobody = replace(said, joints2d=np.full_like(said.joints2d, np.nan))
    assert figures(nobody, truth)["ap"] == 0
    assert not evaluate(AP, replace(said, joints2d=None), truth).figures()
    assert "no 2D joints" in evaluate(AP, replace(said, joints2d=None), truth).notes[0]
    with pytest.raises(PosesynError, match=r"mixes pck@0\.1 with figures of a whole set"):
        evaluate(replace(AP, metrics=("ap", "pck@0.1")), said, truth)


def test_a_body_estimators_joints_are_taken_by_name(truth: Truth) -> None:
    said = persons(truth)
    joints, _ = convert(said.joints2d, np.ones(said.joints2d.shape[:2]), "coco17", "pose32")
    same = Predictions(said.ids, skeleton="pose32", joints2d=joints)
    assert figures(same, truth)["ap"] == pytest.approx(100)
    assert values(HMR2, same, truth) == {"pck@0.05": 100, "pck@0.1": 100}


def test_real_samples(shared_data: Path, tmp_path: Path) -> None:
    """The four real pictures: labels with noise, as the evaluator finds them in the file."""
    samples = shared_data / "samples" / "coco"
    (tmp_path / "annotations").mkdir()
    labels = tmp_path / "annotations" / "person_keypoints_val2017.json"
    labels.write_bytes((samples / "test_coco.json").read_bytes())
    (tmp_path / "val2017").symlink_to(samples)
    truth = CocoReader(tmp_path, "val", cache=tmp_path / "cache").truth()
    said = persons(truth)
    assert figures(said, truth)["ap"] == pytest.approx(official(labels, said)["ap"])
    assert figures(said, truth)["ap"] == pytest.approx(100)
    noise = np.random.default_rng(0).normal(0, 6, said.joints2d.shape)
    noisy = replace(said, joints2d=said.joints2d + noise, score=np.linspace(1, 0.5, len(said)))
    expected = official(labels, noisy)
    assert 5 < expected["ap"] < 95
    found = figures(noisy, truth)
    for name in FIGURES:
        if expected[name] >= 0:
            assert found[name] == pytest.approx(expected[name], rel=1e-9)
    assert json.loads(labels.read_text())["annotations"]


def test_intervals_hold_the_figure_and_are_the_same_again(truth: Truth) -> None:
    said = persons(truth)
    noise = np.random.default_rng(0).normal(0, 5, said.joints2d.shape)
    noisy = replace(said, joints2d=said.joints2d + noise, score=np.linspace(1, 0.5, len(said)))
    first, again = (evaluate(AP, noisy, truth).figures()[0] for _ in range(2))
    assert first == again
    assert 0 < first.low < first.value < first.high < 100
    perfect_one = evaluate(AP, said, truth).figures()[0]
    assert (perfect_one.low, perfect_one.high) == (pytest.approx(100), pytest.approx(100))
