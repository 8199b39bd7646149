"""Clips: from one slot's motion to the job of an engine that makes videos.

A video has one camera. It is framed about the slot's own pose exactly as a single picture of that pose would be, so
the label of the kept frame is the same whether a picture or a video is made. The rest of the motion happens before that
camera. Where it comes too near, or the picture would have to be much wider than the person, the clip is cut.

Poses that come from no motion get one: an even turn of every joint from the reference's pose to the slot's
(:func:`approach`), or, where the reference's pose is not known, the pose held still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from human.body import BodyModel
from human.camera import project
from human.crop import crop_affine, transform_intrinsics
from human.errors import PosesynError
from human.rng import derive_seed
from human.rotations import matrix_to_rotvec, rotvec_to_matrix
from synth.jobs import Canvas, Job, Prompt, Provenance, Reference
from synth.scene import SceneSpec, frame_person, in_fixed_batches
from synth.synthesis import Clips, Synthesised

NEAR_LIMIT = 0.3  # metres: no joint of any frame may come closer to the camera, as for single pictures
_SKIN = 0.15  # metres from the joints to the outermost skin and clothes: finger tips, toes, a skirt
_SHARE_OF_APPROACH = 0.8  # of an approach is movement, the rest stands


def clip_job(
    clips: Clips,
    slot: int,
    betas_10: Tensor,
    body: BodyModel,
    *,
    size: int,
    field_of_view: float,
    fill: float,
    shift: Sequence[float] | np.ndarray,
    seed: int,
    widest: float = 3.0,
    samples: int = 1,
    prompt: Prompt | None = None,
    reference: Reference | None = None,
    provenance: Provenance | None = None,
) -> Job:
    """The job of one slot's clip: every frame before one camera, on one canvas.

    Args:
        size, field_of_view, fill, shift: as of :func:`synth.scene.frame_person`, for the kept frame. The other frames'
            crops are about their own person, with the same fill and shift.
        seed: of the job and of the kept frame's sample; further samples' are made from it.
        widest: the canvas is at most so many times as wide or high as the kept frame's crop; the clip is cut where the
            person would leave it.
        samples: frames to keep: the slot's own first, then others, as far from each other in time as they can be. A
            clip that is cut short keeps fewer.

    Returns:
        A job whose rows are the frames that remain, in order, at least one. Canvas pixels are those of the kept
        frame's crop; what that crop shows lies on the canvas.

    Raises:
        PosesynError: the kept frame is not finite, or arguments make no sense.
    """
    if widest < 1 or samples < 1:
        raise PosesynError(f"a clip needs widest >= 1 and samples >= 1, got {widest} and {samples}")
    kept = clips.keep[slot]
    pose, orient, offset = clips.body_pose[slot], clips.global_orient[slot], clips.offset[slot]
    known = torch.cat([pose.flatten(1), orient, offset], 1).isfinite().all(1)
    if not bool(known[kept]):
        raise PosesynError(f"clip {slot}: the frame that becomes a sample (number {kept}) holds numbers that are none")
    betas = betas_10.expand(len(pose), -1)
    held = [torch.where(known.view(-1, *[1] * (v.ndim - 1)), v, v[kept]) for v in (pose, orient, offset)]
    joints = _joints(body, betas, held[0], held[1])
    place, camera = frame_person(
        joints[kept : kept + 1],
        size,
        torch.tensor([field_of_view]),
        torch.tensor([fill]),
        torch.as_tensor(np.asarray(shift, np.float64))[None],
    )
    transl = place + held[2]
    transl[kept] = place[0]
    boxes, skin = _boxes(joints + transl[:, None], camera)
    sides = (boxes[:, 2:] - boxes[:, :2]).amax(1) / fill
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 - torch.as_tensor(np.asarray(shift)) * sides[:, None]
    # frame_person's own camera, which is what the kept frame's crop is; its numbers are rounded less.
    sides[kept], centres[kept] = size, (size - 1) / 2
    near = (joints[..., 2] + transl[:, 2:]).amin(1) < NEAR_LIMIT
    near[kept] = False
    crops = torch.cat([centres - sides[:, None] / 2, centres + sides[:, None] / 2], 1)
    first, stop = _stretch(skin, crops[kept], (known & ~near).tolist(), kept, widest * size)
    keep = _keep(first, stop, kept, samples)
    canvas = _canvas(camera[0], [skin[first:stop], crops[list(keep)]])
    cameras = camera.repeat(len(pose), 1, 1)
    for f in set(range(first, stop)) - {kept}:
        crop = crop_affine(centres[f].tolist(), float(sides[f]), size)
        cameras[f] = torch.from_numpy(transform_intrinsics(crop, camera[0].double().numpy()))
    seeds = torch.tensor([seed if f == kept else derive_seed(seed, "frame", f) for f in range(len(pose))])
    scene = SceneSpec(betas.contiguous(), held[0], held[1], transl, cameras, seeds)
    return Job(
        scene[first:stop],
        seed,
        tuple(f - first for f in keep),
        clips.fps,
        prompt or Prompt(),
        reference,
        canvas=canvas,
        provenance=provenance or Provenance(),
    )


def _joints(body: BodyModel, betas_F10: Tensor, pose_F: Tensor, orient_F3: Tensor) -> Tensor:
    """(F, 32, 3) metres; each row as a refresh computes it for a single picture."""
    with torch.inference_mode():
        posed = (betas_F10, rotvec_to_matrix(pose_F), rotvec_to_matrix(orient_F3))
        (joints,) = in_fixed_batches(lambda *part: (body.joints(*part),), *posed)
    return joints.clone()  # out of inference mode


def _boxes(joints_FJ3: Tensor, camera_133: Tensor) -> tuple[Tensor, Tensor]:
    """(F, 4) float64 boxes x0, y0, x1, y1 in the kept frame's pixels: of the joints, and of the skin about them."""
    points = joints_FJ3.double()
    cameras = camera_133.double().expand(len(points), -1, -1)
    at = project(points, cameras)
    reach = (_SKIN * cameras[:, :1, 0] / points[..., 2].clamp_min(NEAR_LIMIT))[..., None]
    return (
        torch.cat([at.amin(1), at.amax(1)], 1),
        torch.cat([(at - reach).amin(1), (at + reach).amax(1)], 1),
    )


