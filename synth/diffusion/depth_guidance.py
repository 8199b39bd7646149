"""What depth-guided denoising is told about a scene: a depth map and a mask of the people, both at latent size.

Weng et al., "Diffusion-HPC" (3DV 2024); ZZWENG/Diffusion_HPC, api.py, our_pipeline, and hmr_utils.py, render. The map
is that of the body alone: nearest 1, its farthest point a little below 0, everything else -1. Where an object of the
picture stands before the body it is cut out of the map and keeps its own pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from human.body import BodyModel
from human.raster import rasterise
from synth.scene import SceneSpec

#: Level of the body's farthest point where its nearest is 1: theirs are grey levels 50 and 110.
FLOOR = 50 / 110


@dataclass(frozen=True)
class Guidance:
    """One picture's.

    Attributes:
        depth: (1,h,w) float32 in -1..1 at latent size, as the denoiser takes it.
        people: (1,h,w) float32, 1 where latents are made anew.
        hidden: share of the body's pixels that objects cover.
    """

    depth: Tensor
    people: Tensor
    hidden: float


def scaled_intrinsics(intrinsics_B33: Tensor, scale: float) -> Tensor:
    """Of the same picture ``scale`` times as large; pixel centres are integers."""
    out = intrinsics_B33.clone()
    out[:, :2] *= scale
    out[:, :2, 2] += (scale - 1) / 2
    return out


def scene_depth(body: BodyModel, people: list[SceneSpec], size: int, drawn: int, backend: str = "warp") -> Tensor:
    """(drawn,drawn) metres, 0 where there is nobody: one row each, all before the first one's camera.

    Args:
        size: side of the pictures that the intrinsics are for. drawn: side of the map.
    """
    camera = scaled_intrinsics(people[0].intrinsics.float(), drawn / size)
    depth = torch.full((drawn, drawn), torch.inf)
    for person in people:
        with torch.inference_mode():
            vertices = body(
                person.betas.float(), person.body_pose.float(), person.global_orient.float(), person.transl.float()
            ).vertices
            mine = rasterise(vertices, body.faces.to(torch.int32), camera, (drawn, drawn), backend).depth[0]
        depth = torch.where((mine > 0) & (mine < depth), mine, depth)
    return torch.where(depth.isfinite(), depth, 0.0)


def relative_depth(depth_HW: Tensor, floor: float = FLOOR) -> Tensor:
    """(H,W) 0..1: nearest 1, the body's farthest point ``floor``, linear in metres between; 0 where nobody is."""
    covered = depth_HW > 0
    if not bool(covered.any()):
        return torch.zeros_like(depth_HW)
    near, far = depth_HW[covered].min(), depth_HW[covered].max()
    share = (far - depth_HW) / (far - near).clamp_min(1e-6) if far > near else torch.ones_like(depth_HW)
    return torch.where(covered, floor + (1 - floor) * share, 0.0)


def guide(
    depth_HW: Tensor,
    person_HW: Tensor,
    objects_HW: Tensor,
    latent: int,
    floor: float = FLOOR,
    hidden_at_most: float = 0.5,
) -> Guidance:
    """The guidance of one picture.

    Args:
        depth_HW: metres, of :func:`scene_depth`.
        person_HW, objects_HW: bool, people and other things in the initial picture (:mod:`synth.segmenters`).
        latent: side of the latents.
        hidden_at_most: objects that cover more of the body than this are taken for a mistake (or for something behind
            it) and painted over: the label says that there is a person.
    """
    body = depth_HW > 0
    hidden = float((body & objects_HW).sum() / body.sum().clamp_min(1))
    objects = objects_HW if hidden <= hidden_at_most else objects_HW & ~body
    level = torch.where(objects, 0.0, relative_depth(depth_HW, floor))
    # As the pipeline scales its maps; the ends come from what is there, not from what the cubic overshoots.
    small = F.interpolate(level[None, None], (latent, latent), mode="bicubic", align_corners=False, antialias=True)[0]
    people = torch.maximum(_share(person_HW, latent) >= 0.5, _share(body, latent) > 0) & (_share(objects, latent) < 0.5)
    return Guidance((2 * small - 1).clamp(-1, 1), people.float(), hidden)


def _share(mask_HW: Tensor, latent: int) -> Tensor:
    """(1,latent,latent): how much of each cell is covered."""
    return F.adaptive_avg_pool2d(mask_HW[None, None].float(), latent)[0]
