"""Filling a hole in a picture with pieces of the rest of it.

Coarse to fine, as Wexler, Shechtman and Irani, "Space-Time Completion of Video" (PAMI 2007): every patch in the hole
takes the most similar patch outside, overlapping patches vote, and again. What is copied at the finest of these scales
is then copied at full resolution, and made to meet the hole's border by a smooth correction.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

_SIDES = (24, 48, 96)  # px of the longer side at each scale; at the last only neighbours' matches are tried
_ROUNDS = (6, 3, 2)
_RADIUS = 2
_SPAN = 2 * _RADIUS + 1
_SHARP = 0.003  # mean squared difference (colours 0..1) at which a patch's vote counts 1/e
_LEAST = 16  # whole patches to copy from
#: Cost of copying from elsewhere, in squared colour (0..1) per squared picture side: scenes lie in horizontal layers.
_ACROSS, _ALONG = 0.15, 0.03


def complete(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32 0..255, filled where ``hole`` (H, W) is true, elsewhere as given; the same bytes every time.

    A hole that leaves no whole patch is filled smoothly instead.
    """
    height, width = hole.shape
    known = 1 - hole.astype(np.float32)
    picture = image.astype(np.float32) / 255
    small: np.ndarray | None = None
    move: np.ndarray | None = None
    for side in [s for s in _SIDES if s < max(height, width)] or [max(height, width)]:
        scale = side / max(height, width)
        size = (max(_SPAN, round(width * scale)), max(_SPAN, round(height * scale)))
        share = cv2.resize(known, size, interpolation=cv2.INTER_AREA)
        level = cv2.resize(picture * known[..., None], size, interpolation=cv2.INTER_AREA)
        level = level / np.maximum(share, 1e-6)[..., None]
        empty = share < 0.999
        start = _outward(level, empty) if small is None else cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
        level = np.where(empty[..., None], start, level)
        rounds = _ROUNDS[_SIDES.index(side)] if side in _SIDES else _ROUNDS[0]
        found = _match_and_vote(level, empty, rounds, move if side == _SIDES[-1] else None)
        if found is not None:
            small, move = found
    if move is None:
        return np.asarray(np.where(hole[..., None], _smooth(picture, hole), picture) * 255, dtype=np.float32)
    layer = _at_full_size(picture, hole, _coherent(move))
    # On smooth walls and skies nothing need be copied: carrying colours on shows no seams.
    plain = cv2.resize(_outward(level, empty), (width, height), interpolation=cv2.INTER_CUBIC)
    share = _texture(np.where(hole[..., None], plain, picture), hole)[..., None]
    filled = plain + share * (layer - plain)
    return np.asarray(np.where(hole[..., None], filled.clip(0, 1), picture) * 255, dtype=np.float32)