def _stretch(skin_F4: Tensor, crop_4: Tensor, usable: list[bool], kept: int, most: float) -> tuple[int, int]:
    """The longest run of usable frames about the kept one that fits a canvas of sides ``most``, grown both ways."""
    box = _union(skin_F4[kept], crop_4)
    most = max(most, float((box[2:] - box[:2]).amax()))
    first, stop = kept, kept + 1
    grows = [True, True]
    while any(grows):
        for way, f in ((0, first - 1), (1, stop)):
            if not grows[way]:
                continue
            grows[way] = 0 <= f < len(usable) and usable[f]
            wider = _union(box, skin_F4[f]) if grows[way] else box
            grows[way] = grows[way] and float((wider[2:] - wider[:2]).amax()) <= most
            if grows[way]:
                box = wider
                first, stop = (f, stop) if way == 0 else (first, f + 1)
    return first, stop


def _union(a_4: Tensor, b_4: Tensor) -> Tensor:
    return torch.cat([torch.minimum(a_4[:2], b_4[:2]), torch.maximum(a_4[2:], b_4[2:])])


def _keep(first: int, stop: int, kept: int, samples: int) -> tuple[int, ...]:
    """``samples`` frames, each as far from those before it as can be; the earliest among equals."""
    chosen = [kept]
    while len(chosen) < min(samples, stop - first):
        chosen.append(max(range(first, stop), key=lambda f: min(abs(f - c) for c in chosen)))
    return tuple(chosen)


def _canvas(camera_33: Tensor, boxes: list[Tensor]) -> Canvas:
    """The smallest picture of whole pixels that holds all boxes; its pixels are the kept frame's, shifted."""
    every = torch.cat(boxes)
    low = (every[:, :2].amin(0) + 0.5).floor().long()
    high = (every[:, 2:].amax(0) + 0.5).ceil().long()
    intrinsics = camera_33.clone()
    intrinsics[:2, 2] -= low
    width, height = (high - low).tolist()
    return Canvas(intrinsics, width, height)


