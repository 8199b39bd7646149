"""What a ControlNet is shown of a scene: depth and skeletons of everybody in it, at the model's own size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from human.body import BodyModel, load_body
from human.errors import PosesynError
from synth.conditions import Conditions, depth_picture, draw_conditions, openpose_drawing
from synth.scene import SceneSpec


@dataclass(frozen=True)
class ControlPictures:
    """B pictures of R px, on the CPU.

    Attributes:
        depth: (B,R,R) metres of the nearest surface, 0 where there is nobody.
        depth_picture: (B,R,R) uint8, inverse depth, all people on one scale.
        skeletons: (B,R,R,3) uint8 RGB, OpenPose's drawing of everybody, nearer people over farther ones.
        mask: (B,R,R) bool, the first person where nobody is before it.
    """

    depth: Tensor
    depth_picture: Tensor
    skeletons: Tensor
    mask: Tensor


def scale_camera(intrinsics_B33: Tensor, size: int, resolution: int) -> Tensor:
    """The same view in pictures of ``resolution`` px instead of ``size`` (pixel centres are integers)."""
    factor = resolution / size
    out = intrinsics_B33.clone()
    out[:, :2] *= factor
    out[:, :2, 2] += (factor - 1) / 2
    return out


def control_pictures(
    scene: SceneSpec,
    others: Sequence[SceneSpec],
    size: int,
    resolution: int,
    body: str | BodyModel = "free",
    hidden_joints: bool = True,
) -> ControlPictures:
    """Draw ``scene`` and the other people under its camera.

    Args:
        scene: B rows whose intrinsics are for pictures of ``size`` px.
        others: each B rows; their own intrinsics are not looked at.
        resolution: side of the pictures drawn.
        hidden_joints: whether joints behind something are drawn too.

    Raises:
        PosesynError: a pose, shape or camera is not finite, or a first person is nowhere in the picture.
    """
    model = _loaded(body) if isinstance(body, str) else body
    cameras = scale_camera(scene.intrinsics.float(), size, resolution)
    people = [_checked(person) for person in (replace(scene, intrinsics=cameras), *others)]
    seen = [_draw(model, person, cameras, resolution) for person in people]
    if (missing := ~seen[0].mask.flatten(1).any(1)).any():
        raise PosesynError(
            f"the person of the scene with seed {int(scene.seed[missing][0])} is nowhere in the picture: "
            "leave the scene out or move the camera"
        )
    far = torch.stack([torch.where(s.mask, s.depth, torch.inf) for s in seen])
    depth, nearest = far.min(0)
    depth = torch.where(depth.isfinite(), depth, 0.0)
    width = max(1, round(4 * resolution / 512))  # half a limb's width; ControlNets saw 4 at 512 px
    drawings = []
    for conditions in seen:
        shown = torch.ones_like(conditions.coco_visible) if hidden_joints else conditions.coco_visible
        shown = shown & conditions.coco2d.isfinite().all(-1)
        drawings.append(openpose_drawing(conditions.coco2d, shown.float(), (resolution, resolution), width))
    return ControlPictures(depth, depth_picture(depth), _layered(drawings, people), seen[0].mask & (nearest == 0))


@cache
def _loaded(body: str) -> BodyModel:
    return load_body(body)


def _layered(drawings: list[Tensor], people: list[SceneSpec]) -> Tensor:
    """Drawings (B,R,R,3) over each other, by the distance of the people's roots."""
    distance = torch.stack([p.transl[:, 2] for p in people])  # (P,B)
    order = distance.argsort(0, descending=True)
    stacked = torch.stack(drawings)
    rows = torch.arange(stacked.shape[1])
    out = torch.zeros_like(drawings[0])
    for rank in order:
        layer = stacked[rank, rows]
        out = torch.where((layer > 0).any(-1, keepdim=True), layer, out)
    return out


def _draw(body: BodyModel, person: SceneSpec, cameras_B33: Tensor, resolution: int) -> Conditions:
    with torch.no_grad():
        posed = body(person.betas, person.body_pose, person.global_orient, person.transl)
        return draw_conditions(body, posed.vertices, posed.joints, cameras_B33, (resolution, resolution))


def _checked(person: SceneSpec) -> SceneSpec:
    out = {}
    for name in ("betas", "body_pose", "global_orient", "transl", "intrinsics"):
        value = getattr(person, name).detach().cpu().float()
        bad = ~value.isfinite().flatten(1).all(1)
        if bad.any():
            raise PosesynError(
                f"the scene with seed {int(person.seed[bad][0])} has a {name} that is not finite: leave it out"
            )
        out[name] = value
    return replace(person, **out)


def resize_pictures(images_B3HW: Tensor, size: int) -> Tensor:
    """(B,3,size,size) uint8 of [0,1] float pictures, antialiased."""
    images = images_B3HW.detach().float().cpu()
    if images.shape[-2:] != (size, size):
        images = F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return (images * 255).round().clamp(0, 255).to(torch.uint8)
