"""Second people whom only a segmentation sees."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from benchmarks.checks import ALONE, company, render, scenes
from human.batch import PoseBatch
from human.errors import PosesynError
from human.keypoints import People
from human.person_mask import PersonMask
from human.skeleton import COCO17
from synth.checks import make_check
from synth.checks.regions import FIGURES, UPRIGHT, Region, find_regions, probability
from tests.need import need

_HEAD, _ANKLES = COCO17.index("nose"), list(COCO17.indices("left_ankle", "right_ankle"))


def bar(rows: slice, columns: slice, size: int = 100) -> Region:
    mask = np.zeros((size, size), bool)
    mask[rows, columns] = True
    return Region(mask, np.full(5, 0.8), 0.1)


def test_people_are_looked_for_along_a_region() -> None:
    region = bar(slice(40, 48), slice(20, 80))
    places = region.places()
    assert places.shape == (6, 17, 2)
    length = 4 * 60 / np.sqrt(12)
    for turned, sign in ((places[0], 1), (places[2], -1)):
        along = turned[_ANKLES].mean(0) - turned[_HEAD]
        assert abs(along[0]) == pytest.approx(length, rel=0.05)
        assert abs(along[1]) < 1e-6 * abs(along[0]) + 1e-6
        assert np.sign(along[0]) == sign * np.sign((places[0][_ANKLES].mean(0) - places[0][_HEAD])[0])
    upright = places[4][_ANKLES].mean(0) - places[4][_HEAD]
    assert upright[1] == pytest.approx(length, rel=0.05)
    grown = places[1] - region.middle
    np.testing.assert_allclose(grown, 1.5 * (places[0] - region.middle))


def test_what_the_detector_sees_in_a_region_speaks_for_it() -> None:
    region = bar(slice(10, 90), slice(40, 60))
    inside = UPRIGHT * np.array([10.0, 38.0]) + np.array([49.5, 50.0])
    confident, ones = np.full((6, 17), 0.9), np.ones(6)
    seen = region.figures(People(np.repeat(inside[None], 6, 0), confident, ones))
    elsewhere = region.figures(People(np.repeat(inside[None], 6, 0) + np.array([40.0, 0.0]), confident, ones))
    nothing = region.figures(People.none())
    named = dict(zip(FIGURES, seen, strict=True))
    assert named["log_area"] == pytest.approx(np.log(0.16))
    assert named["mask_mean"] == named["mask_least"] == pytest.approx(0.8)
    assert named["looks_mean"] == named["looks_best"] == pytest.approx(0.9)
    assert named["edge"] == 0
    assert probability(seen) > 0.95 > 0.8 > probability(elsewhere) == pytest.approx(probability(nothing))
    cut = bar(slice(0, 100), slice(0, 20)).figures(People.none())
    assert dict(zip(FIGURES, cut, strict=True))["edge"] == pytest.approx(140 / np.sqrt(2000))


@pytest.fixture(scope="module")
def mask() -> PersonMask:
    need("mediapipe_pose")
    return PersonMask()


@pytest.fixture(scope="module")
def alone() -> PoseBatch:
    return render(scenes("standing", 256, range(40))[:8], 256, ALONE, "procedural")


def test_the_mask_lies_on_the_person(mask: PersonMask, alone: PoseBatch) -> None:
    again = pickle.loads(pickle.dumps(mask))
    on, off = [], []
    for row in range(len(alone)):
        picture = alone.image[row].permute(1, 2, 0).numpy()
        seen = mask(picture)
        assert seen.shape == (256, 256)
        assert 0 <= seen.min() <= seen.max() <= 1
        assert np.array_equal(seen, again(picture))
        hips = alone.joints2d[row, [0]].round().long()[0]
        on.append(seen[int(hips[1]), int(hips[0])])
        off.append(seen[:8, :8].mean())
    assert np.median(on) > 0.8 > 0.2 > np.median(off)
    assert mask(np.zeros((30, 50, 3), np.uint8)).shape == (30, 50)


def test_regions_lie_off_the_body(mask: PersonMask, alone: PoseBatch) -> None:
    picture = alone.image[0].permute(1, 2, 0).numpy()
    box, nowhere = np.array([60.0, 20.0, 200.0, 240.0]), np.zeros((256, 256), bool)
    found = find_regions(mask, picture, picture, nowhere, box)
    assert found, "nobody is known: the person is a region"
    assert find_regions(mask, picture, picture, ~nowhere, box) == []
    blank = np.full((256, 256, 3), 90, np.uint8)
    for region in find_regions(mask, blank, blank, nowhere, box):
        assert 0.002 * 65536 < region.mask.sum() < 0.25 * 65536


def test_second_people_are_seen_without_the_detector_finding_them(alone: PoseBatch) -> None:
    """With ``score: 1`` no detection counts: what is removed is removed for a region."""
    need("mediapipe_pose")
    both = company("standing", range(40), 256, "procedural")[0][:8]
    check = make_check("person_count", {"score": 1.0})
    assert (~check(both).passed).mean() >= 0.6
    assert check(alone).passed.mean() >= 0.75
    passers_by = make_check("person_count", {"score": 1.0, "smallest": 0.9})
    assert passers_by(both).passed.all(), "nobody is as long as that"
    without = make_check("person_count", {"score": 1.0, "region": 1.0})
    assert without(both).passed.all()
    assert make_check("person_count", {"score": 1.0, "expected": 2})(both).passed.mean() >= 0.6


def test_the_bound_of_regions() -> None:
    need("mediapipe_pose")
    assert make_check("person_count").config()["region"] == 0.4
    assert make_check("person_count", {"detector": "vitpose"}).config()["region"] == 1.0
    assert make_check("person_count", {"detector": "vitpose", "region": 0.5}).config()["region"] == 0.5
    with pytest.raises(PosesynError, match="region above 0"):
        make_check("person_count", {"region": 0})
