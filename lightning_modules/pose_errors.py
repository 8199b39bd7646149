"""Errors that a 2D pose detector would make, put into labelled 2D poses.

Moon et al., "PoseFix: Model-agnostic General Human Pose Refinement Network", CVPR 2019, §3.1, with the error
statistics of Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation", ICCV 2017:
jitter, miss, inversion (the mirrored joint) and swap (another person's joint), by object keypoint similarity (OKS).
Each kind is drawn by rejection: the first of ``TRIES`` points that is nearer to its own candidate than to the others.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from human.skeleton import COCO17

TRIES = 64
#: COCO's standard deviation of annotators per joint, in units of the root of the person's area.
_SIGMAS = torch.tensor(
    [0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89]
) / 10  # fmt: skip
_MIRROR = torch.tensor(COCO17.flip_permutation)
_PAIRED = torch.arange(len(COCO17)) != _MIRROR


def _by_joint(nose: float, face: float, shoulder: float, arm: float, hip: float, knee: float, ankle: float) -> Tensor:
    return torch.tensor([nose] + [face] * 4 + [shoulder] * 2 + [arm] * 4 + [hip] * 2 + [knee] * 2 + [ankle] * 2)


#: Probabilities by joint; first for persons of whom few joints are labelled.
_JITTER = torch.stack([
    _by_joint(0.15, 0.20, 0.20, 0.20, 0.25, 0.15, 0.15), _by_joint(0.10, 0.15, 0.15, 0.15, 0.20, 0.10, 0.10)
])  # fmt: skip
_MISS = torch.stack([
    _by_joint(0.15, 0.15, 0.20, 0.25, 0.25, 0.25, 0.20), _by_joint(0.10, 0.10, 0.13, 0.15, 0.15, 0.15, 0.13),
    _by_joint(0.02, 0.02, 0.05, 0.10, 0.10, 0.10, 0.05),
])  # fmt: skip
_INVERSION = _by_joint(0.01, 0.01, 0.03, 0.03, 0.06, 0.06, 0.06)
#: First in crowds.
_SWAP = torch.stack([
    _by_joint(0.02, 0.02, 0.15, 0.15, 0.10, 0.10, 0.10), _by_joint(0.01, 0.01, 0.06, 0.06, 0.03, 0.03, 0.03)
])  # fmt: skip


class Neighbours(NamedTuple):
    """Who overlaps the target: ``joints`` (B,P,17,2) pixels, ``seen`` (B,P,17) bool, ``people`` (B,) how many."""

    joints: Tensor
    seen: Tensor
    people: Tensor


def no_neighbours(like_B17: Tensor) -> Neighbours:
    """Nobody else."""
    n, j = like_B17.shape[:2]
    blank = like_B17.new_zeros(n, 0, j, 2)
    return Neighbours(blank, blank[..., 0].bool(), torch.zeros(n, dtype=torch.long, device=like_B17.device))


def oks_distance(similarity: float, area_B: Tensor) -> Tensor:
    """(B,17) pixels from a joint at which OKS is ``similarity``; ``area_B`` of the person, square pixels."""
    variance = (2 * _SIGMAS.to(area_B)).square()
    return (area_B[:, None] * variance * (-2 * torch.log(area_B.new_tensor(similarity)))).sqrt()


def detector_errors(
    joints_B17: Tensor,
    seen_B17: Tensor,
    area_B: Tensor,
    near: Neighbours | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Poses as a detector might have found them.

    Args:
        joints_B17: (B,17,2) labelled joints of COCO, pixels.
        seen_B17: (B,17) bool, which are labelled; the others get points that mean nothing.
        area_B: (B,) of the persons' boxes, square pixels.
        near: who else is there; without, no joint is swapped.
        generator: of torch's random numbers; default: the global one.

    Returns:
        (B,17,2) pixels, and (B,17) bool: False for a joint for which no point was found that fits (all candidates in
        one place).
    """
    near = near or no_neighbours(joints_B17)
    device, mirror = joints_B17.device, _MIRROR.to(joints_B17.device)
    # Places that a detector may be drawn to: this joint, its mirror image, and the neighbours' of both.
    places = torch.cat([joints_B17[:, None], joints_B17[:, None, mirror], near.joints, near.joints[:, :, mirror]], 1)
    paired = _PAIRED.to(device)
    known = torch.cat(
        [
            torch.ones_like(seen_B17)[:, None],
            (seen_B17[:, mirror] & paired)[:, None],
            near.seen,
            near.seen[:, :, mirror] & paired,
        ],
        1,
    )
    draw = _Draw(places.transpose(1, 2), known.transpose(1, 2), generator)
    d10, d50, d85 = (oks_distance(s, area_B) for s in (0.10, 0.50, 0.85))
    none = torch.zeros_like(d50)
    own, other, swapped = draw.only(0), draw.only(1), draw.neighbours()
    everyone = torch.ones(draw.count, dtype=torch.bool, device=device)
    anywhere = torch.cat([own[..., :1].float(), 0.25 * draw.known[..., 1:].float()], -1)
    found = [
        draw(own.float(), d85, d50, everyone, None),
        draw(anywhere, d50, d10, everyone, d50),
        draw(other.float(), none, d50, everyone, None),
        draw(swapped.float(), none, d50, torch.arange(draw.count, device=device) < 2, None),
        draw(own.float(), none, d85, everyone, None),
    ]
    points, possible = torch.stack([p for p, _ in found], 2), torch.stack([ok for _, ok in found], 2)
    chance = error_probabilities(seen_B17.sum(1), near.people) * possible
    total = chance.cumsum(-1)
    pick = torch.rand(total.shape[:2], generator=generator, device=device)[..., None] * total[..., -1:]
    kind = (pick >= total).sum(-1).clamp_max(len(found) - 1)
    chosen = points.gather(2, kind[..., None, None].expand(-1, -1, 1, 2))[:, :, 0]
    return chosen, total[..., -1] > 0


