"""Crop conventions give the squares that the originals' own functions give."""

from __future__ import annotations

from typing import Any

import pytest

from human.crop import square_box
from human.crop_scale import CROP_CONVENTIONS, check_crop_scale, crop_side
from human.errors import PosesynError

BOXES = [(100.0, 50.0, 340.0, 450.0), (10.0, 200.0, 610.0, 330.0), (55.5, 60.25, 155.5, 160.25)]
#: What the originals' functions (named beside each convention) return for these boxes, as boxes of joints' corners.
FROM_JOINTS = {
    "hmr": (696.6043863708519, 916.7899165627375, 211.1892253143822),
    "spin": (480.0, 720.0, 120.0),
    "cliff": (440.0, 880.0, 146.66666666666666),
    "hmr2": (480.0, 960.0, 160.0),
    "hybrik": (500.0, 750.0, 125.0),
    "3dcrowdnet": (598.75, 898.75, 148.75),
}
#: The same as boxes of a detector, where the originals distinguish them.
DETECTED = {"hmr2": (400.0, 800.0, 133.33333333333334), "3dcrowdnet": (498.75, 748.75, 123.75)}


@pytest.mark.parametrize("name", sorted(CROP_CONVENTIONS))
def test_sides_are_the_originals(name: str) -> None:
    for box, joints, detected in zip(BOXES, FROM_JOINTS[name], DETECTED.get(name, FROM_JOINTS[name]), strict=True):
        assert square_box(box, name)[2] == pytest.approx(joints, rel=1e-6)
        assert square_box(box, name, detected=True)[2] == pytest.approx(detected, rel=1e-6)
        assert square_box(box, name)[:2] == ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)


def test_a_number_is_of_the_longer_side() -> None:
    assert crop_side(30.0, 40.0, 1.5) == crop_side(30.0, 40.0, 1.5, detected=True) == 60.0


@pytest.mark.parametrize(
    ("scale", "says"),
    [("cliffs", "hmr, spin, cliff, hmr2, hybrik, 3dcrowdnet"), (0.0, "above 0"), (float("nan"), "above 0")],
)
def test_no_such_scale(scale: Any, says: str) -> None:
    with pytest.raises(PosesynError, match=f"data.box_scale=.*{says}"):
        check_crop_scale(scale, "data.box_scale")


def test_a_convention_that_is_mistyped_is_found_when_it_is_used() -> None:
    with pytest.raises(PosesynError, match="box_scale='cliffs'"):
        square_box(BOXES[0], "cliffs")


@pytest.mark.parametrize("name", [1.2, "3dcrowdnet", "hmr"])
def test_a_box_without_area(name: float | str) -> None:
    with pytest.raises(PosesynError, match="positive size"):
        square_box((5, 5, 5, 5), name)
