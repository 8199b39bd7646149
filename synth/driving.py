"""Driving videos: what a human-animation model is shown of a clip, drawn from the bodies that are its labels.

Nothing is detected: pose drawings, depth and masks come from the same vertices and the same camera as the labels, so
what drives the video and what is written beside it cannot differ.

    view = view_of(job, size=256, area=480 * 832, multiple=16)      # the whole clip as one picture of the model's size
    driving = drive(job, view)                                      # pose, depth, mask of every frame
    pictures = cut_out(video, view, job.keep, size=256)             # from the model's frames to the rows' crops
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import torch
from torch import Tensor

from human.body import BodyModel, load_body
from human.camera import project
from human.crop import warp_image
from human.errors import PosesynError
from human.skeleton import COCO17, POSE32
from synth.conditions import draw_conditions, openpose_drawing
from synth.jobs import Canvas, Job
from synth.scene import SceneSpec

FACE_SIZE = 512  # pixels, of face videos
_FACE = COCO17.indices("nose", "left_eye", "right_eye", "left_ear", "right_ear")
_HEAD = POSE32.indices("nose", "left_eye", "right_eye", "left_ear", "right_ear", "upper_neck", "head_top")
_ANKLES, _BALLS = POSE32.indices("left_ankle", "right_ankle"), POSE32.indices("left_foot", "right_foot")
_TOES = 0.35  # of the way from ankle to ball, beyond the ball: between the big toe's tip and the small one's
#: Ankle to toes, left and right, and the toes' own dots: Wan2.2, wan/modules/animate/preprocess/human_visualization.py
_FEET = ((255, 0, 85), (200, 200, 0))
_TOE_DOTS = ((200, 200, 0), (100, 100, 0))
_ANKLE_DOTS = ((85, 0, 255), (0, 170, 255))
_LIMB_SHADE = 0.6
_FARTHEST_GREY = 0.25  # of white: the farthest point of the clip, so that it stands out from nothing
_BATCH = 16


@dataclass(frozen=True)
class View:
    """A clip's picture at a video model's size.

    Attributes:
        width, height: pixels.
        intrinsics: (3,3) pixels of the video.
        crops: (F,2,3) float64, from video pixels to those of each row's own picture.
    """

    width: int
    height: int
    intrinsics: Tensor
    crops: np.ndarray


@dataclass(frozen=True)
class Driving:
    """What a model is shown of F frames, uint8.

    Attributes:
        pose: (F,H,W,3) skeletons on black, as DWPose's and ViTPose's users draw them.
        depth: (F,H,W) inverse depth, the clip's nearest point 255, nobody 0.
        mask: (F,H,W) 255 where a person is.
    """

    pose: np.ndarray
    depth: np.ndarray
    mask: np.ndarray


def view_of(job: Job, size: int, area: int, multiple: int) -> View:
    """The job's canvas at about ``area`` pixels, sides multiples of ``multiple``; what is added for that is scene.

    Args:
        size: of the rows' own pictures, pixels.

    Raises:
        PosesynError: a job without a canvas whose rows have different cameras.
    """
    cameras = job.scene.intrinsics.double()
    canvas = job.canvas
    if canvas is None:
        if not torch.equal(cameras, cameras[:1].expand_as(cameras)):
            raise PosesynError(f"job {job.seed}: its rows have different cameras; a clip of crops needs a canvas")
        canvas = Canvas(cameras[0], size, size)
    if canvas.width < 1 or canvas.height < 1:
        raise PosesynError(f"job {job.seed}: its canvas is {canvas.width} x {canvas.height} pixels")
    scale = math.sqrt(area / (canvas.width * canvas.height))
    width, height = (max(multiple, int(side * scale) // multiple * multiple) for side in (canvas.width, canvas.height))
    scale = min(width / canvas.width, height / canvas.height)
    # Pixel centres are integers: the canvas covers -0.5 .. side - 0.5, and its middle goes to the video's middle.
    place = np.diag([scale, scale, 1.0])
    place[:2, 2] = [
        (new - 1) / 2 - scale * (old - 1) / 2 for new, old in ((width, canvas.width), (height, canvas.height))
    ]
    intrinsics = torch.from_numpy(place) @ canvas.intrinsics.double()
    crops = (cameras @ torch.linalg.inv(intrinsics)).numpy()[:, :2]
    return View(width, height, intrinsics.float(), crops)


def drive(job: Job, view: View, rows: Sequence[int] | None = None, body: str = "free") -> Driving:
    """Driving videos of some rows of a job (all by default), with the other people in it.

    Raises:
        PosesynError: a frame holds numbers that are none, or a kept frame shows nobody.
    """
    rows = list(range(len(job.scene))) if rows is None else list(rows)
    model = posed_body(body)
    shape = (len(rows), view.height, view.width)
    pose = np.zeros((*shape, 3), np.uint8)
    depth = torch.zeros(shape)
    for scene in (*job.others, job.scene):  # the labelled person is drawn last
        _check(job, scene, rows)
        for start in range(0, len(rows), _BATCH):
            part = slice(start, start + _BATCH)
            drawn, near = _person(scene[rows[part]], view, model)
            pose[part] = np.where(drawn.any(-1, keepdims=True), drawn, pose[part])
            behind = (depth[part] == 0) | ((near > 0) & (near < depth[part]))
            depth[part] = torch.where(behind, near, depth[part])
    _check_seen(job, view, model)
    return Driving(pose, _depth_video(depth), np.where(depth.numpy() > 0, 255, 0).astype(np.uint8))


def cut_out(video_FHW3: np.ndarray, view: View, rows: Sequence[int], size: int) -> Tensor:
    """(K,3,size,size) uint8: the rows' own pictures, cut from their frames.

    Args:
        video_FHW3: uint8, one frame for each of ``rows``.
    """
    crops = [warp_image(frame, view.crops[row], size) for frame, row in zip(video_FHW3, rows, strict=True)]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


@cache
def posed_body(name: str) -> BodyModel:
    """The body model, loaded once: what :func:`synth.conditions.own_thickness` measures on it is kept with it."""
    return load_body(name)


def _check(job: Job, scene: SceneSpec, rows: list[int]) -> None:
    numbers = (scene.betas, scene.body_pose, scene.global_orient, scene.transl, scene.intrinsics)
    sound = torch.stack([v[rows].flatten(1).isfinite().all(1) for v in numbers]).all(0)
    if not bool(sound.all()):
        bad = [rows[k] for k in torch.nonzero(~sound)[:, 0].tolist()]
        raise PosesynError(f"job {job.seed}: frames {bad} hold numbers that are none; cut the clip before them")


def _check_seen(job: Job, view: View, model: BodyModel) -> None:
    kept = job.kept
    joints = model.joints(kept.betas, kept.body_pose, kept.global_orient, kept.transl)
    at = project(joints, view.intrinsics.expand(len(kept), -1, -1))
    limit = torch.tensor([view.width, view.height]) - 0.5
    seen = ((at > -0.5) & (at < limit)).all(-1) & (joints[..., 2] > 0)
    if not bool(seen.any(1).all()):
        gone = [job.keep[k] for k in torch.nonzero(~seen.any(1))[:, 0].tolist()]
        raise PosesynError(f"job {job.seed}: in the frames {gone}, which become samples, nobody is on the canvas")


def _person(scene: SceneSpec, view: View, model: BodyModel) -> tuple[np.ndarray, Tensor]:
    """(F,H,W,3) drawing and (F,H,W) metres of one person."""
    size = (view.height, view.width)
    cameras = view.intrinsics.expand(len(scene), -1, -1)
    with torch.inference_mode():
        posed = model(scene.betas, scene.body_pose, scene.global_orient, scene.transl)
        seen = draw_conditions(model, posed.vertices, posed.joints, cameras, size)
        # A detector finds hidden limbs, but no face on the back of a head.
        shown = torch.ones_like(seen.coco_visible)
        shown[:, _FACE] = seen.coco_visible[:, _FACE]
        width = stick_width(*size)
        drawing = openpose_drawing(seen.coco2d, shown.float(), size, width).numpy()
        ankles, balls = posed.joints[:, _ANKLES], posed.joints[:, _BALLS]
        toes = project(balls + _TOES * (balls - ankles), cameras)
    for picture, feet, ends in zip(drawing, seen.joints2d[:, _ANKLES].numpy(), toes.numpy(), strict=True):
        _draw_feet(picture, feet, ends, width)
    return drawing, seen.depth.clone()


def stick_width(height: int, width: int) -> int:
    """Half the width of a limb, pixels, as Wan-Animate's preprocessing draws it ("v2")."""
    return max(min(height, width) // 200 - 1, 1)


def _draw_feet(picture: np.ndarray, ankles_22: np.ndarray, toes_22: np.ndarray, width: int) -> None:
    """Limbs from ankles to toes, which OpenPose's drawing does not have and Wan-Animate's has; in place."""
    reach = 16 * max(picture.shape)
    for side, (ankle, toe) in enumerate(zip(ankles_22, toes_22, strict=True)):
        if not (np.isfinite([ankle, toe]).all() and np.abs([ankle, toe]).max() < reach):
            continue
        middle, (dx, dy) = (ankle + toe) / 2, ankle - toe
        axes, angle = (int(math.hypot(dx, dy) / 2), width), int(math.degrees(math.atan2(dy, dx)))
        outline = cv2.ellipse2Poly((int(middle[0]), int(middle[1])), axes, angle, 0, 360, 1)
        cv2.fillConvexPoly(picture, np.asarray(outline), [int(_LIMB_SHADE * c) for c in _FEET[side]])
        for (x, y), colour in ((ankle, _ANKLE_DOTS[side]), (toe, _TOE_DOTS[side])):
            cv2.circle(picture, (int(x), int(y)), width, colour, thickness=-1)


def _depth_video(depth_FHW: Tensor) -> np.ndarray:
    """As :func:`synth.conditions.depth_picture`, with one scale for the whole clip: it must not flicker."""
    covered = depth_FHW > 0
    if not bool(covered.any()):
        return np.zeros(tuple(depth_FHW.shape), np.uint8)
    inverse = 1 / depth_FHW[covered]
    near, far = inverse.max(), inverse.min()
    share = (inverse - far) / (near - far).clamp_min(1e-9)
    level = torch.zeros_like(depth_FHW)
    level[covered] = _FARTHEST_GREY + (1 - _FARTHEST_GREY) * share
    return (255 * level + 0.5).to(torch.uint8).numpy()


def strip(driving: Driving, columns: int = 8) -> np.ndarray:
    """(3H, columns*W, 3) uint8 to look at: skeletons, depth and masks of frames evenly spread over the clip."""
    frames = np.linspace(0, len(driving.pose) - 1, columns).round().astype(int)
    grey = [np.repeat(video[frames, :, :, None], 3, -1) for video in (driving.depth, driving.mask)]
    return np.concatenate([np.concatenate(list(row), 1) for row in (driving.pose[frames], *grey)], 0)


# -- the reference ---------------------------------------------------------------------------------------------------
def fit_picture(image_HW3: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture at another shape: scaled to fit inside, the rest mirrored, so that no black bars enter the scene."""
    scale = min(height / image_HW3.shape[0], width / image_HW3.shape[1])
    inner = [max(1, round(side * scale)) for side in image_HW3.shape[:2]]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture = cv2.resize(image_HW3, (min(inner[1], width), min(inner[0], height)), interpolation=how)
    top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
    bottom, right = height - picture.shape[0] - top, width - picture.shape[1] - left
    return np.asarray(cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_REFLECT), np.uint8)


def head_crop(image_HW3: np.ndarray, body: SceneSpec, model: BodyModel) -> np.ndarray | None:
    """(512,512,3) the reference's head, a third larger than its joints; None where it is not in the picture."""
    joints = model.joints(body.betas[:1], body.body_pose[:1], body.global_orient[:1], body.transl[:1])[:, _HEAD]
    at = project(joints, body.intrinsics[:1].float())[0].double().numpy()
    if not np.isfinite(at).all() or float(joints[..., 2].min()) <= 0:
        return None
    low, high = at.min(0), at.max(0)
    side, middle = 1.3 * float((high - low).max()), (low + high) / 2
    height, width = image_HW3.shape[:2]
    if side < 2 or not (0 <= middle[0] < width and 0 <= middle[1] < height):
        return None
    scale = FACE_SIZE / side
    to_crop = np.array([[scale, 0, 0], [0, scale, 0]])
    to_crop[:, 2] = (FACE_SIZE - 1) / 2 - scale * middle
    return warp_image(image_HW3, to_crop, FACE_SIZE)
