"""Driving videos show what the labels say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from human.body import load_body
from human.camera import project
from human.errors import PosesynError
from human.rotations import matrix_to_rotvec, rotation_about, rotvec_to_matrix
from human.skeleton import POSE32
from synth.conditions import draw_conditions
from synth.driving import FACE_SIZE, cut_out, drive, fit_picture, head_crop, stick_width, strip, view_of
from synth.jobs import Canvas, Job
from synth.scene import sample_scene
from tests.synth.test_clips import BANK, SIZE, job_of, joints_of, walk

BODY = load_body("free")
AREA = 320 * 320


def few(count: int = 4, keep: tuple[int, ...] = (3, 1)) -> Job:
    """Some frames of a walk."""
    job = job_of(walk())
    return replace(job, scene=job.scene[:count], keep=keep)


def test_the_view_is_the_canvas_at_another_size() -> None:
    job = job_of(walk())
    view = view_of(job, SIZE, AREA, 16)
    assert job.canvas is not None
    assert view.width % 16 == view.height % 16 == 0
    assert 0.8 * AREA < view.width * view.height <= AREA
    on_video = project(joints_of(job), view.intrinsics.expand(len(job.scene), -1, -1)).double().numpy()
    # Through the row's crop, a point of the video is where the row's own camera sees it.
    for f, row in enumerate(project(joints_of(job), job.scene.intrinsics).double().numpy()):
        np.testing.assert_allclose(on_video[f] @ view.crops[f][:, :2].T + view.crops[f][:, 2], row, atol=2e-3)
    # The whole canvas is on the video.
    corners = torch.tensor([[-0.5, -0.5, 1.0], [job.canvas.width - 0.5, job.canvas.height - 0.5, 1.0]])
    rays = corners @ torch.linalg.inv(job.canvas.intrinsics).T
    ends = (rays @ view.intrinsics.T)[:, :2]
    assert bool((ends[0] > -0.51).all())
    assert bool((ends[1] < torch.tensor([view.width, view.height]) - 0.49).all())


def test_a_picture_without_a_canvas_is_its_own() -> None:
    job = Job(sample_scene([4], BANK, BODY, SIZE), 4)
    view = view_of(job, SIZE, 128 * 128, 16)
    assert (view.width, view.height) == (128, 128)
    np.testing.assert_allclose(view.crops[0], [[0.5, 0, -0.25], [0, 0.5, -0.25]], atol=1e-6)
    with pytest.raises(PosesynError, match="needs a canvas"):
        view_of(Job(sample_scene([4, 5], BANK, BODY, SIZE), 4), SIZE, AREA, 16)
    with pytest.raises(PosesynError, match="0 x 5 pixels"):
        view_of(replace(job, canvas=Canvas(torch.eye(3), 0, 5)), SIZE, AREA, 16)


def test_drawings_depth_and_mask_are_the_body_of_the_labels() -> None:
    job = few()
    view = view_of(job, SIZE, AREA, 16)
    driving = drive(job, view)
    assert driving.pose.shape == (4, view.height, view.width, 3)
    assert np.array_equal(driving.mask > 0, driving.depth > 0)
    assert set(np.unique(driving.mask)) == {0, 255}
    # What is cut out is what the row's own camera sees.
    masks = cut_out(np.repeat(driving.mask[list(job.keep), :, :, None], 3, -1), view, job.keep, SIZE)[:, 0] > 127
    kept = job.kept
    with torch.no_grad():
        posed = BODY(kept.betas, kept.body_pose, kept.global_orient, kept.transl)
        own = draw_conditions(BODY, posed.vertices, posed.joints, kept.intrinsics, (SIZE, SIZE))
    overlap = (masks & own.mask).sum((1, 2)) / (masks | own.mask).sum((1, 2))
    assert float(overlap.min()) > 0.93
    # Every joint of the drawing lies where it is labelled, in its own colour.
    colours = {"right_wrist": (170, 255, 0), "left_wrist": (0, 255, 85), "right_knee": (0, 255, 255)}
    at = project(joints_of(job), view.intrinsics.expand(4, -1, -1)).round().long()
    for name, colour in colours.items():
        for f in range(4):
            x, y = at[f, POSE32.index(name)].tolist()
            near = driving.pose[f, y - 9 : y + 10, x - 9 : x + 10].reshape(-1, 3)
            assert (near == colour).all(1).any(), (name, f)
    # The feet too, which OpenPose's drawing lacks: left toes, right toes.
    for colour in ((200, 200, 0), (100, 100, 0)):
        assert all((frame.reshape(-1, 3) == colour).all(1).any() for frame in driving.pose)


def test_a_strip_to_look_at() -> None:
    job = few()
    driving = drive(job, view_of(job, SIZE, 64 * 64, 16))
    height, width = driving.mask.shape[1:]
    picture = strip(driving, 3)
    assert picture.shape == (3 * height, 3 * width, 3)
    assert np.array_equal(picture[:height, -width:], driving.pose[3])
    assert np.array_equal(picture[-height:, :width, 0], driving.mask[0])


def test_one_scale_of_depth_for_the_clip() -> None:
    clips = walk()
    clips.offset[0, :, 2] += torch.linspace(0, 1, 25) - torch.linspace(0, 1, 25)[4]  # it walks away
    job = job_of(clips)
    driving = drive(job, view_of(job, SIZE, AREA, 16), [0, len(job.scene) - 1])
    first, last = (driving.depth[f][driving.depth[f] > 0] for f in (0, 1))
    assert first.max() == 255
    assert last.min() == 64
    assert last.mean() < first.mean() - 40


def test_no_face_on_the_back_of_a_head() -> None:
    nose = (255, 0, 0)
    job = few(1, (0,))
    around = rotation_about("y", torch.tensor([torch.pi]))
    behind = matrix_to_rotvec(rotvec_to_matrix(job.scene.global_orient) @ around)
    away = replace(job, scene=replace(job.scene, global_orient=behind))
    found = []
    for some in (job, away):
        pose = drive(some, view_of(some, SIZE, AREA, 16)).pose
        found.append(bool((pose.reshape(-1, 3) == nose).all(1).any()))
    assert found == [True, False]


def test_further_people_hide_and_are_hidden() -> None:
    job = few(1, (0,))
    view = view_of(job, SIZE, AREA, 16)
    alone = drive(job, view)
    step = torch.tensor([[0.25, 0.0, 0.8]])
    behind, before = (replace(job.scene, transl=job.scene.transl + way * step) for way in (1, -0.6))
    pair = drive(replace(job, others=(behind,)), view)
    assert (pair.mask > 0).sum() > (alone.mask > 0).sum()
    # The labelled person is in front: where they are, nothing of the other shows.
    assert np.array_equal(pair.pose[alone.pose.any(-1)], alone.pose[alone.pose.any(-1)])
    hidden = drive(replace(job, others=(before,)), view)
    theirs = drive(replace(job, scene=before), view).mask > 0
    mine = alone.mask > 0
    assert (mine & theirs).sum() > 100
    assert hidden.depth[mine & theirs].mean() > hidden.depth[mine & ~theirs].mean() + 10


def test_what_cannot_be_drawn_is_one_clear_error() -> None:
    job = few()
    pose = job.scene.body_pose.clone()
    pose[2, 5] = torch.nan
    broken = replace(job, scene=replace(job.scene, body_pose=pose))
    view = view_of(job, SIZE, AREA, 16)
    with pytest.raises(PosesynError, match=r"frames \[2\] hold numbers that are none"):
        drive(broken, view)
    assert len(drive(broken, view, [0, 1, 3]).pose) == 3  # not asked for
    gone = job.scene.transl.clone()
    gone[3, 0] += 50
    away = replace(job, scene=replace(job.scene, transl=gone))
    with pytest.raises(PosesynError, match=r"frames \[3\], which become samples, nobody"):
        drive(away, view)
    # One who leaves in frames that nobody keeps is no error; the frame is empty.
    driving = drive(replace(away, keep=(0,)), view)
    assert driving.mask[2].any()
    assert not driving.mask[3].any()
    assert not driving.pose[3].any()


def test_a_reference_of_another_shape_is_mirrored_not_barred() -> None:
    picture = np.full((40, 40, 3), 200, np.uint8)
    wide = fit_picture(picture, 48, 96)
    assert wide.shape == (48, 96, 3)
    assert wide.min() == 200
    ramp = np.repeat(np.arange(100, 200, dtype=np.uint8)[:, None, None], 60, 1).repeat(3, 2)
    same = fit_picture(ramp, 100, 60)
    assert np.array_equal(same, ramp)
    assert fit_picture(picture[:1, :1], 16, 32).shape == (16, 32, 3)


def test_the_head_is_cut_out_of_the_reference() -> None:
    body = sample_scene([9], BANK, BODY, 256)
    joints = BODY.joints(body.betas, body.body_pose, body.global_orient, body.transl)
    at = project(joints, body.intrinsics)[0]
    x, y = (int(v) for v in at[POSE32.index("nose")])
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[y - 1 : y + 2, x - 1 : x + 2] = 255
    crop = head_crop(picture, body, BODY)
    assert crop is not None
    assert crop.shape == (FACE_SIZE, FACE_SIZE, 3)
    assert crop.max() > 200  # the nose is in it
    assert head_crop(picture[:, : max(x - 60, 1)], body, BODY) is None
    assert head_crop(picture, replace(body, transl=body.transl * torch.nan), BODY) is None


def test_sticks_are_as_thick_as_upstream_draws_them() -> None:
    # max(int(min(H, W) / 200) - 1, 1): Wan2.2, human_visualization.py, "v2"
    assert [stick_width(*s) for s in ((720, 1280), (480, 832), (1280, 720), (64, 64), (900, 900))] == [2, 1, 2, 1, 3]
