"""Label the two people of the Sports2D demo video in 2D from an off-the-shelf detector.

    python scripts/label_sports2d.py PATH/TO/Demo/demo.mp4 datamodules/data/sports2d_labels.npz --draw /some/folder

Runs in the environment that ``scripts/landmarks.py`` describes (about 2 minutes on two cores; ``--detections`` keeps
the raw detections). A hand-made rough path per person (``PATHS``) says where to look, so that the two are never mixed
up. Per joint: median of 3 crop scales x 2 mirrorings, left and right followed over time, then a running median over 3
frames. A joint counts where five of the six agree within ``SPREAD`` of the person's height and the detector calls it
visible; a person counts in a frame where at least ``MIN_JOINTS`` of the 12 limb joints count and nobody else reaches
into the crop.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
from landmarks import LandmarkDetector, draw_skeleton, frames, interpolate_boxes, joints_box
from rich.progress import track

# Rough paths read off the pictures: (frame, centre x, centre y, width, height) px, linear in between. Two stretches of
# the jumper are left out on purpose: the somersault (blurred) and the exit behind the tree.
PATHS: dict[str, tuple[tuple[int, ...], ...]] = {
    "jumper": (
        (0, 645, 275, 230, 390),
        (110, 670, 280, 230, 390),
        (140, 770, 280, 230, 370),
        (160, 815, 300, 260, 340),
    ),
    "landed": (
        (187, 1060, 660, 220, 460),
        (192, 1075, 720, 240, 440),
        (200, 1160, 820, 280, 280),
        (210, 1270, 800, 360, 390),
        (221, 1440, 750, 240, 440),
    ),
    "walker": (
        (46, 1490, 750, 240, 450),
        (60, 1412, 750, 280, 460),
        (80, 1236, 745, 280, 460),
        (100, 1029, 730, 260, 450),
        (120, 832, 735, 260, 460),
        (140, 623, 720, 260, 450),
        (160, 433, 725, 240, 450),
        (186, 140, 725, 240, 450),
    ),
}
SCALES = (1.1, 1.25, 1.45)
SPREAD = 0.05
VISIBLE = 0.5
MIN_JOINTS = 10
MIN_RUN = 3  # frames: shorter appearances are flukes
EXCHANGED = 0.02  # of the height, per frame in which left and right are exchanged
CROP = 1.6  # what the reader keeps of a picture, in person boxes


def rough_boxes(path: tuple[tuple[int, ...], ...], count: int) -> np.ndarray:
    """(count, 4) xyxy, NaN outside the path's frames."""
    key = np.array(path, dtype=float)
    time = np.arange(count)
    cx, cy, w, h = (np.interp(time, key[:, 0], key[:, k]) for k in (1, 2, 3, 4))
    boxes = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], axis=1)
    boxes[(time < key[0, 0]) | (time > key[-1, 0])] = np.nan
    return boxes


def detect(pictures: list[np.ndarray]) -> np.ndarray:
    """(persons, T, A, 17, 3): a first look along the rough path, then the augmented look at the found box."""
    detector = LandmarkDetector()
    out = np.full((len(PATHS), len(pictures), 2 * len(SCALES), 17, 3), np.nan)
    for p, (name, path) in enumerate(PATHS.items()):
        rough = rough_boxes(path, len(pictures))
        times = np.flatnonzero(np.isfinite(rough[:, 0]))
        found = np.full((len(times), 4), np.nan)
        for i, t in enumerate(track(times, description=f"{name}: where")):
            seen = np.nanmedian(detector.augmented(pictures[t], rough[t], SCALES[1:2]), axis=0)
            if np.isnan(seen).all():
                continue
            box, middle = joints_box(seen), (rough[t, :2] + rough[t, 2:]) / 2
            if np.abs((box[:2] + box[2:]) / 2 - middle).max() < 0.35 * (rough[t, 3] - rough[t, 1]):
                found[i] = box
        boxes = interpolate_boxes(found, window=3)
        for t, box in zip(track(times, description=f"{name}: joints"), boxes, strict=True):
            out[p, t] = detector.augmented(pictures[t], box, SCALES)
    return out


def overlaps(crop: np.ndarray, other: np.ndarray) -> bool:
    """Whether another person's box reaches into the crop; NaN boxes (nobody there) do not."""
    return bool((np.maximum(crop[:2], other[:2]) < np.minimum(crop[2:], other[2:])).all())


def follow_sides(joints_TJ3: np.ndarray, height: float) -> np.ndarray:
    """Exchange left and right of all arms' or all legs' joints in the frames where the detector flips for a moment.

    Viterbi over two states per frame: the path of least joint motion, with a charge per exchanged frame.
    """
    out = joints_TJ3.copy()
    for first in (5, 11):
        left, right = [first, first + 2, first + 4], [first + 1, first + 3, first + 5]
        both = np.stack([joints_TJ3[:, left + right, :2], joints_TJ3[:, right + left, :2]])  # state, T, 6, 2
        cost, came = np.zeros(2), []
        for t in range(1, len(joints_TJ3)):
            step = np.linalg.norm(both[None, :, t] - both[:, None, t - 1], axis=-1).mean(-1)  # from, to
            total = cost[:, None] + step + np.array([0.0, EXCHANGED * height])
            came.append(total.argmin(0))
            cost = total.min(0)
        state = int(cost.argmin())
        for t in range(len(joints_TJ3) - 1, -1, -1):
            if state:
                out[t, left + right] = joints_TJ3[t, right + left]
            state = int(came[t - 1][state]) if t else state
    return out


