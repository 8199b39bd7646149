"""Checks that compare labels with a keypoint detector, and labels put right by it."""

from __future__ import annotations

import pickle
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.check_heads import head_errors, turned_heads
from human.batch import PoseBatch
from human.camera import project
from human.errors import PosesynError
from human.keypoints import KEYPOINT_DETECTORS, KeypointDetector, People
from human.skeleton import COCO17, POSE32, SMPL24
from synth.checks import make_check, make_checks, run_checks
from synth.checks.count import beside, mirrored, paint_over, silhouette
from synth.checks.refine import FACE
from synth.checks.seen import label_boxes, label_points
from synth.checks.symmetric import average_precision, similarity
from synth.labels import label_scenes
from tests.human.keypoints.test_keypoints import upright


class Told(KeypointDetector):
    """Knows by heart whom each picture shows; the first pixel of picture i spells i, and the last one of its row does
    in the mirror image. What is found there nobody can see in the mirror: ``ghosts``."""

    name: ClassVar[str] = "told"
    people: ClassVar[list[People]] = []
    ghosts: ClassVar[set[int]] = set()

    def __init__(self, story: int = 0) -> None:
        self.story = story

    def config(self) -> dict[str, Any]:
        return {"name": "told", "story": self.story}

    def _look(self, pictures: Any, boxes: Any, hints: Any) -> list[People]:
        """Of the people of a picture, for each hint the one who is nearest."""
        out = []
        for people, rows in zip(self._find(pictures), hints, strict=True):
            where = [int(np.abs(people.points - row).sum((1, 2)).argmin()) for row in rows]
            out.append(People(people.points[where], people.conf[where], people.score[where]))
        return out

    def _find(self, pictures: Any) -> list[People]:
        return [self._told(p) for p in pictures]

    def _told(self, picture: Any) -> People:
        if picture[0, 0, 1] == 0 and picture[0, -1, 1]:
            row = int(picture[0, -1, 0])
            people = self.people[row]
            conf = people.conf * (np.arange(len(people))[:, None] == 0) if row in self.ghosts else people.conf
            return People(mirrored(people.points, picture.shape[1]), conf, people.score)
        return self.people[int(picture[0, 0, 0])]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """Options of a check that is told these points: (B,17,2) px, and confidences."""
    monkeypatch.setitem(KEYPOINT_DETECTORS._items, "told", Told)
    number = abs(hash(request.node.name))

    def tell(points: Any, conf: Any = 1.0) -> dict[str, Any]:
        nonlocal number
        number += 1  # another detector: it remembers what it saw
        place = np.asarray(points, float)
        sure = np.broadcast_to(np.asarray(conf, float), place.shape[:2])
        monkeypatch.setattr(
            Told, "people", [People(p[None], c[None], np.ones(1)) for p, c in zip(place, sure, strict=True)]
        )
        return {"detector": "told", "detector_options": {"story": number}}

    return tell


@pytest.fixture(scope="module")
def standing() -> PoseBatch:
    """Labels of six people who stand, 256 px; the pictures show nothing but their numbers."""
    from benchmarks.checks import scenes

    scene = scenes("plain", 256, range(24))
    scene = scene[upright(scene)[:6]]
    image = torch.zeros(6, 3, 256, 256, dtype=torch.uint8)
    image[:, 0, 0, 0] = torch.arange(6)
    image[:, 1, 0, 0] = 1  # this side up
    return label_scenes(scene, image)


def swap(batch: PoseBatch) -> Tensor:
    return batch.joints2d[:, list(POSE32.flip_permutation)]


def test_sides(standing: PoseBatch, told: Any) -> None:
    truth = label_points(standing)[0]
    seen = truth.copy()
    seen[1] = truth[1, list(COCO17.flip_permutation)]
    conf = np.ones((6, 17))
    conf[2, 5:] = 0.1  # the face alone
    (check,) = make_checks([{"name": "symmetric_ap", "options": told(seen, conf)}])
    batch = standing.replace(joints2d=standing.joints2d.clone(), joints2d_conf=standing.joints2d_conf.clone())
    batch.joints2d[3] = torch.nan
    batch.joints2d_conf[4] = 0
    verdict = check(batch)
    assert verdict.passed.tolist() == [True, False, False, False, False, True]
    assert verdict.figures["ap"][0] == 1
    assert verdict.figures["oks"][0] == pytest.approx(1)
    assert verdict.figures["swapped"][1] == pytest.approx(1)
    assert verdict.figures["joints"].tolist()[2:5] == [0, 0, 0]
    assert pickle.loads(pickle.dumps(check)).config() == check.config()
    with pytest.raises(PosesynError, match="sigma"):
        make_check("symmetric_ap", {"sigma": 2})


