"""Clips as jobs: one camera, everybody in the picture, and the label that a single picture would have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from human.body import load_body
from human.camera import project
from human.errors import PosesynError
from human.motion import load_motion_bank
from human.rotations import geodesic_degrees, matrix_to_rotvec, rotation_about, rotvec_to_matrix
from synth.clips import NEAR_LIMIT, approach, clip_job, clips_for
from synth.engines import RenderedEngine
from synth.jobs import Job
from synth.labels import label_scenes
from synth.scene import SceneSpec, frame_person, in_fixed_batches, sample_scene
from synth.synthesis import Clips, Synthesised

BODY, BANK = load_body("free"), load_motion_bank()
SIZE = 64
PLACED: dict[str, Any] = {"size": SIZE, "field_of_view": 35.0, "fill": 0.8, "shift": (0.03, -0.02), "seed": 5}


def walk(path: float = 1.0, kept: int = 4, name: str = "walk", turn: float = 0.3) -> Clips:
    """The bank's walk before a level camera; ``path``: how much of its way is gone."""
    rows = BANK.frames(name)
    pose, root, place = (torch.tensor(x[rows]).float() for x in (BANK.poses, BANK.root, BANK.position))
    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ rotation_about("y", torch.tensor([turn]))[0]
    orient = matrix_to_rotvec(upright @ rotvec_to_matrix(root))
    offset = path * (place - place[kept]) @ upright.mT
    return Clips(pose[None], orient[None], offset[None], (kept,), 20.0)


def job_of(clips: Clips, **changes: Any) -> Job:
    return clip_job(clips, 0, torch.zeros(10), BODY, **PLACED | changes)


def joints_of(job: Job) -> torch.Tensor:
    s = job.scene
    return BODY.joints(s.betas, s.body_pose, s.global_orient, s.transl)


def in_canvas(job: Job) -> torch.Tensor:
    """Joints on the canvas, and whether all of them are."""
    assert job.canvas is not None
    return project(joints_of(job), job.canvas.intrinsics.expand(len(job.scene), -1, -1))


def test_the_kept_frame_is_labelled_as_a_single_picture_is() -> None:
    clips = walk()
    job = job_of(clips)
    posed = (
        torch.zeros(1, 10),
        rotvec_to_matrix(clips.body_pose[0, 4:5]),
        rotvec_to_matrix(clips.global_orient[0, 4:5]),
    )
    with torch.inference_mode():
        (joints,) = in_fixed_batches(lambda *part: (BODY.joints(*part),), *posed)
    transl, camera = frame_person(
        joints, SIZE, torch.tensor([35.0]), torch.tensor([0.8]), torch.tensor([[0.03, -0.02]])
    )
    kept = job.kept
    torch.testing.assert_close(kept.transl, transl, rtol=0, atol=2e-6)  # rounded as the company of frames rounds
    assert torch.equal(kept.intrinsics, camera)
    assert kept.seed.tolist() == [5]
    single = SceneSpec(*(x[None] for x in (kept.betas[0], clips.body_pose[0, 4], clips.global_orient[0, 4])),
                       kept.transl, camera, torch.tensor([5]))  # fmt: skip
    black = torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8)
    for name, value in label_scenes(single, black).as_dict().items():
        assert torch.equal(value, getattr(label_scenes(kept, black), name)), name


def test_every_row_is_the_motion_before_one_camera() -> None:
    clips = walk()
    job = job_of(clips)
    frames = clips.body_pose.shape[1]
    assert len(job.scene) == frames
    assert torch.equal(job.scene.body_pose, clips.body_pose[0])
    torch.testing.assert_close(job.scene.transl - job.scene.transl[4], clips.offset[0], rtol=0, atol=1e-6)
    assert job.canvas is not None
    # A crop is a scaling and a shift of the canvas.
    for row in job.scene.intrinsics:
        crop = row @ torch.linalg.inv(job.canvas.intrinsics)
        torch.testing.assert_close(crop[0, 0], crop[1, 1])
        torch.testing.assert_close(crop[[0, 1, 2, 2], [1, 0, 0, 1]], torch.zeros(4), rtol=0, atol=1e-5)
    # Every crop shows its own person as it was asked for.
    at = project(joints_of(job), job.scene.intrinsics)
    low, high = at.amin(1), at.amax(1)
    torch.testing.assert_close((high - low).amax(1) / SIZE, torch.full((frames,), 0.8), rtol=0, atol=1e-3)
    middle = ((low + high) / 2 - (SIZE - 1) / 2) / SIZE
    torch.testing.assert_close(middle, torch.tensor([[0.03, -0.02]]).expand(frames, 2), rtol=0, atol=1e-3)


