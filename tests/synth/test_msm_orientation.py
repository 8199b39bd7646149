"""The orientation of a motion before the reference's camera, as properties."""

from __future__ import annotations

import pytest
import roma
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from human.errors import PosesynError
from human.rotations import geodesic_degrees, rotation_about
from synth.msm.orientation import Keep, align_motion, align_orientation, camera_from_motion

SEEDS = st.integers(0, 2**31 - 1)
KEEPS = st.sampled_from(["full", "heading"])
LEVEL_CAMERA = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))


def rotations(seed: int, *size: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    quaternion = torch.randn(*size, 4, generator=generator, dtype=torch.float64)
    return roma.unitquat_to_rotmat(torch.nn.functional.normalize(quaternion, dim=-1))


def small_steps(seed: int, batch: int, frames: int) -> Tensor:
    """A motion: any start, steps up to some 20 degrees."""
    generator = torch.Generator().manual_seed(seed)
    step = roma.rotvec_to_rotmat(0.2 * torch.randn(batch, frames, 3, generator=generator, dtype=torch.float64))
    out = [rotations(seed + 1, batch)]
    for t in range(1, frames):
        out.append(step[:, t] @ out[-1])
    return torch.stack(out, 1)


def turn(axis: str, degrees: float) -> Tensor:
    return rotation_about(axis, torch.deg2rad(torch.tensor(degrees, dtype=torch.float64)))


@given(SEEDS)
def test_first_frame_is_the_reference(seed: int) -> None:
    motion, reference = small_steps(seed, 3, 5), rotations(seed + 9, 3)
    assert torch.allclose(align_orientation(motion, reference)[:, 0], reference)
    assert torch.allclose(align_orientation(motion, reference, literal=True)[:, 0], reference)


@given(SEEDS, KEEPS)
def test_turns_between_frames_are_the_motions_own(seed: int, keep: Keep) -> None:
    motion, reference = small_steps(seed, 2, 6), rotations(seed + 9, 2)
    aligned = align_orientation(motion, reference, keep=keep)
    relative, own = (r[:, :, None].mT @ r[:, None] for r in (aligned, motion))
    assert torch.allclose(relative, own, atol=1e-12)
    assert torch.allclose(
        geodesic_degrees(aligned[:, :-1], aligned[:, 1:]), geodesic_degrees(motion[:, :-1], motion[:, 1:]), atol=1e-5
    )
    assert torch.allclose(aligned.det(), torch.ones(2, 6, dtype=torch.float64))


@given(SEEDS)
def test_steps_accumulate_as_equation_9_means(seed: int) -> None:
    """Frame l is frame l-1 with the motion's step, which M takes to the camera's axes."""
    motion, reference = small_steps(seed, 2, 6), rotations(seed + 9, 2)
    aligned = align_orientation(motion, reference)
    m = camera_from_motion(motion[:, 0], reference)[:, None]
    step = m @ (motion[:, 1:] @ motion[:, :-1].mT) @ m.mT
    assert torch.allclose(aligned[:, 1:], step @ aligned[:, :-1], atol=1e-12)


@given(SEEDS)
def test_a_motion_that_stands_still_keeps_the_reference(seed: int) -> None:
    motion, reference = rotations(seed, 2, 1).expand(2, 7, 3, 3), rotations(seed + 1, 2)
    for literal in (False, True):
        aligned = align_orientation(motion, reference, literal=literal)
        assert torch.allclose(aligned, reference[:, None].expand_as(aligned), atol=1e-12)


@given(SEEDS)
def test_a_motion_that_begins_at_the_reference_is_left_alone(seed: int) -> None:
    motion = small_steps(seed, 2, 4)
    assert torch.allclose(align_orientation(motion, motion[:, 0]), motion, atol=1e-12)
    again = align_orientation(align_orientation(motion, rotations(seed + 5, 2)), motion[:, 0])
    assert torch.allclose(again, motion, atol=1e-12), "there and back"


@given(SEEDS)
def test_how_the_motion_was_turned_before_and_how_the_camera_is_turned(seed: int) -> None:
    """Another world frame changes nothing; another camera turns the result with it."""
    motion, reference = small_steps(seed, 2, 4), rotations(seed + 9, 2)
    world, camera = rotations(seed + 11, 2)
    aligned = align_orientation(motion, reference)
    assert torch.allclose(align_orientation(world @ motion, reference), aligned, atol=1e-12)
    assert torch.allclose(align_orientation(motion, camera @ reference), camera @ aligned, atol=1e-12)


@given(SEEDS, st.floats(-180, 180), st.floats(-180, 180))
def test_heading_is_equivariant_about_the_vertical(seed: int, world: float, camera: float) -> None:
    motion, reference = small_steps(seed, 2, 4), rotations(seed + 9, 2)
    aligned = align_orientation(motion, reference, keep="heading")
    other_world = align_orientation(turn("y", world) @ motion, reference, keep="heading")
    other_camera = align_orientation(motion, turn("y", camera) @ reference, keep="heading")
    assert torch.allclose(other_world, aligned, atol=1e-7)
    assert torch.allclose(other_camera, turn("y", camera) @ aligned, atol=1e-7)


@given(SEEDS)
def test_heading_keeps_gravity_and_comes_as_near_as_that_allows(seed: int) -> None:
    first, reference = rotations(seed, 4), rotations(seed + 1, 4)
    m = camera_from_motion(first, reference, keep="heading")
    up = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    assert torch.allclose(m @ up, -up.expand(4, 3), atol=1e-12), "the camera's up is -y"
    away = geodesic_degrees(m @ first, reference)
    for degrees in (-90, -5, -0.5, 0.5, 5, 90, 180):
        assert (geodesic_degrees(turn("y", degrees) @ m @ first, reference) >= away - 1e-6).all()


@given(SEEDS, st.floats(-180, 180))
def test_both_agree_where_the_reference_is_the_motions_first_frame_before_a_level_camera(
    seed: int, degrees: float
) -> None:
    motion = small_steps(seed, 1, 5)
    reference = LEVEL_CAMERA @ turn("y", degrees) @ motion[:, 0]
    full, heading = (align_orientation(motion, reference, keep=keep) for keep in ("full", "heading"))
    assert torch.allclose(full, heading, atol=1e-9)


@pytest.mark.parametrize("keep", ["full", "heading"])
@pytest.mark.parametrize("facing", [0.0, 90.0, 180.0, -30.0])
def test_a_turn_to_the_left_is_seen_as_a_turn_to_the_left(keep: Keep, facing: float) -> None:
    """The person turns by 90 degrees about the vertical in 10 steps; its left hand, +x of the body, shows where to."""
    motion = torch.stack([turn("y", 9.0 * t) for t in range(11)])[None]
    reference = (LEVEL_CAMERA @ turn("y", facing))[None]
    aligned = align_orientation(motion, reference, keep=keep)[0]
    front, left = aligned[:, :, 2], aligned[0, :, 0]
    assert torch.allclose(front[-1], left, atol=1e-9), "it ends up facing where its left was"
    assert aligned[:, :, 1].sub(torch.tensor([0.0, -1.0, 0.0])).abs().max() < 1e-9, "upright throughout"
    # In the motion's axes without re-basing the same turn is seen the other way around.
    mixed = motion[0] @ motion[0, 0].mT @ reference
    assert torch.allclose(mixed[-1, :, 2], -left, atol=1e-9)


def test_a_bow_stays_a_bow_for_a_person_seen_from_the_side() -> None:
    """Facing the camera's right, bowing by 60 degrees: the head moves to the right and not towards the camera."""
    motion = torch.stack([turn("x", 6.0 * t) for t in range(11)])[None]
    reference = (LEVEL_CAMERA @ turn("y", 90))[None]
    head = align_orientation(motion, reference)[0, -1, :, 1]
    assert torch.allclose(head, torch.tensor([3**0.5 / 2, -0.5, 0.0], dtype=torch.float64), atol=1e-9)
    mixed = (motion[0, -1] @ reference[0])[:, 1]
    assert mixed[2].abs() > 0.8, "without re-basing it falls sideways, along the camera's axis"


def test_equation_9_as_printed_never_leaves_the_first_step() -> None:
    motion = torch.stack([turn("y", 5.0 * t) for t in range(37)])[None]
    reference = LEVEL_CAMERA[None]
    literal = align_orientation(motion, reference, literal=True)[0]
    away = geodesic_degrees(literal, reference)
    assert torch.allclose(away[1:], torch.full((36,), 5.0, dtype=torch.float64), atol=1e-6)
    ours = geodesic_degrees(align_orientation(motion, reference)[0], reference)
    assert torch.allclose(ours, 5.0 * torch.arange(37, dtype=torch.float64), atol=1e-5)


@given(SEEDS, KEEPS)
def test_points_go_with_the_orientation(seed: int, keep: Keep) -> None:
    """A stick fixed to the pelvis is where the aligned orientation puts it; distances are kept; the start is given."""
    motion, reference = small_steps(seed, 2, 5), rotations(seed + 9, 2)
    generator = torch.Generator().manual_seed(seed)
    path, stick = (torch.randn(*s, 3, generator=generator, dtype=torch.float64) for s in ((2, 5), ()))
    place = torch.tensor([[0.1, 0.2, 3.0], [-1.0, 0.0, 5.0]], dtype=torch.float64)
    points = torch.stack([path, path + motion @ stick], 2)
    aligned = align_motion(points, motion[:, 0], reference, place, keep=keep)
    assert torch.allclose(aligned[:, 0, 0], place)
    assert torch.allclose(
        aligned[:, :, 1] - aligned[:, :, 0], align_orientation(motion, reference, keep=keep) @ stick, atol=1e-9
    )
    assert torch.allclose(torch.cdist(aligned[:, :, 0], aligned[:, :, 0]), torch.cdist(path, path), atol=1e-6)
    assert torch.allclose(align_motion(points, motion[:, 0], reference, keep=keep)[:, 0, 0], torch.zeros_like(place))


def test_lying_start_falls_with_full_and_not_with_heading() -> None:
    """The motion begins lying on its back and gets up; the reference stands."""
    lying = turn("x", -90)
    motion = torch.stack([lying, turn("x", -45), torch.eye(3, dtype=torch.float64)])[None]
    reference = LEVEL_CAMERA[None]
    up = align_orientation(motion, reference, keep="heading")[0, -1, :, 1]
    assert torch.allclose(up, torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64), atol=1e-9)
    fallen = align_orientation(motion, reference)[0, -1, :, 1]
    assert fallen[1].abs() < 1e-9