def _texture(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """(H, W) 0..1: how far the surroundings of each point of the hole have a texture rather than a gradient."""
    fine = np.abs(picture - cv2.GaussianBlur(picture, (0, 0), 2.0)).mean(-1)
    ring = (cv2.dilate(hole.astype(np.uint8), np.ones((25, 25), np.uint8)) > 0) & ~hole
    away = cv2.dilate(hole.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    known = ring & ~away if (ring & ~away).any() else ring
    energy = _smooth(np.repeat(np.where(known, fine, 0)[..., None], 3, -1), ~known)[..., 0]
    return np.asarray(np.clip((energy - 0.006) / 0.014, 0, 1))


def _outward(image: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """A first guess: Telea's fast marching, which carries borders straight on."""
    if empty.all():
        return image
    drawn = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.inpaint(drawn, empty.astype(np.uint8), 3, cv2.INPAINT_TELEA).astype(np.float32) / 255)


def _match_and_vote(
    image: np.ndarray, empty: np.ndarray, rounds: int, known_move: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray] | None:
    """The filled picture and, for each pixel, how far away (rows, columns) lies what was copied there; None if no
    whole patch is known. With ``known_move``, a coarser answer, only it and its neighbours are tried.
    """
    height, width = empty.shape
    window = np.ones((_SPAN, _SPAN), np.uint8)
    inner = np.zeros_like(empty)
    inner[_RADIUS : height - _RADIUS, _RADIUS : width - _RADIUS] = True
    whole = (cv2.dilate(empty.astype(np.uint8), window) == 0) & inner
    rows, columns = np.nonzero(whole)
    if len(rows) < _LEAST:
        return None
    at_r, at_c = np.nonzero(cv2.dilate(empty.astype(np.uint8), window) > 0)
    depth = cv2.distanceTransform(empty.astype(np.uint8), cv2.DIST_L2, 3)[at_r, at_c]
    trust = np.float32(1.3) ** -np.minimum(depth, 30)  # votes of patches near the border count more
    move = np.zeros((height, width, 2), np.int64)
    if known_move is not None:
        ratio = np.array([height / known_move.shape[0], width / known_move.shape[1]])
        parent_r = (np.arange(height) / ratio[0]).astype(np.int64)
        parent_c = (np.arange(width) / ratio[1]).astype(np.int64)
        move = np.rint(known_move[parent_r][:, parent_c] * ratio).astype(np.int64)
    for _ in range(rounds):
        patches = _patches(image)
        here = patches[at_r, at_c]
        if known_move is None:
            there = patches[rows, columns]
            cost = (here**2).sum(1)[:, None] + (there**2).sum(1) - 2 * here @ there.T
            far = _ACROSS * ((at_r[:, None] - rows) / height) ** 2 + _ALONG * ((at_c[:, None] - columns) / width) ** 2
            cost = cost / here.shape[1] + far.astype(np.float32)
            best = cost.argmin(1)
            least = cost[np.arange(len(best)), best]
            move[at_r, at_c] = np.stack([rows[best] - at_r, columns[best] - at_c], 1)
        else:
            least = np.full(len(at_r), np.inf, np.float32)
            chosen = np.zeros((len(at_r), 2), np.int64)
            for dr, dc in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)):
                moved = move[(at_r + dr).clip(0, height - 1), (at_c + dc).clip(0, width - 1)]
                r, c = (at_r + moved[:, 0]).clip(0, height - 1), (at_c + moved[:, 1]).clip(0, width - 1)
                cost = ((here - patches[r, c]) ** 2).mean(1)
                cost = np.where(whole[r, c], cost, 10.0)
                chosen = np.where((cost < least)[:, None], np.stack([r - at_r, c - at_c], 1), chosen)
                least = np.minimum(cost, least)
            move[at_r, at_c] = chosen
        weight = trust * np.exp(-np.minimum(least, 10) / _SHARP).astype(np.float32) + 1e-9
        image = np.where(empty[..., None], _vote(image, move, at_r, at_c, weight), image)
    return image, move


