"""A tiny LSP and a tiny LSPET, full size or official: the third number means opposite things, the axes differ."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from scipy.io import savemat

from tests.datasets.labels2d import native_pixels, views
from tests.datasets.people import Array, People

HIDDEN = ((0, 3), (2, 11))  # (picture, joint): occluded in LSP, not labelled in LSPET


def joints(people: People) -> Array:
    """(N,14,2) px: the first person of each picture."""
    return np.stack([native_pixels(people, camera, 0, "lsp14")[frame] for _, camera, frame in views(people)])


def write_lsp(root: Path, people: People, first: int = 1) -> Array:
    """Pictures and persons from number ``first`` on; the persons before are repeated from the first one."""
    truth = joints(people)
    count = first - 1 + len(truth)
    table = np.concatenate([np.repeat(truth[:1], first - 1, 0), truth])
    occluded = np.zeros((count, 14, 1))
    for row, joint in HIDDEN:
        occluded[first - 1 + row, joint] = 1
    _pictures(root / "images", people, "im{:04d}.jpg", first)
    savemat(root / "joints.mat", {"joints": np.concatenate([table, occluded], -1).transpose(2, 1, 0)})
    return truth


def write_lspet(root: Path, people: People, high_resolution: bool = True) -> Array:
    """Joints that are not labelled have junk coordinates, as in the official file."""
    truth = joints(people)
    table = np.concatenate([truth, np.ones((*truth.shape[:2], 1))], -1)
    for row, joint in HIDDEN:
        table[row, joint] = [-52.0, -33.0, 0]
    if high_resolution:
        _pictures(root, people, "im{:05d}.png", 1)
    else:
        _pictures(root / "images", people, "im{:05d}.jpg", 1)
    savemat(root / "joints.mat", {"joints": table.transpose(1, 2, 0)})
    return truth


def write_masks(root: Path, masks: list[Array], parts: list[Array], first: int = 1) -> Path:
    """UPi-S1h's files of the pictures from number ``first`` on: (H,W) bool, and (H,W) uint8 of 0 to 6 and 255."""
    folder = root / "upi-s1h" / "data" / "lsp"
    folder.mkdir(parents=True, exist_ok=True)
    for k, (mask, part) in enumerate(zip(masks, parts, strict=True)):
        assert cv2.imwrite(str(folder / f"im{first + k:04d}_segmentation.png"), 255 * mask.astype(np.uint8))
        assert cv2.imwrite(str(folder / f"im{first + k:04d}_part_segmentation.png"), part.astype(np.uint8))
    return folder


def _pictures(folder: Path, people: People, name: str, first: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, camera, frame in views(people):
        picture = cv2.cvtColor(people.picture(camera, frame), cv2.COLOR_RGB2BGR)
        assert cv2.imwrite(str(folder / name.format(first + number)), picture)