def test_heading_of_no_preference_is_a_rotation_too() -> None:
    """A half turn about a level axis between the two: every heading is as near."""
    first = torch.eye(3)[None]
    reference = (LEVEL_CAMERA.float() @ rotation_about("x", torch.tensor(torch.pi)))[None]
    m = camera_from_motion(first, reference, keep="heading")
    assert torch.allclose(m[0], LEVEL_CAMERA.float(), atol=1e-6)


def test_gradients_are_finite_and_broken_samples_stay_apart() -> None:
    motion = small_steps(3, 2, 4)
    motion[1, 2] = torch.nan
    motion.requires_grad_()
    for keep in ("full", "heading"):
        aligned = align_orientation(motion, rotations(1, 2), keep=keep)
        assert aligned[0].isfinite().all()
        assert aligned[1].isnan().flatten(1).any(1).tolist() == [False, False, True, False]
        aligned[0].sum().backward()
    assert motion.grad is not None
    assert motion.grad[0].isfinite().all()


def test_one_frame_no_frame_no_motion() -> None:
    reference = rotations(0, 2)
    assert torch.allclose(align_orientation(rotations(1, 2, 1), reference)[:, 0], reference)
    for literal in (False, True):
        assert align_orientation(torch.zeros(2, 0, 3, 3).double(), reference, literal=literal).shape == (2, 0, 3, 3)
        assert align_orientation(torch.zeros(0, 4, 3, 3), torch.zeros(0, 3, 3), literal=literal).shape == (0, 4, 3, 3)
    assert align_motion(torch.zeros(2, 0, 5, 3).double(), reference, reference).shape == (2, 0, 5, 3)


def test_mistakes_are_named() -> None:
    motion, reference = rotations(0, 2, 4), rotations(1, 2)
    with pytest.raises(PosesynError, match="rotation matrices"):
        align_orientation(motion, reference[:1])
    with pytest.raises(PosesynError, match="rotation matrices"):
        align_orientation(motion[..., 0], reference)
    with pytest.raises(PosesynError, match="'full' or 'heading'"):
        align_orientation(motion, reference, keep="yaw")  # type: ignore[arg-type]
    with pytest.raises(PosesynError, match="as printed"):
        align_orientation(motion, reference, keep="heading", literal=True)
    with pytest.raises(PosesynError, match="points of shape"):
        align_motion(torch.zeros(3, 4, 1, 3), reference, reference)