# -- clips for poses that come from no motion ------------------------------------------------------------------------
def clips_for(
    made: Synthesised,
    body: BodyModel,
    starts: Sequence[SceneSpec | None] | None = None,
    frames: int = 41,
    fps: float = 20.0,
) -> Clips:
    """The clips of ``made``; where it has none, people who move from the reference's pose to theirs.

    Args:
        starts: for each slot how its reference stands (one row: :attr:`synth.jobs.Reference.body`), None where that is
            not known: the pose is held.
        frames, fps: of the clips that are made here.
    """
    if made.clips is not None:
        return made.clips
    count = len(made.betas)
    given = starts or [None] * count
    if len(given) != count:
        raise PosesynError(f"{count} slots need as many starts, got {len(given)}")
    nowhere = torch.full((24, 3), torch.nan)
    from_S = [nowhere if s is None else torch.cat([s.global_orient[:1], s.body_pose[0]]).float() for s in given]
    start = torch.stack(from_S) if count else torch.zeros(0, 24, 3)
    return approach(made.betas, made.body_pose, made.global_orient, start, body, frames, fps)


def approach(
    betas_S10: Tensor,
    pose_S233: Tensor,
    orient_S3: Tensor,
    start_S243: Tensor,
    body: BodyModel,
    frames: int = 41,
    fps: float = 20.0,
) -> Clips:
    """Clips in which every joint, and the whole body, turns from its start to the target, the shortest way.

    The turn begins and ends slowly and takes four fifths of the time; then the person stands, and the last frame is
    kept. The pelvis moves up and down so that the lowest joint stays at the height of the target's, for a level camera.

    Args:
        start_S243: rotation vectors, the body's orientation first; rows with NaN are held still instead.
    """
    if frames < 1:
        raise PosesynError(f"a clip needs at least one frame, got {frames}")
    count = len(betas_S10)
    target = torch.cat([orient_S3[:, None], pose_S233], 1).float()
    known = start_S243.flatten(1).isfinite().all(1)
    start = torch.where(known[:, None, None], start_S243, target).float()
    moving = max(round(_SHARE_OF_APPROACH * (frames - 1)), 1)
    time = (torch.arange(frames) / moving).clamp_max(1)
    share = time * time * (3 - 2 * time)
    share[-1] = 1
    ahead, turn = rotvec_to_matrix(start), rotvec_to_matrix(target)
    way = matrix_to_rotvec(ahead.mT @ turn)
    steps = share[None, :, None, None] * way[:, None]
    turned = matrix_to_rotvec(ahead[:, None] @ rotvec_to_matrix(steps))
    arrived = (share == 1)[None, :, None, None] | ~known[:, None, None, None]
    turned = torch.where(arrived, target[:, None], turned)
    offset = torch.zeros(count, frames, 3)
    for s in range(count):
        joints = _joints(body, betas_S10[s].expand(frames, -1), turned[s, :, 1:], turned[s, :, 0])
        lowest = joints[..., 1].amax(1)  # y points down
        offset[s, :, 1] = torch.where(arrived[s, :, 0, 0], 0.0, lowest[-1] - lowest)
    return Clips(turned[:, :, 1:].contiguous(), turned[:, :, 0].contiguous(), offset, (frames - 1,) * count, fps)


def hold_where_unknown(clips: Clips, body_pose_S233: Tensor, global_orient_S3: Tensor) -> Clips:
    """Clips whose kept frame is not known become that pose, held."""
    lost = [s for s, k in enumerate(clips.keep) if not bool(clips.body_pose[s, k].isfinite().all())]
    pose, orient, offset = clips.body_pose.clone(), clips.global_orient.clone(), clips.offset.clone()
    for s in lost:
        pose[s], orient[s], offset[s] = body_pose_S233[s], global_orient_S3[s], 0.0
    return replace(clips, body_pose=pose, global_orient=orient, offset=offset)