def check_in_frame(job: Job, widest: float) -> None:
    assert job.canvas is not None
    at = in_canvas(job)
    canvas = torch.tensor([job.canvas.width, job.canvas.height])
    assert bool(((at > -0.5) & (at < canvas - 0.5)).all())
    assert float(joints_of(job)[..., 2].min()) >= NEAR_LIMIT - 1e-4
    # The kept crop lies on the canvas, which is no wider than asked (and a pixel for rounding).
    corners = job.kept.intrinsics[0] @ torch.linalg.inv(job.canvas.intrinsics)
    offset = -corners[:2, 2]
    assert bool((offset >= -1e-3).all())
    assert bool((offset + SIZE <= canvas + 1e-3).all())
    assert max(job.canvas.width, job.canvas.height) <= widest * SIZE + 2


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(BANK.clip_names),
    path=st.floats(0, 20),
    turn=st.floats(-3, 3),
    fov=st.floats(10, 90),
    fill=st.floats(0.5, 0.9),
    widest=st.floats(1.5, 4),
    kept=st.integers(0, 8),
)
def test_everybody_stays_in_the_picture(
    name: str, path: float, turn: float, fov: float, fill: float, widest: float, kept: int
) -> None:
    job = job_of(walk(path, kept, name, turn), field_of_view=fov, fill=fill, widest=widest)
    check_in_frame(job, widest)
    assert float(job.scene.seed[job.keep[0]]) == 5


def test_a_clip_is_cut_where_the_person_leaves_or_comes_too_near() -> None:
    whole, frames = job_of(walk()), walk().body_pose.shape[1]
    aside = walk()
    aside.offset[0, 10:, 0] += 30.0
    job = job_of(aside)
    assert (len(whole.scene), len(job.scene), job.keep) == (frames, 10, (4,))
    near = walk()
    near.offset[0, :3, 2] -= 30.0  # behind the camera
    job = job_of(near)
    assert (len(job.scene), job.keep) == (frames - 3, (1,))
    check_in_frame(job, 3.0)
    alone = walk()
    alone.offset[0, :4, 1] += 50
    alone.offset[0, 5:, 1] += 50
    job = job_of(alone)
    assert (len(job.scene), job.keep) == (1, (0,))
    assert torch.equal(job.kept.transl, whole.kept.transl)


def test_a_frame_that_is_nan_ends_the_clip() -> None:
    clips = walk()
    clips.body_pose[0, 7, 3] = torch.nan
    job = job_of(clips)
    assert (len(job.scene), job.keep) == (7, (4,))
    assert all(v.isfinite().all() for v in job.scene.values() if v is not None)
    clips.global_orient[0, 4] = torch.inf
    with pytest.raises(PosesynError, match="number 4"):
        job_of(clips)


def test_several_samples_of_a_clip_lie_far_apart() -> None:
    job = job_of(walk(), samples=3)
    last = len(job.scene) - 1
    assert job.keep == (4, last, 14)
    assert len({int(s) for s in job.scene.seed}) == len(job.scene)
    assert job.kept.seed[0] == 5
    one = walk(kept=0)
    one = replace(one, body_pose=one.body_pose[:, :1], global_orient=one.global_orient[:, :1], offset=one.offset[:, :1])
    assert job_of(one, samples=3).keep == (0,)
    for wrong in ({"samples": 0}, {"widest": 0.9}):
        with pytest.raises(PosesynError, match="widest >= 1 and samples >= 1"):
            job_of(walk(), **wrong)


