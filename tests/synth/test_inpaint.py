"""Removing people: the mask covers them at any scale, and what fills it comes from around it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io

from human.errors import PosesynError
from human.skeleton import SKELETONS
from synth.inpaint import inpaint_person, person_mask

# A standing person in torso lengths, x to the picture's right, y down, mid-shoulder at the origin, facing us.
STANDING = {
    "head_top": (0, -0.55), "upper_neck": (0, -0.1), "nose": (0, -0.3), "left_shoulder": (0.35, 0),
    "right_shoulder": (-0.35, 0), "left_elbow": (0.4, 0.6), "right_elbow": (-0.4, 0.6), "left_wrist": (0.42, 1.1),
    "right_wrist": (-0.42, 1.1), "left_hip": (0.2, 1), "right_hip": (-0.2, 1), "left_knee": (0.2, 1.85),
    "right_knee": (-0.2, 1.85), "left_ankle": (0.2, 2.7), "right_ankle": (-0.2, 2.7),
}  # fmt: skip


def standing(skeleton: str, torso: float, centre: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    names = SKELETONS[skeleton].joints
    joints = np.array([STANDING.get(n, (0, 0)) for n in names]) * torso + centre
    return joints, np.array([float(n in STANDING) for n in names])


@pytest.mark.parametrize("skeleton", sorted(SKELETONS.keys() - {"smpl24"}))
@pytest.mark.parametrize("torso", [12.0, 40.0])
def test_mask_covers_the_person_and_grows_with_it(skeleton: str, torso: float) -> None:
    joints, conf = standing(skeleton, torso, (100, 60))
    mask = person_mask(joints, conf, (240, 200), skeleton)
    for x, y in joints[conf > 0]:
        assert mask[round(y), round(x)]
    assert mask[60 + round(0.5 * torso), 100]  # the middle of the trunk
    assert not mask[:, 100 + round(1.0 * torso)].any()
    assert 1.2 < mask.sum() / torso**2 < 4.5


def test_unlabelled_joints_are_not_drawn() -> None:
    joints, conf = standing("lsp14", 40, (100, 60))
    conf[SKELETONS["lsp14"].indices("left_knee", "left_ankle", "right_knee", "right_ankle")] = 0
    assert not person_mask(joints, conf, (240, 200), "lsp14")[150:].any()
    assert not person_mask(joints, np.zeros(14), (240, 200), "lsp14").any()


def test_joints_far_outside_the_picture_do_no_harm() -> None:
    joints, conf = standing("lsp14", 40, (-3000, 5000))
    assert not person_mask(joints, conf, (64, 64), "lsp14").any()


def test_wrong_joint_count_is_refused() -> None:
    with pytest.raises(PosesynError, match="'pose32' has 32 joints"):
        person_mask(np.zeros((14, 2)), np.zeros(14), (64, 64))


def test_a_person_on_a_gradient_disappears() -> None:
    y, x = np.mgrid[:240, :200]
    scene = np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)
    joints, conf = standing("lsp14", 40, (100, 60))
    mask = person_mask(joints, conf, (240, 200), "lsp14")
    picture = scene.copy()
    picture[mask] = (255, 0, 255)
    restored = inpaint_person(picture, mask)
    error = np.abs(restored.astype(float) - scene).mean(axis=-1)
    assert error[mask].mean() < 12
    assert np.abs(picture.astype(float) - scene).mean(axis=-1)[mask].mean() > 80
    far = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5) > 12
    np.testing.assert_array_equal(restored[far], picture[far])


def test_a_box_will_do() -> None:
    picture = np.full((100, 80, 3), 90, dtype=np.uint8)
    picture[20:70, 30:50] = 255
    restored = inpaint_person(picture, box=(29.6, 19.7, 50.2, 70.0))
    assert np.abs(restored.astype(int) - 90).max() <= 6  # Telea extrapolates
    np.testing.assert_array_equal(inpaint_person(picture, box=(200, 200, 300, 300)), picture)


def test_impossible_requests_are_refused() -> None:
    picture = np.zeros((32, 32, 3), dtype=np.uint8)
    with pytest.raises(PosesynError, match="a mask or a box"):
        inpaint_person(picture)
    with pytest.raises(PosesynError, match="a mask or a box"):
        inpaint_person(picture, np.zeros((32, 32), dtype=bool), (0, 0, 1, 1))
    with pytest.raises(PosesynError, match="whole picture"):
        inpaint_person(picture, np.ones((32, 32), dtype=bool))
    with pytest.raises(PosesynError, match="must agree"):
        inpaint_person(picture, np.zeros((16, 32), dtype=bool))


def test_real_people_are_covered(shared_data: Path) -> None:
    """LSPET: every labelled joint lies in the mask, and the picture changes there."""
    joints_14x3xN = scipy.io.loadmat(shared_data / "lspet" / "joints.mat")["joints"]
    for number in (1, 700, 4321):
        (path,) = (shared_data / "lspet" / "images").glob(f"im{number:05d}.*")
        picture = np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))
        joints = joints_14x3xN[:, :, number - 1]
        mask = person_mask(joints[:, :2], joints[:, 2], picture.shape[:2], "lsp14")
        inside = (joints[:, :2] >= 0).all(axis=1) & (joints[:, :2] < np.array(picture.shape[1::-1]) - 1).all(axis=1)
        for x, y in joints[(joints[:, 2] > 0) & inside, :2].round().astype(int):
            assert mask[y, x]
        assert (inpaint_person(picture, mask)[mask] != picture[mask]).mean() > 0.5
