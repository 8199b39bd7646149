"""Outlines that a garment's picture is matched to: the resting body's own, cut as tops, legs, skirts and dresses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from human.body import BodyModel
from human.camera import level_flip
from human.errors import PosesynError
from human.raster import rasterise
from human.rotations import rotvec_to_matrix
from human.skeleton import SMPL24
from synth.contours import contour_features, contour_of, resample
from synth.planar import LEFT, SIDE, TOP
from synth.surface import BodySurface

UPPER, LOWER, WHOLE = "upper", "lower", "whole"
KINDS = (UPPER, LOWER, WHOLE)
POINTS = 160
_SIDE = 384  # px of the drawn outline: 5 mm each
_FAR = 100.0  # metres; seen from there, perspective is below a millimetre
_NECK = 0.97  # level at which a collar lies
_FLARE_FROM = 0.1  # metres above the pelvis
_WAIST, _HIP_HEM = 0.22, -0.12  # levels of a waistband and of a shirt's hem


@dataclass(frozen=True)
class Outline:
    """N points evenly along a cut of the body, clockwise as seen from the front, starting at the middle of the top.

    ``pose_N2`` metres in the pose in which the contours are compared (x to the viewer's right, y up), ``rest_N2`` the
    same points of the surface in the T-pose. ``penalty`` is added to a match's cost: rarer cuts need better matches.
    """

    kind: str
    name: str
    pose_N2: np.ndarray
    rest_N2: np.ndarray
    penalty: float = 0.0

    @cached_property
    def features(self) -> np.ndarray:
        return contour_features(self.pose_N2 * [1, -1])

    @cached_property
    def log_aspect(self) -> float:
        width, height = self.pose_N2.max(0) - self.pose_N2.min(0)
        return float(np.log(width / height))


def garment_outlines(body: BodyModel, kinds: Sequence[str] = KINDS) -> list[Outline]:
    """Every outline of these kinds: tops and dresses without, with short and with long sleeves and the arms hanging by
    several angles; trousers and skirts of several lengths."""
    unknown = set(kinds) - set(KINDS)
    if unknown:
        raise PosesynError(f"no garment is of kind {sorted(unknown)[0]!r}; known: {', '.join(KINDS)}")
    surface = BodySurface(body)
    out: list[Outline] = []
    for angle in (0, 25, 50, 72):
        view = _View(body, surface, angle)
        for sleeve_name, sleeve in (("sleeveless", -0.12), ("short", 0.75), ("long", 1.9)):
            if sleeve_name == "sleeveless" and angle != 50:
                continue
            arms = f"{sleeve_name} sleeves, arms {angle} degrees down"
            top = (view.reach <= sleeve) & (view.level <= _NECK)
            if UPPER in kinds:
                out.append(view.outline(UPPER, f"top, {arms}", top & (view.level >= _HIP_HEM)))
            if WHOLE in kinds:
                for length_name, hem in (("short", -0.6), ("knee", -1.0), ("long", -1.7)):
                    below = (view.level < _WAIST) & (view.level >= hem) & (view.reach <= -1)
                    dress = top & (view.level >= _HIP_HEM) | view.between_legs(below)
                    straight = view.outline(WHOLE, f"dress to {length_name}, {arms}", dress, 0.01)
                    out += [straight, _flared(straight)]
                suit = top & (view.level >= -1.9)
                out.append(view.outline(WHOLE, f"suit, {arms}", suit, 0.01))
    if LOWER in kinds:
        for name, hem in (("shorts", -0.45), ("knee", -1.0), ("long", -1.92)):
            legs = (view.level <= _WAIST) & (view.level >= hem) & (view.reach <= -1)
            out.append(view.outline(LOWER, f"trousers, {name}", legs))
            skirt = view.outline(LOWER, f"skirt, {name}", view.between_legs(legs))
            out += [skirt, _flared(skirt)]
    return out


def _flared(outline: Outline) -> Outline:
    """The same cut with a skirt twice as wide at the hem: another shape in the picture, the same place on the body."""
    pose = outline.pose_N2.copy()
    hem = pose[:, 1].min()
    pose[:, 0] *= 1 + np.clip((_FLARE_FROM - pose[:, 1]) / (_FLARE_FROM - hem), 0, 1)
    both = resample(np.concatenate([pose, outline.rest_N2], 1), POINTS)
    return Outline(outline.kind, f"flared {outline.name}", both[:, :2], both[:, 2:], outline.penalty)


class _View:
    """The body seen from the front with its arms ``angle`` degrees below the horizontal; (S, S) maps of its fields,
    level -9 and reach 9 where there is no body."""

    def __init__(self, body: BodyModel, surface: BodySurface, angle: float) -> None:
        pose = torch.zeros(1, 23, 3)
        for side, sign in (("left", -1.0), ("right", 1.0)):
            pose[0, SMPL24.index(f"{side}_shoulder") - 1, 2] = sign * np.deg2rad(angle)
        with torch.no_grad():
            vertices = body(torch.zeros(1, 10), rotvec_to_matrix(pose), torch.zeros(1, 3)).vertices
        camera = level_flip(vertices) + torch.tensor([0.0, 0.0, _FAR])
        focal = _FAR * _SIDE / SIDE
        intrinsics = torch.tensor(
            [[focal, 0, -LEFT * _SIDE / SIDE - 0.5], [0, focal, TOP * _SIDE / SIDE - 0.5], [0, 0, 1]]
        )
        frags = rasterise(camera, surface.faces, intrinsics[None], (_SIDE, _SIDE))
        seen = frags.mask[0].numpy()
        points = surface.at(frags.face[0].numpy()[seen], frags.bary[0].numpy()[seen])
        centre = (np.arange(_SIDE) + 0.5) * SIDE / _SIDE
        self.pose_SS2 = np.stack(np.meshgrid(LEFT + centre, TOP - centre), -1)
        self.rest_SS2 = self.pose_SS2.copy()  # beside the body, as between the legs of a skirt, nothing has moved
        self.rest_SS2[seen] = np.stack([points.x, points.y], 1)
        self.level = np.full((_SIDE, _SIDE), -9.0)
        self.reach = np.full((_SIDE, _SIDE), 9.0)
        self.level[seen], self.reach[seen] = points.level, points.reach

    def between_legs(self, legs: np.ndarray) -> np.ndarray:
        """The mask with each row filled from its leftmost to its rightmost pixel, never narrower than further up:
        a skirt's shape."""
        out = legs.copy()
        left, right = _SIDE, -1
        for row in np.flatnonzero(legs.any(1)):
            columns = np.flatnonzero(legs[row])
            left, right = min(left, columns[0]), max(right, columns[-1])
            out[row, left : right + 1] = True
        return out

    def outline(self, kind: str, name: str, mask: np.ndarray, penalty: float = 0.0) -> Outline:
        pixels = np.round(contour_of(mask, 4 * POINTS)).astype(int)
        both = np.concatenate([m[pixels[:, 1], pixels[:, 0]] for m in (self.pose_SS2, self.rest_SS2)], 1)
        even = resample(both, POINTS)
        return Outline(kind, name, even[:, :2], even[:, 2:], penalty)