def error_probabilities(labelled_B: Tensor, overlapping_B: Tensor) -> Tensor:
    """(B,17,5) jitter, miss, inversion, swap and good, by how many joints are labelled and persons overlap."""
    few, fewer, device = labelled_B <= 10, labelled_B <= 5, labelled_B.device
    jitter = _JITTER.to(device)[(~few).long()]
    miss = _MISS.to(device)[2 - few.long() - fewer.long()]
    crowded = (few & (overlapping_B > 0)) | ((labelled_B <= 15) & (overlapping_B >= 3))
    swap = _SWAP.to(device)[(~crowded).long()]
    errors = torch.stack([jitter, miss, _INVERSION.to(device).expand_as(jitter), swap], -1)
    return torch.cat([errors, 1 - errors.sum(-1, keepdim=True)], -1)


class _Draw:
    """Draws points about candidates ``places`` (B,17,M,2), of which ``known`` (B,17,M) exist."""

    def __init__(self, places: Tensor, known: Tensor, generator: torch.Generator | None) -> None:
        self.places, self.known, self.generator = places, known, generator
        self.count = places.shape[2]

    def only(self, which: int) -> Tensor:
        mask = torch.zeros_like(self.known)
        mask[..., which] = self.known[..., which]
        return mask

    def neighbours(self) -> Tensor:
        mask = self.known.clone()
        mask[..., :2] = False
        return mask

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.places.device)

    def __call__(
        self, weight_BJM: Tensor, low_BJ: Tensor, high_BJ: Tensor, rivals_M: Tensor, margin_BJ: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """A point in the ring ``low`` .. ``high`` about a candidate drawn by weight, that is further than ``margin``
        (default: its own radius) from the other ``rivals``; (B,J,2), and whether one was found.
        """
        batch, joints = low_BJ.shape
        total = weight_BJM.cumsum(-1)
        pick = self._uniform(batch, joints, TRIES, 1) * total[..., None, -1:]
        base = (pick >= total[:, :, None]).sum(-1).clamp_max(self.count - 1)  # (B,J,K)
        centre = self.places.gather(2, base[..., None].expand(-1, -1, -1, 2))
        radius = low_BJ[..., None] + (high_BJ - low_BJ)[..., None] * self._uniform(batch, joints, TRIES)
        angle = 2 * torch.pi * self._uniform(batch, joints, TRIES)
        point = centre + radius[..., None] * torch.stack([angle.cos(), angle.sin()], -1)
        distance = (point[..., None, :] - self.places[:, :, None]).norm(dim=-1)  # (B,J,K,M)
        margin = radius if margin_BJ is None else margin_BJ[..., None].expand_as(radius)
        itself = base[..., None] == torch.arange(self.count, device=base.device)
        clear = (distance > margin[..., None]) | itself | ~rivals_M | ~self.known[:, :, None]
        fits = clear.all(-1) & (total[..., -1:] > 0)
        first = fits.int().argmax(-1, keepdim=True)
        return point.gather(2, first[..., None].expand(-1, -1, -1, 2))[:, :, 0], fits.any(-1)