def long_runs(keep_T: np.ndarray) -> np.ndarray:
    """Only runs of at least MIN_RUN kept frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], keep_T.astype(int), [0]])))
    out = np.zeros_like(keep_T)
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        out[start:end] = end - start >= MIN_RUN
    return out


def solve(raw_PTAJ3: np.ndarray) -> dict[str, np.ndarray]:
    """All labels, as saved."""
    warnings.simplefilter("ignore", RuntimeWarning)  # frames without the person are all NaN
    joints = np.nanmedian(raw_PTAJ3, axis=2)  # P,T,17,3
    # five of the six must agree: a median of split votes between left and right lies in between
    spread = np.nanpercentile(np.linalg.norm(raw_PTAJ3[..., :2] - joints[:, :, None, :, :2], axis=-1), 80, axis=2)
    present = np.isfinite(joints[:, :, 0, 0])
    for p in range(len(joints)):
        seen = np.flatnonzero(present[p])
        long_side = np.median([np.ptp(joints[p, t, :, :2], axis=0).max() for t in seen])
        joints[p, seen] = follow_sides(joints[p, seen], float(long_side))
    smooth = joints.copy()
    for t in range(1, joints.shape[1] - 1):
        window = joints[:, t - 1 : t + 2]
        inside = present[:, t - 1 : t + 2].all(1)
        smooth[inside, t] = np.median(window[inside], axis=1)
    P, T = present.shape
    boxes = np.full((P, T, 4), np.nan)
    for p, t in np.argwhere(present):
        boxes[p, t] = joints_box(smooth[p, t])
    height = np.max(boxes[..., 2:] - boxes[..., :2], axis=-1)
    conf = (spread < SPREAD * height[..., None]) & (smooth[..., 2] > VISIBLE) & present[..., None]
    rough = np.stack([rough_boxes(path, T) for path in PATHS.values()])
    keep = conf[..., 5:].sum(-1) >= MIN_JOINTS
    alone = np.zeros_like(keep)
    for p, t in np.argwhere(present):
        middle, half = (boxes[p, t, :2] + boxes[p, t, 2:]) / 2, height[p, t] * CROP / 2
        crop = np.concatenate([middle - half, middle + half])
        alone[p, t] = not any(overlaps(crop, rough[q, t]) for q in range(P) if q != p)
    kept_PT = np.stack([long_runs(k) for k in keep & alone])
    for p, name in enumerate(PATHS):
        kept = kept_PT[p]
        relative = (spread[p] / height[p, :, None])[kept][:, 5:] * 100
        print(
            f"{name}: seen in {present[p].sum()} frames, enough joints in {keep[p].sum()}, alone in the crop in "
            f"{alone[p][present[p]].sum()}, kept {kept.sum()}; of kept: limb joints masked "
            f"{1 - conf[p, kept, 5:].mean():.3f}, spread (80th percentile of six) median {np.median(relative):.2f} %"
        )
    person, frame = np.nonzero(kept_PT)
    order = np.lexsort((person, frame))
    person, frame = person[order], frame[order]
    return {
        "frame": frame.astype(np.int32),
        "person": person.astype(np.uint8),
        "names": np.array(list(PATHS)),
        "joints2d": smooth[person, frame, :, :2].astype(np.float32),
        "conf": conf[person, frame].astype(np.uint8),
        "spread": spread[person, frame].astype(np.float16),
    }


def draw(labels: dict[str, np.ndarray], pictures: list[np.ndarray], folder: Path) -> None:
    """Contact sheets of the kept people (left orange, right blue, masked grey)."""
    folder.mkdir(parents=True, exist_ok=True)
    for p, name in enumerate(labels["names"]):
        rows = np.flatnonzero(labels["person"] == p)
        tiles = []
        for i in rows[:: max(1, len(rows) // 16)][:16]:
            rgb, points, keep = pictures[labels["frame"][i]].copy(), labels["joints2d"][i], labels["conf"][i] > 0
            draw_skeleton(rgb, points, keep, 3)
            x, y = np.clip(points.mean(0).astype(int), 260, [rgb.shape[1] - 260, rgb.shape[0] - 260])
            tile = rgb[y - 260 : y + 260, x - 260 : x + 260]
            tiles.append(cv2.resize(tile, (300, 300), interpolation=cv2.INTER_AREA))
        tiles += [np.zeros((300, 300, 3), np.uint8)] * (-len(tiles) % 8)
        sheet = np.vstack([np.hstack(tiles[i : i + 8]) for i in range(0, len(tiles), 8)])
        cv2.imwrite(str(folder / f"{name}.png"), sheet[..., ::-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--detections", type=Path, help="keep or reuse the raw 2D detections in this .npy file")
    parser.add_argument("--draw", type=Path, help="write pictures to look at into this folder")
    arguments = parser.parse_args()
    pictures = list(frames(arguments.video))
    if arguments.detections and arguments.detections.is_file():
        raw = np.load(arguments.detections)
    else:
        raw = detect(pictures)
        if arguments.detections:
            np.save(arguments.detections, raw)
    labels = solve(raw)
    np.savez_compressed(arguments.out, allow_pickle=False, **labels)
    if arguments.draw:
        draw(labels, pictures, arguments.draw)
    return 0


if __name__ == "__main__":
    sys.exit(main())
