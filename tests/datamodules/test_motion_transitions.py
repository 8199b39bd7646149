"""Motions put together of held poses and excerpts: smooth, grounded, and functions of seed and number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from datamodules.motion_clips import HOLD_FRAMES, MotionClip
from datamodules.motion_sources import find_motions, motion_joints
from datamodules.motion_transitions import (
    TransitionConfig,
    TransitionMaker,
    TransitionSource,
    disturbed,
    ease,
    facing,
    in_a_row,
    root_path,
    turned,
)
from human.body import load_body
from human.errors import PosesynError
from human.motion_features import features_to_joints
from human.rng import generator
from synth.pose_parts import heading_of
from synth.pose_space import free_pose_space


@pytest.fixture(scope="module")
def maker() -> TransitionMaker:
    return TransitionMaker(find_motions("free", None), free_pose_space(), load_body(), TransitionConfig())


@pytest.fixture(scope="module")
def clips(maker: TransitionMaker) -> list[MotionClip]:
    return [maker.clip(0, number) for number in range(12)]


def joints_of(clip: MotionClip) -> np.ndarray:
    import torch

    return features_to_joints(torch.from_numpy(clip.features)[None])[0].numpy()


def test_a_motion_depends_on_seed_and_number_alone(maker: TransitionMaker, clips: list[MotionClip]) -> None:
    again = TransitionMaker(find_motions("free", None), free_pose_space(), load_body(), TransitionConfig())
    one = again.clip(0, 7)
    np.testing.assert_array_equal(one.features, clips[7].features)
    assert one.captions == clips[7].captions
    assert not np.array_equal(maker.clip(1, 7).features[:40], clips[7].features[:40])


def test_they_are_smooth_and_on_the_ground(maker: TransitionMaker, clips: list[MotionClip]) -> None:
    recorded = [motion_joints(maker.body, r.motion) for r in maker.recordings]
    fastest = max(np.linalg.norm(np.diff(j, axis=0), axis=-1).max() for j in recorded)
    for clip in clips:
        joints = joints_of(clip)
        assert 71 <= len(clip) <= 196
        assert np.isfinite(clip.features).all()
        assert joints[..., 1].min() > -0.02
        # No way between two segments is faster than a kick is; the skeleton's limbs are a little longer.
        assert np.linalg.norm(np.diff(joints, axis=0), axis=-1).max() < 1.1 * fastest
        assert clip.captions
        assert all(c.whole and c.text.strip() for c in clip.captions)


def test_most_start_with_a_pose_held_for_thirty_frames(clips: list[MotionClip]) -> None:
    held = [c for c in clips if c.held is not None]
    assert len(held) > len(clips) / 3
    for clip in held:
        joints = joints_of(clip)
        about = joints[: HOLD_FRAMES - 1] - joints[: HOLD_FRAMES - 1, :1]
        assert np.abs(about[1:] - about[1:2]).max() < 0.03  # but for the slow turn of the smoothed heading
        assert clip.held is not None
        assert len(clip.held) == HOLD_FRAMES - 1  # 7 codes
        # The positions of the held pose, seen from its own heading, stand still.
        assert np.abs(np.diff(clip.held[1:, 4:67], axis=0)).max() < 1e-4


def test_an_excerpt_keeps_its_heights_and_steps() -> None:
    joints = np.zeros((6, 22, 3))
    joints[..., 1] = np.linspace(0, 1, 22)  # the lowest joint is the pelvis itself
    place = np.full((6, 3), np.nan)
    place[2:5] = [[0, 1.0, 0], [0.1, 1.5, 0], [0.2, 1.2, 0.1]]
    path = root_path(joints, place)
    np.testing.assert_allclose(np.diff(path[2:5], axis=0), np.diff(place[2:5], axis=0), atol=1e-12)
    assert path[2:5, 1].min() == 0  # its lowest frame touches the ground
    assert (path[[0, 1, 5], :][:, [0, 2]] == path[[2, 2, 4], :][:, [0, 2]]).all()


def test_the_lowest_joint_stays_where_it_is() -> None:
    """A person who swings over one standing foot: the pelvis goes, the foot does not."""
    joints = np.zeros((5, 22, 3))
    joints[:, 10] = [[0.1 * k, -0.9, 0.05 * k] for k in range(5)]
    path = root_path(joints, np.full((5, 3), np.nan))
    foot = joints[:, 10] + path
    np.testing.assert_allclose(foot, np.tile(foot[0], (5, 1)), atol=1e-12)
    assert foot[0, 1] == pytest.approx(0)


def test_ease_is_slow_at_both_ends() -> None:
    for skew in (0.7, 1.0, 1.4):
        share = ease(20, skew)
        assert (np.diff(share) > 0).all()
        assert 0 < share[0] < 0.05
        assert 0.95 < share[-1] < 1


def test_turning() -> None:
    root = Rotation.from_euler("YXZ", [40, 20, -10], degrees=True).as_rotvec()
    pose = np.zeros((3, 24, 3))
    pose[:, 0] = root
    place = np.array([[0, 1, 0], [0, 1, 1], [1, 1, 1]], float)
    there, moved = turned(pose, place, np.pi / 2)
    np.testing.assert_allclose(moved[1], [1, 1, 0], atol=1e-12)  # +z goes to +x
    assert np.degrees(heading_of(there[0, 0]) - heading_of(root)) == pytest.approx([90])
    assert heading_of(facing(there, moved)[0][0, 0]) == pytest.approx([0], abs=1e-9)
    assert heading_of(np.array([np.pi, 0, 0])) == 0  # upside down: there is none


def test_a_disturbed_pose_is_near_the_pose(maker: TransitionMaker) -> None:
    rng = generator("test", 0)
    pose, other = (maker._pose(rng, 0, 0) for _ in range(2))
    plain = TransitionConfig(noise=10.0, swapped=0.0)
    turns = Rotation.from_rotvec(disturbed(pose, other, rng, plain)) * Rotation.from_rotvec(pose).inv()
    assert 0 < np.degrees(turns.magnitude()).mean() < 10
    swapped = disturbed(pose, other, rng, TransitionConfig(noise=0.0, swapped=1.0))
    np.testing.assert_allclose(swapped[[16, 18, 1, 4, 15]], other[[16, 18, 1, 4, 15]], atol=1e-6)
    np.testing.assert_allclose(swapped[[0, 3, 6]], pose[[0, 3, 6]], atol=1e-6)


def test_sentences_in_a_row() -> None:
    assert in_a_row(["a person walks.", "someone jumps.", "he sits"]) == "a person walks, then jumps, then he sits."
    assert in_a_row(["a person walks"]) == "a person walks."


def test_held_out_recordings_are_not_used() -> None:
    with pytest.raises(PosesynError, match="all recordings are held out"):
        TransitionSource(count=1, held_out=["*"]).read(0)
    with pytest.raises(PosesynError, match="one file of captions"):
        TransitionSource(motion=["free"], captions=[None, None])
    with pytest.raises(PosesynError, match="count=0"):
        TransitionSource(count=0)
    found = TransitionSource(count=2, validation=1, pose_space=None).read(0)
    assert (len(found.train), len(found.validation)) == (2, 1)
    assert found.validation[0].name not in {c.name for c in found.train}


def test_what_is_kept_is_what_was_made(tmp_path: Path) -> None:
    made = TransitionSource(count=3, validation=1, pose_space=None).read(5)
    for _ in range(2):  # made and kept, then read
        kept = TransitionSource(count=3, validation=1, pose_space=None, cache=str(tmp_path)).read(5)
        for one, other in zip([*made.train, *made.validation], [*kept.train, *kept.validation], strict=True):
            np.testing.assert_array_equal(one.features, other.features)
            assert (one.name, one.captions) == (other.name, other.captions)
            assert (one.held is None) == (other.held is None)
            if one.held is not None:
                np.testing.assert_array_equal(one.held, other.held)
    (file,) = tmp_path.iterdir()
    TransitionSource(count=3, validation=1, pose_space=None, cache=str(tmp_path)).read(6)
    changed = TransitionConfig(noise=1.0)
    TransitionSource(count=3, validation=1, pose_space=None, cache=str(tmp_path), config=changed).read(5)
    assert len(list(tmp_path.iterdir())) == 3
    file.write_bytes(b"PK and nothing")
    with pytest.raises(PosesynError, match="delete it, it is made again"):
        TransitionSource(count=3, validation=1, pose_space=None, cache=str(tmp_path)).read(5)
