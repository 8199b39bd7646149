"""Makes human/data/free_lighting.npz: what 18 free HDR panoramas say about light, as harmonics and one sun each.

    pip install OpenEXR          # BSD-3, only for this script
    python scripts/bake_lighting.py [out.npz]

The panoramas are the asset "pmndrs_hdri" (CC0). World frame: y up. A panorama's row 0 looks up; where its middle column
looks does not matter, because light is turned about the vertical at random.
"""

from __future__ import annotations

import base64
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import OpenEXR
import torch

from human.assets import fetch
from human.shading import sh_basis

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
SUN_RADIUS = np.deg2rad(9)  # compressed panoramas smear and ring around the sun this far
OUT = Path(__file__).parent.parent / "human" / "data" / "free_lighting.npz"


def load(path: Path) -> np.ndarray:
    """(H,W,3) float64 linear radiance out of a JavaScript module that holds a base64 OpenEXR."""
    text = path.read_text()
    code = re.match(r"[A-Za-z0-9+/=]+", text[text.index("base64,") + 7 :])
    assert code is not None, path
    with tempfile.NamedTemporaryFile(suffix=".exr") as file:
        file.write(base64.b64decode(code.group()))
        file.flush()
        return np.asarray(OpenEXR.File(file.name).channels()["RGB"].pixels, np.float64)


def directions(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(H,W,3) unit directions and (H,W) solid angles of a panorama's pixels."""
    theta = (np.arange(height) + 0.5) * np.pi / height
    phi = (np.arange(width) + 0.5) * 2 * np.pi / width
    flat = np.sin(theta)[:, None]
    towards = np.stack(np.broadcast_arrays(flat * np.cos(phi), np.cos(theta)[:, None], flat * np.sin(phi)), -1)
    edges = np.cos(np.arange(height + 1) * np.pi / height)
    return towards, np.broadcast_to(((edges[:-1] - edges[1:]) * 2 * np.pi / width)[:, None], (height, width))


def analyse(picture: np.ndarray) -> dict[str, np.ndarray]:
    """Harmonics of everything but the brightest spot, and that spot; scaled so that mean luminance is 1."""
    towards, solid = directions(*picture.shape[:2])
    clipped = np.maximum(picture, 0)
    light = clipped @ LUMINANCE
    mean = float((light * solid).sum() / (4 * np.pi))
    peak = towards.reshape(-1, 3)[np.argmax(light)]
    near = np.arccos(np.clip(towards @ peak, -1, 1)) < SUN_RADIUS
    ring = (np.arccos(np.clip(towards @ peak, -1, 1)) < 1.6 * SUN_RADIUS) & ~near
    around = np.median(clipped[ring], 0)
    # Signed sums: the codec's ringing is negative as often as positive.
    excess = np.where(near[..., None], picture - around, 0)
    weight = np.maximum(excess @ LUMINANCE, 0) * solid
    sun = np.maximum((excess * solid[..., None]).sum((0, 1)), 0) / np.pi  # what a white wall facing it shows
    middle = (towards * weight[..., None]).sum((0, 1))
    middle = middle / np.linalg.norm(middle)
    spread = np.sqrt((weight * np.arccos(np.clip(towards @ middle, -1, 1)) ** 2).sum() / weight.sum())
    rest = np.where(near[..., None], np.minimum(clipped, around), clipped)
    basis = sh_basis(torch.from_numpy(towards)).numpy()
    harmonics = np.einsum("hwk,hwc,hw->kc", basis, rest, solid)
    return {"sh": harmonics / mean, "towards": middle, "sun": sun / mean, "spread": np.asarray(spread)}


def main() -> None:
    files = sorted(fetch("pmndrs_hdri").glob("*.exr.js"))
    rows = [analyse(load(file)) for file in files]
    table = {key: np.stack([row[key] for row in rows]).astype(np.float32) for key in rows[0]}
    names = np.array([file.name.removesuffix(".exr.js") for file in files])
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    np.savez_compressed(out, name=names, **table)
    for name, row in zip(names, rows, strict=True):
        share = float(row["sun"] @ LUMINANCE) * np.pi / (4 * np.pi)
        elevation = np.rad2deg(np.arcsin(row["towards"][1]))
        print(
            f"{name:10} sun {share:.2f} of the light, {elevation:3.0f} deg high, {np.rad2deg(row['spread']):.1f} wide"
        )
    print(out, out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