def test_the_rendering_engine_makes_the_kept_frames() -> None:
    job = job_of(walk(), samples=2)
    (batch,) = RenderedEngine(size=SIZE, backgrounds="procedural").make([job])
    assert len(batch) == 2
    assert batch.key[:, 3].tolist() == job.kept.seed.tolist()
    assert bool((batch.joints2d_conf > 0).all())


# -- poses without a motion ------------------------------------------------------------------------------------------
def two_poses() -> tuple[Synthesised, list[SceneSpec | None]]:
    some = sample_scene([1, 2, 3], BANK, BODY, SIZE)
    made = Synthesised(some.betas[:2], some.body_pose[:2], some.global_orient[:2], torch.full((2,), torch.nan))
    return made, [some[2:], None]


def test_an_approach_goes_from_the_reference_to_the_pose() -> None:
    made, starts = two_poses()
    clips = clips_for(made, BODY, starts, frames=21)
    assert clips.keep == (20, 20)
    assert torch.equal(clips.body_pose[:, 20], made.body_pose)
    assert torch.equal(clips.global_orient[:, 20], made.global_orient)
    reference = starts[0]
    assert reference is not None
    first = rotvec_to_matrix(clips.body_pose[0, 0])
    torch.testing.assert_close(first, rotvec_to_matrix(reference.body_pose[0]), rtol=0, atol=1e-4)
    # The shortest way: what is turned adds up, and no step is much larger than the mean.
    rotation = rotvec_to_matrix(torch.cat([clips.global_orient[0, :, None], clips.body_pose[0]], 1))
    step = geodesic_degrees(rotation[1:], rotation[:-1])
    whole = geodesic_degrees(rotation[0], rotation[-1])
    torch.testing.assert_close(step.sum(0), whole, rtol=1e-3, atol=0.2)
    assert bool((step <= 1.6 * whole / 16 + 0.1).all())
    assert float(step[16:].max()) < 0.01  # it stands before it is kept
    # The lowest joint stays where it is.
    joints = BODY.joints(
        made.betas[:1].expand(21, -1), clips.body_pose[0], clips.global_orient[0], clips.offset[0]
    )  # fmt: skip
    lowest = joints[..., 1].amax(1)
    torch.testing.assert_close(lowest, lowest[-1:].expand(21), rtol=0, atol=1e-4)


def test_a_pose_whose_reference_is_not_known_is_held() -> None:
    made, starts = two_poses()
    clips = clips_for(made, BODY, starts, frames=5)
    assert torch.equal(clips.body_pose[1], made.body_pose[1].expand(5, 23, 3))
    assert not clips.offset[1].any()
    assert torch.equal(clips_for(made, BODY, frames=5).body_pose[0], made.body_pose[0].expand(5, 23, 3))
    one = clips_for(made, BODY, starts, frames=1)
    assert torch.equal(one.body_pose[:, 0], made.body_pose)
    job = clip_job(one, 0, made.betas[0], BODY, **PLACED)
    assert len(job.scene) == 1


def test_clips_that_there_are_stay() -> None:
    made, starts = two_poses()
    clips = Clips(*(torch.zeros(2, 3, *rest) for rest in ((23, 3), (3,), (3,))), (0, 1), 30.0)
    assert clips_for(replace(made, clips=clips), BODY, starts) is clips


def test_wrong_questions() -> None:
    made, starts = two_poses()
    with pytest.raises(PosesynError, match="2 slots need as many starts"):
        clips_for(made, BODY, starts[:1])
    with pytest.raises(PosesynError, match="at least one frame"):
        approach(made.betas, made.body_pose, made.global_orient, torch.zeros(2, 24, 3), BODY, frames=0)
    nobody = Synthesised(*(torch.zeros(0, *rest) for rest in ((10,), (23, 3), (3,), ())))
    assert len(clips_for(nobody, BODY)) == 0


def test_seeds_of_the_frames_are_those_of_the_slot() -> None:
    one, other = job_of(walk()), job_of(walk(), seed=6)
    assert not np.isin(one.scene.seed.numpy(), other.scene.seed.numpy()).any()
    assert torch.equal(one.scene.seed, job_of(walk()).scene.seed)