def test_average_precision_is_cocos() -> None:
    """One joint at a distance whose similarity is known: exp(-d^2 / (2 area (2 sigma)^2))."""
    sigma, area = 0.079, np.array([900.0])
    label, used = np.zeros((1, 17, 2)), np.zeros((1, 17), bool)
    used[0, COCO17.index("left_shoulder")] = True
    for wanted, ap in ((1.0, 1.0), (0.72, 0.5), (0.5, 0.1), (0.49, 0.0), (0.951, 1.0), (0.949, 0.9)):
        found = label + np.array([np.sqrt(-np.log(wanted) * 2 * area[0] * (2 * sigma) ** 2), 0])
        oks = similarity(label, found, used, area)
        assert oks[0] == pytest.approx(wanted)
        assert average_precision(oks)[0] == pytest.approx(ap)
    assert np.isnan(average_precision(similarity(label, label, used & False, area))[0])


def test_displaced_labels(standing: PoseBatch, told: Any) -> None:
    truth, (_, side) = label_points(standing)[0], label_boxes(standing)
    noise = np.random.default_rng(0).standard_normal(truth.shape) * 0.015 * side[:, None, None]
    seen = truth + noise
    seen[1] += 0.08 * side[1] * np.array([0.6, -0.8])
    seen[2] += noise[2] * 12  # all over the place, nowhere on the whole
    seen[3, COCO17.index("left_wrist")] += 0.4 * side[3]  # one limb that the detector got wrong
    conf = np.ones((6, 17))
    conf[4] = 0
    verdict = make_check("alignment", told(seen, conf))(standing)
    assert verdict.passed.tolist() == [True, False, False, True, False, True]
    assert verdict.figures["shift"][1] == pytest.approx(0.08, abs=0.02)
    assert verdict.figures["error"][2] > 0.1
    assert np.isnan(verdict.figures["error"][4])
    assert verdict.figures["points"].tolist()[4] == 0