def _vote(image: np.ndarray, move: np.ndarray, at_r: np.ndarray, at_c: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The weighted mean of what the overlapping copied patches say of each pixel."""
    height, width = image.shape[:2]
    total = np.zeros((height, width, 4), np.float32)
    from_r, from_c = at_r + move[at_r, at_c, 0], at_c + move[at_r, at_c, 1]
    for dr in range(-_RADIUS, _RADIUS + 1):
        for dc in range(-_RADIUS, _RADIUS + 1):
            r, c = at_r + dr, at_c + dc
            ok = (r >= 0) & (r < height) & (c >= 0) & (c < width)
            colour = image[(from_r + dr).clip(0, height - 1), (from_c + dc).clip(0, width - 1)]
            total[r[ok], c[ok], :3] += (colour * weight[:, None])[ok]
            total[r[ok], c[ok], 3] += weight[ok]
    return total[..., :3] / np.maximum(total[..., 3:], 1e-30)


def _coherent(move: np.ndarray) -> np.ndarray:
    """Vector median over 3x3, a few times: what is copied should be pieces, not single pixels."""
    height, width = move.shape[:2]
    for _ in range(3):
        padded = np.pad(move, ((1, 1), (1, 1), (0, 0)), mode="edge")
        near = np.stack([padded[r : r + height, c : c + width] for r in range(3) for c in range(3)])
        spread = sum(np.minimum(np.abs(near - near[k]).sum(-1), 6) for k in range(9))
        move = np.take_along_axis(near, np.asarray(spread).argmin(0)[None, ..., None], 0)[0]
    return move


def _patches(image: np.ndarray) -> np.ndarray:
    """(H, W, 75) float32."""
    padded = np.pad(image, ((_RADIUS, _RADIUS), (_RADIUS, _RADIUS), (0, 0)), mode="reflect")
    views = sliding_window_view(padded, (_SPAN, _SPAN), axis=(0, 1))
    return np.ascontiguousarray(views).reshape(*image.shape[:2], -1)


def _at_full_size(picture: np.ndarray, hole: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """Copy each pixel along the displacements of the four nearest coarse pixels, bilinearly mixed."""
    height, width = hole.shape
    rows, columns = displacement.shape[:2]
    step = np.array([height / rows, width / columns])
    ring = cv2.dilate(hole.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    r, c = np.nonzero(ring)
    coarse = (np.stack([r, c], 1) + 0.5) / step - 0.5
    low = np.floor(coarse).astype(np.int64)
    part = coarse - low
    copied = np.zeros((len(r), 3), np.float32)
    total = np.zeros((len(r), 1), np.float32)
    for dr in (0, 1):
        for dc in (0, 1):
            node_r, node_c = (low[:, 0] + dr).clip(0, rows - 1), (low[:, 1] + dc).clip(0, columns - 1)
            weight = np.abs(1 - dr - part[:, 0]) * np.abs(1 - dc - part[:, 1])
            move = np.rint(displacement[node_r, node_c] * step).astype(np.int64)
            from_r, from_c = (r + move[:, 0]).clip(0, height - 1), (c + move[:, 1]).clip(0, width - 1)
            weight = np.where(hole[from_r, from_c], 0, weight + 1e-4)[:, None].astype(np.float32)
            copied += weight * picture[from_r, from_c]
            total += weight
    out = picture.copy()
    copied /= np.maximum(total, 1e-9)
    bad = total[:, 0] == 0
    layer = np.zeros_like(picture)
    layer[r, c] = copied
    # What the copy lacks on the known ring around the hole is carried smoothly into it.
    rim = ring & ~hole
    rim[r[bad], c[bad]] = False
    correction = _smooth(np.where(rim[..., None], picture - layer, 0), ~rim)
    layer += correction
    if bad.any():
        layer[r[bad], c[bad]] = _smooth(picture, hole)[r[bad], c[bad]]
    out[hole] = layer[hole].clip(0, 1)
    return out


def _smooth(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Known values carried into the missing ones: normalised blurs, at each point the sharpest that reaches it."""
    level = np.where(missing[..., None], 0, values).astype(np.float32)
    share = (~missing).astype(np.float32)
    pyramid = [(level, share)]
    while min(share.shape) > 2:
        level, share = np.asarray(cv2.pyrDown(level)), np.asarray(cv2.pyrDown(share))
        pyramid.append((level, share))
    mean = pyramid[-1][0] / np.maximum(pyramid[-1][1], 1e-6)[..., None]
    for level, share in reversed(pyramid[:-1]):
        mean = np.asarray(cv2.pyrUp(mean, dstsize=share.shape[::-1]))
        trust = np.clip(share, 0, 1)[..., None]
        mean = np.where(trust > 0, level + (1 - trust) * mean, mean)
    return np.asarray(np.where(missing[..., None], mean, values), dtype=np.float32)
