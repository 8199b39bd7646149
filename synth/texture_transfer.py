"""Clothing pictures to garment textures: Chen et al., "Synthesizing Training Images for Boosting Human 3D Pose
Estimation" (3DV 2016), §3.2.

A picture of a garment on a plain background is cut out, its contour is matched to the body's by dynamic time warping,
and the picture is warped smoothly (moving least squares: Schaefer et al., "Image Deformation Using Moving Least
Squares", SIGGRAPH 2006, the similarity case) so that the contours coincide. The paper warps to a rendered body; here
the target is the planar rest-pose frame of :mod:`synth.planar`, and the contour is matched to whichever outline fits
best among tops, legs, skirts and dresses of several lengths with the arms hanging at several angles.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter1d

from human.errors import PosesynError
from synth.contours import contour_features, contour_of, warp_time, warping_path
from synth.garment_outlines import Outline
from synth.planar import LEFT, SIDE, TOP

_WORK_SIDE = 320  # px: segmentation and contours need no more
_TEXTURE_SIDE = 640  # px: what the texture is sampled from
_ASPECT = 0.1  # cost of a box whose proportions differ by a factor e
_STARTS = 9  # starting points tried about the top of the contour
_START_SPREAD = 0.09  # of the contour's length
_FINALISTS = 4  # outlines compared at full resolution
_COARSE = 4  # every fourth point is enough to choose them
_WORST = 0.15  # a costlier match is no garment: drawn and photographed ones stay below 0.1
_GRID = 64  # nodes each way at which the warp is evaluated
_LAB_NOISE = 7.0  # CIE Lab distance that any photographed plain background reaches


@dataclass(frozen=True)
class GarmentPicture:
    """A garment cut out of a picture: ``image`` (H,W,3) uint8 RGB, ``mask`` (H,W) bool."""

    image: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Match:
    """How a garment's contour runs along an outline: ``source_N2`` px of the picture for each of its points."""

    outline: Outline
    source_N2: np.ndarray
    cost: float