def test_people_are_counted(standing: PoseBatch, told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = label_points(standing)[0]
    options = told(truth)
    one = Told.people
    conf = np.ones((1, 17))

    def other(points: np.ndarray, sure: float, row: int) -> People:
        confidence = np.concatenate([conf, np.full((1, 17), sure)])
        return People(np.concatenate([one[row].points, points]), confidence, np.ones(2))

    shifted = [truth[row][None] + [110 if truth[row][:, 0].mean() < 128 else -110, 0] for row in range(6)]
    Told.people = [
        one[0],
        other(shifted[1], 0.9, 1),  # another person
        other(truth[2][None] / 20, 0.9, 2),  # far away
        other(shifted[3], 0.1, 3),  # perhaps none
        People(truth[4][None], 0.1 * conf, np.ones(1)),  # nobody to be seen where the label is
        other(shifted[5], 0.9, 5),  # a pattern
    ]
    monkeypatch.setattr(Told, "ghosts", {5})
    verdict = make_check("person_count", options)(standing)
    assert verdict.figures["people"].tolist() == [1, 2, 1, 1, 0, 1]
    assert verdict.passed.tolist() == [True, False, True, True, False, True]
    two = make_check("person_count", {**options, "expected": 2})(standing)
    assert two.passed.tolist() == [False, True, False, False, False, False]
    twice = Told.people[1]
    Told.people[1] = People(twice.points[[0, 1, 1]] + np.array([0, 0, 4])[:, None, None], np.ones((3, 17)), np.ones(3))
    options["detector_options"]["story"] += 1000  # it remembers what it saw
    assert make_check("person_count", options)(standing[1:2]).figures["people"].tolist() == [2]


def test_places_beside_a_body() -> None:
    body = np.tile([75.0, 120.0], (17, 1))
    places = beside(body, 100.0, 256)
    hips = places[:, list(COCO17.indices("left_hip", "right_hip"))].mean(1)
    assert np.allclose(hips[:, 1], 120)
    assert (np.abs(hips[:, 0] - 75) >= 10).all()
    assert len(places) == 8  # of nine one is the body's own
    assert np.allclose(places[:, COCO17.index("left_ankle"), 1], 120 + 65)
    assert (places[:, COCO17.index("left_wrist"), 0] > places[:, COCO17.index("right_wrist"), 0]).all()
    twice = mirrored(mirrored(places, 256), 256)
    assert np.allclose(twice, places)


def test_a_body_is_painted_over() -> None:
    picture = np.full((120, 100, 3), 50, np.uint8)
    points = np.stack([np.full(17, 50.0), np.linspace(20, 100, 17)], -1)
    picture[15:105, 46:55] = 255
    gone = paint_over(picture, silhouette(picture.shape, points, 80.0))
    assert gone.max() < 90
    assert np.array_equal(gone[:, :35], picture[:, :35])
    assert np.array_equal(paint_over(picture, silhouette(picture.shape, points + 1e6, 80.0)), picture)


def test_keypoints_move_to_what_is_seen(standing: PoseBatch, told: Any) -> None:
    truth, (_, side) = label_points(standing)[0], label_boxes(standing)
    seen, conf = truth + 0.02 * side[:, None, None], np.ones((6, 17))
    wrist, nose = COCO17.index("left_wrist"), COCO17.index("nose")
    seen[0, wrist] += 0.3 * side[0]
    conf[1, nose] = 0.2
    done = make_check("refine_keypoints", told(seen, conf))(standing)
    assert done.passed.all()
    assert done.figures["contradicted"].tolist() == [1, 0, 0, 0, 0, 0]
    assert done.figures["moved"].tolist() == [16, 16, 17, 17, 17, 17]
    after, after_conf = label_points(done.batch)
    np.testing.assert_allclose(after[2:], seen[2:], atol=1e-3)
    assert after_conf[0, wrist] == 0
    assert np.allclose(after[1, nose], truth[1, nose])
    assert after_conf[1, nose] == 1
    others = [i for i, joint in enumerate(POSE32.joints) if joint not in COCO17.joints]
    assert torch.equal(done.batch.joints2d[:, others], standing.joints2d[:, others])
    assert torch.equal(done.batch.joints3d, standing.joints3d)


def consistent(batch: PoseBatch) -> None:
    """2D and 3D joints are the body's of these parameters."""
    again = batch.joints3d + (batch.joints3d.new_zeros(1) + pelvis(batch))
    torch.testing.assert_close(project(again, batch.intrinsics), batch.joints2d, atol=0.02, rtol=0)


def pelvis(batch: PoseBatch) -> Tensor:
    from human.body import load_body

    body = load_body("free")
    joints = body.joints(batch.betas, batch.body_pose, batch.global_orient, batch.transl)
    torch.testing.assert_close(joints - joints[:, :1], batch.joints3d, atol=1e-5, rtol=0)
    return joints[:, :1]


def coco_truth(batch: PoseBatch) -> np.ndarray:
    """Where an annotator would click."""
    from human.body import load_body
    from human.fit_points import skeleton_points

    points = skeleton_points(load_body("free"), "coco17")
    rotvec = torch.cat([batch.global_orient[:, None], batch.body_pose], 1)
    placed = points.points(points.pose(rotvec, batch.transl, batch.betas, per_beta=False))
    return project(placed, batch.intrinsics).double().numpy()


def test_a_turned_head_is_put_right_and_nothing_else(standing: PoseBatch, told: Any) -> None:
    wrong = turned_heads(standing, 40)
    conf = np.ones((6, 17))
    conf[5, [COCO17.index(j) for j in FACE[:4]]] = 0  # turned away: one ear is too little
    wrong.joints2d_conf[4] = 0
    done = make_check("refine_head", told(coco_truth(standing), conf))(wrong)
    assert done.passed.all()
    assert done.figures["refined"].tolist() == [1, 1, 1, 1, 0, 0]
    rows = slice(0, 4)
    before, after = head_errors(wrong, standing)[rows], head_errors(done.batch, standing)[rows]
    assert after.mean() < 0.5 * before.mean()
    assert torch.equal(done.batch[4:].joints2d, wrong[4:].joints2d)
    others = [i for i, joint in enumerate(SMPL24.joints) if joint != "head"]
    torch.testing.assert_close(done.batch.joints3d[:, others], wrong.joints3d[:, others], atol=1e-5, rtol=0)
    held = [i - 1 for i in range(1, 24) if SMPL24.joints[i] not in ("neck", "head")]
    assert torch.equal(done.batch.body_pose[:, held], wrong.body_pose[:, held])
    assert torch.equal(done.batch.betas, wrong.betas)
    consistent(done.batch[rows])


def test_a_wrong_arm_is_put_right_by_the_whole_fit(standing: PoseBatch, told: Any) -> None:
    wrong = standing.body_pose.clone()
    wrong[:, SMPL24.index("left_elbow") - 1] += torch.tensor([0.0, -0.4, 0.0])
    zero = torch.zeros(6)
    from human.fit import FitResult
    from synth.checks.refine import relabelled

    bent = FitResult(standing.betas, wrong, standing.global_orient, standing.transl, zero, zero == 0)
    batch = relabelled(standing, bent)
    done = make_check("refine_body", {**told(coco_truth(standing)), "bound": 0.3})(batch)
    assert done.figures["refined"].all()
    assert (done.figures["after"] < 0.5 * done.figures["before"]).all()
    wrist = POSE32.index("left_wrist")

    def off(b: PoseBatch) -> float:
        return float((b.joints2d - standing.joints2d)[:, wrist].norm(dim=-1).mean())

    assert off(done.batch) < 0.5 * off(batch)
    consistent(done.batch)


def test_nothing_to_compare_with_is_no_error(told: Any) -> None:
    blank = PoseBatch.blank(2, 64)
    options = told(np.zeros((2, 17, 2)))
    names = ("symmetric_ap", "alignment", "refine_keypoints", "refine_head", "refine_body", "person_count")
    passed = {name: make_check(name, options)(blank).passed.tolist() for name in names}
    assert passed["symmetric_ap"] == passed["alignment"] == passed["person_count"] == [False, False]
    assert passed["refine_head"] == passed["refine_body"] == passed["refine_keypoints"] == [True, True]
    empty = run_checks(make_checks([{"name": n, "options": options} for n in names]), PoseBatch.blank(0, 64))
    assert not any(empty.removed.values())
    for name in names:
        assert len(make_check(name, options)(blank[:0]).passed) == 0
