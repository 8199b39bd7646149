"""Draws docs/images/texture_transfer.jpg: drawn garments filled with free photographs, their matched contours, and the
planar textures worn by the free body (:mod:`synth.texture_transfer`).

    python scripts/draw_texture_transfer.py docs/images/texture_transfer.jpg
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import torch

from human.body import BodyModel, load_body
from human.camera import level_flip, make_intrinsics
from human.raster import interpolate, rasterise, vertex_normals
from human.rotations import rotvec_to_matrix
from human.shading import compose, constant_light, directional_light, shade, supersampled_intrinsics
from synth.backgrounds import load_free_photographs
from synth.garment_outlines import garment_outlines
from synth.planar import front_weight, planar_uv
from synth.texture_transfer import cut_out, match_contour, two_views, warp_to_plane
from tests.synth.garments import draw_garment

SIZE, FINE = 256, 3


def main(target: str) -> None:
    body = load_body()
    outlines, photographs = garment_outlines(body), load_free_photographs()
    tiles = []
    for number, (name, photograph) in enumerate((("shirt", None), ("pullover", 4), ("trousers", None), ("dress", 0))):
        picture, _ = draw_garment(name, number, SIZE, None if photograph is None else photographs[photograph])
        garment = cut_out(picture)
        match = match_contour(garment, outlines)
        print(name, "->", match.outline.name, round(match.cost, 3))
        view, shown = warp_to_plane(garment, match, SIZE)
        traced = picture.copy()
        ramp = cv2.applyColorMap(np.arange(len(match.source_N2), dtype=np.uint8)[:, None], cv2.COLORMAP_JET)[:, 0]
        for point, colour in zip(match.source_N2, ramp, strict=True):
            cv2.circle(traced, [int(v) for v in point], 2, [int(v) for v in colour], -1)
        dim = np.where(shown[..., None], view, view // 2)
        # The texture goes on a little beyond the outline: a body seen from the side needs it.
        covered = cv2.dilate(shown.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        worn = [wear(body, two_views(view), covered, yaw) for yaw in (0.5, 2.6)]
        tiles.append(np.hstack([picture, traced, dim, *worn]))
    sheet = np.vstack(tiles)
    if not cv2.imwrite(target, sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85] if target.endswith("jpg") else []):
        raise SystemExit(f"cannot write {target}")


def wear(body: BodyModel, texture: np.ndarray, shown: np.ndarray, yaw: float) -> np.ndarray:
    """(H, W, 3) uint8: the body in a texture, arms half down, skin where the picture showed nothing."""
    pose = torch.zeros(1, 23, 3)
    pose[0, 15, 2], pose[0, 16, 2] = -0.8, 0.8
    upright = level_flip(rotvec_to_matrix(torch.tensor([[0.0, yaw, 0.0]]))[0], -2)
    with torch.inference_mode():
        rest = body(torch.zeros(1, 10), torch.zeros(1, 23, 3), torch.zeros(1, 3)).vertices
        posed = body(torch.zeros(1, 10), rotvec_to_matrix(pose), upright[None]).vertices + torch.tensor([0, -0.06, 4.2])
        camera = supersampled_intrinsics(make_intrinsics(torch.tensor([2.25 * SIZE]), SIZE), FINE)
        frags = rasterise(posed, body.faces, camera, (FINE * SIZE, FINE * SIZE))
        fields = torch.cat([rest, vertex_normals(rest, body.faces)[..., 2:]], -1)
        x, y, _, facing = interpolate(frags, body.faces, fields)[0].numpy().transpose(2, 0, 1)
        front, back, v = planar_uv(x, y)
        layers = [np.dstack([view, 255.0 * mask]) for view, mask in zip(texture, (shown, shown[:, ::-1]), strict=True)]
        sides = [
            cv2.remap(layer.astype(np.float32), u * SIZE - 0.5, v * SIZE - 0.5, cv2.INTER_LINEAR)
            for u, layer in zip((front, back), layers, strict=True)
        ]
        share = front_weight(facing)[..., None]
        colour = share * sides[0] + (1 - share) * sides[1]
        cover = colour[..., 3:] / 255
        albedo = (cover * colour[..., :3] / 255 + (1 - cover) * np.array([0.82, 0.66, 0.56])) ** 2.2
        light = constant_light(torch.full((1, 3), 0.6)) + directional_light(
            torch.tensor([[-0.5, -0.6, -0.62]]), torch.full((1, 3), 0.5)
        )
        lit = shade(frags, body.faces, vertex_normals(posed, body.faces), torch.tensor(albedo[None]).float(), light)
        grey = torch.full((1, SIZE, SIZE, 3), 0.5)
        drawn = compose(lit, frags, grey, FINE).colour[0].numpy()
    return np.rint(255 * np.clip(drawn, 0, 1) ** (1 / 2.2)).astype(np.uint8)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "docs/images/texture_transfer.jpg")