def cut_out(image: np.ndarray, alpha: np.ndarray | None = None) -> GarmentPicture:
    """Separate a garment from a plain background, or from transparency.

    The background is a smooth colour field (quadratic in x and y, CIE Lab) fitted robustly to the picture's border;
    what differs from it, largest piece, holes filled, is the garment.

    Args:
        image: (H, W, 3) uint8 RGB.
        alpha: (H, W) uint8, used instead of the background's colour where it is transparent anywhere.

    Raises:
        PosesynError: the background is not plain, or no garment stands out from it.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape[:2]) < 32:
        raise PosesynError(
            f"a clothing picture must be (H, W, 3) uint8 of at least 32 px, got {image.shape} {image.dtype}"
        )
    image = _shrink(image, _TEXTURE_SIDE)
    small = _shrink(image, _WORK_SIDE)
    if alpha is not None and (alpha < 128).mean() > 0.02:
        mask = cv2.resize(alpha, small.shape[1::-1], interpolation=cv2.INTER_AREA) >= 128
    else:
        mask = _differs_from_border(small)
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, label, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    if count < 2:
        raise PosesynError("no garment stands out from the background")
    best = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    mask = binary_fill_holes(label == best)
    share = float(mask.mean())
    if not 0.03 < share < 0.95:
        raise PosesynError(f"what stands out from the background covers {share:.0%} of the picture: no garment")
    edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    if edge.mean() > 0.25:
        raise PosesynError("the garment runs out of the picture: its contour is not visible")
    full = cv2.resize(mask.astype(np.float32), image.shape[1::-1], interpolation=cv2.INTER_LINEAR) > 0.5
    return GarmentPicture(image, full)


def _shrink(image: np.ndarray, side: int) -> np.ndarray:
    scale = min(1.0, side / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _differs_from_border(image: np.ndarray) -> np.ndarray:
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    height, width = lab.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1).astype(np.float32)
    ring = np.ones((height, width), dtype=bool)
    margin = max(2, round(0.03 * min(height, width)))
    ring[margin:-margin, margin:-margin] = False
    keep = ring.copy()
    for _ in range(5):  # a garment that touches the border is left out as an outlier
        coefficients = np.linalg.lstsq(terms[keep], lab[keep], rcond=None)[0]
        distance = np.linalg.norm(lab - terms @ coefficients, axis=-1)
        typical = float(np.median(distance[ring]))
        keep = ring & (distance <= max(3 * typical, _LAB_NOISE))
    if typical > 12 or keep.sum() < 0.5 * ring.sum():
        raise PosesynError("the background is not plain: give pictures of garments on one colour")
    # A soft shadow darkens the background without changing its hue: count less of the difference in lightness there.
    background = terms @ coefficients
    difference = lab - background
    darker = np.clip(-difference[..., 0], 0, None)
    hue = np.linalg.norm(difference[..., 1:], axis=-1)
    shadow = (darker > 0) & (darker < 14) & (hue < 4)
    distance = np.where(shadow, 0.4 * distance, distance)
    levels = np.clip(distance * 4, 0, 255).astype(np.uint8)
    otsu, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    # Otsu separates garment from background; a patterned garment has parts near the background's colour.
    threshold = max(_LAB_NOISE, 3 * typical, 0.5 * otsu / 4)
    mask = cv2.morphologyEx((distance > threshold).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    return mask.astype(bool)


def match_contour(garment: GarmentPicture, outlines: list[Outline]) -> Match:
    """The outline that the garment's contour follows best, and where on the contour each of its points lies."""
    if not outlines:
        raise PosesynError("match_contour was given no outlines")
    count = len(outlines[0].pose_N2)
    contour = contour_of(garment.mask, count)
    shifts = np.unique(np.round(np.linspace(-_START_SPREAD, _START_SPREAD, _STARTS) * count).astype(int))
    turned = np.stack([np.roll(contour_features(contour), -s, axis=0) for s in shifts])
    low, high = contour.min(0), contour.max(0)
    aspect = float(np.log((high[0] - low[0] + 1) / (high[1] - low[1] + 1)))

    def compare(candidates: list[Outline], stride: int) -> tuple[np.ndarray, np.ndarray]:
        """(C, starts) costs and the step tables."""
        targets = np.stack([o.features[::stride] for o in candidates])
        starts = turned[:, ::stride]
        cost = ((targets**2).sum(-1)[:, None, :, None] + (starts**2).sum(-1)[None, :, None]) - 2 * np.einsum(
            "onc,smc->osnm", targets, starts
        )
        totals, steps = warp_time(cost.reshape(-1, *cost.shape[2:]))
        extra = np.array([_ASPECT * abs(aspect - o.log_aspect) + o.penalty for o in candidates])
        return totals.reshape(cost.shape[:2]) / targets.shape[1] + extra[:, None], steps.reshape(cost.shape)

    coarse, _ = compare(outlines, _COARSE)
    finalists = [outlines[i] for i in coarse.min(1).argsort(kind="stable")[:_FINALISTS]]
    costs, steps = compare(finalists, 1)
    best, start = np.unravel_index(costs.argmin(), costs.shape)
    cost = float(costs[best, start])
    if cost > _WORST:
        raise PosesynError(f"its contour resembles no garment's (cost {cost:.2f} > {_WORST})")
    path = warping_path(steps[best, start])
    at = np.roll(contour, -int(shifts[start]), axis=0)
    sums = np.zeros((count, 2))
    np.add.at(sums, path[:, 0], at[path[:, 1]])
    source = sums / np.bincount(path[:, 0], minlength=count)[:, None]
    return Match(finalists[int(best)], gaussian_filter1d(source, 1.0, axis=0, mode="wrap"), cost)


def moving_least_squares(from_N2: np.ndarray, to_N2: np.ndarray, at_M2: np.ndarray, alpha: float = 1.2) -> np.ndarray:
    """Where the smooth deformation that takes ``from`` to ``to`` takes ``at``: (M, 2).

    Schaefer et al. 2006, equations 1 and 6 (similarity transformations), weights 1 / distance^(2 alpha); written with
    complex numbers, in which a similarity is one multiplication and one addition.
    """
    p, q, v = (points[:, 0] + 1j * points[:, 1] for points in (from_N2, to_N2, at_M2))
    weight = 1 / np.maximum(np.abs(p - v[:, None]) ** (2 * alpha), 1e-12)
    weight /= weight.sum(1, keepdims=True)
    centre_p, centre_q = weight @ p, weight @ q
    p_hat, q_hat = p - centre_p[:, None], q - centre_q[:, None]
    turn = (weight * p_hat.conj() * q_hat).sum(1) / np.maximum((weight * np.abs(p_hat) ** 2).sum(1), 1e-12)
    moved = turn * (v - centre_p) + centre_q
    return np.stack([moved.real, moved.imag], 1)


def warp_to_plane(garment: GarmentPicture, match: Match, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One view of the texture: the garment warped to the planar frame, (size, size, 3) uint8, and where the picture
    itself shows, (size, size) bool; elsewhere the nearest colour, ever smoother with distance."""
    pixels = (match.outline.rest_N2 - [LEFT, TOP]) * [size / SIDE, -size / SIDE] - 0.5  # texel (column, row)
    low, high = pixels.min(0) - 0.02 * size, pixels.max(0) + 0.02 * size
    node_x, node_y = np.linspace(low[0], high[0], _GRID), np.linspace(low[1], high[1], _GRID)
    nodes = np.stack(np.meshgrid(node_x, node_y), -1).reshape(-1, 2)
    moved = moving_least_squares(pixels, match.source_N2, nodes).reshape(_GRID, _GRID, 2).astype(np.float32)
    # Texel -> node coordinates, then the picture's coordinates there, bilinearly.
    texel = np.arange(size)
    node = np.stack(np.meshgrid(*((texel - low[k]) / (high[k] - low[k]) * (_GRID - 1) for k in (0, 1))), -1).astype(
        np.float32
    )
    where = cv2.remap(moved, node[..., 0], node[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    inside = np.zeros((size, size), np.uint8)
    cv2.fillPoly(inside, [np.round(pixels).astype(np.int32)], 1)
    # The rim of the cut-out is mixed with the background: leave out a little of it.
    rim = max(1.5, 0.006 * max(garment.mask.shape))
    sure = cv2.distanceTransform(garment.mask.astype(np.uint8), cv2.DIST_L2, 5) > rim
    image = _nearest_colour(garment.image, sure)
    scale = float(np.median(np.linalg.norm(np.diff(where, axis=1), axis=-1)[inside[:, 1:] > 0])) if inside.any() else 1
    if scale > 1.5:  # the picture is finer than the texture: average first
        image = cv2.GaussianBlur(image, (0, 0), 0.4 * scale)
    view = cv2.remap(image, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return _nearest_colour(view, inside > 0, soften=0.35), inside > 0


def _nearest_colour(image: np.ndarray, known: np.ndarray, soften: float = 0.0) -> np.ndarray:
    """``image`` where ``known``; elsewhere the nearest known colour, blurred by ``soften`` times its distance."""
    if not known.any():
        raise PosesynError("nothing of the garment is left once its rim is taken off: it is too thin")
    distance, (row, column) = distance_transform_edt(~known, return_indices=True)
    filled = image[row, column]
    if soften:
        out, reach = filled.astype(np.float32), distance * soften
        for sigma in (2.0, 6.0, 18.0):  # a coarse scale space
            blurred = cv2.GaussianBlur(filled, (0, 0), sigma).astype(np.float32)
            share = np.clip((reach - sigma / 2) / sigma, 0, 1)[..., None]
            out += share.astype(np.float32) * (blurred - out)
        filled = np.rint(out).astype(np.uint8)
        filled[known] = image[known]
    return np.asarray(filled)


def two_views(view: np.ndarray, back: np.ndarray | None = None) -> np.ndarray:
    """(2, T, T, 3): front and back. Without a picture of the back it is the front mirrored, so that the two meet in
    the same colours along the sides."""
    return np.stack([view, view[:, ::-1] if back is None else back])


def mirrored(texture: np.ndarray) -> np.ndarray:
    """The garment for the person's mirror image: left and right exchanged in both views."""
    return np.ascontiguousarray(texture[:, :, ::-1])


def turned(texture: np.ndarray) -> np.ndarray:
    """The garment worn back to front."""
    return np.ascontiguousarray(texture[::-1])


def join_at_waist(upper: np.ndarray, lower: np.ndarray, rng: np.random.Generator, waist: float = 0.06) -> np.ndarray:
    """One texture for the whole body from an upper and a lower one, with a seam that differs from draw to draw:
    shifted by up to 8 cm, slanted, and wavy as a hanging hem is.

    Args:
        upper, lower: (2, T, T, 3) uint8.
        waist: mean height of the seam, metres above the pelvis.
    """
    size = upper.shape[1]
    x = LEFT + SIDE * (np.arange(size) + 0.5) / size
    shift, slant = rng.uniform(-0.08, 0.08), rng.uniform(-0.15, 0.15)
    waves = [rng.normal(0, 0.008) * np.sin(rng.uniform(8, 30) * x + rng.uniform(0, 6.3)) for _ in range(3)]
    seam = waist + shift + slant * x + np.sum(waves, axis=0)
    out = np.empty_like(upper)
    for view in (0, 1):
        line = (TOP - (seam if view == 0 else seam[::-1])) * size / SIDE - 0.5
        # Anti-aliased over one texel. Arms stay the upper garment's whatever their height.
        share = np.clip(np.arange(size)[:, None] - line[None] + 0.5, 0, 1)[..., None]
        out[view] = np.rint(upper[view] + share * (lower[view].astype(np.float32) - upper[view])).astype(np.uint8)
    return out
