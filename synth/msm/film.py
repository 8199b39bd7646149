"""Film strips: what was made for a challenge, to be looked at.

One row: the challenge's picture with its labelled joints, the pose that was predicted, and frames of the motion in time
order, all seen from where the challenge's camera stands; above it the caption.
"""

from __future__ import annotations

import textwrap

import cv2
import numpy as np
import torch
from torch import Tensor

from human.body import BodyModel
from human.camera import level_flip
from human.fit import fit_joints3d
from human.motion_features import turn_about_y
from human.prediction import Prediction
from human.raster import rasterise, vertex_normals
from human.shading import compose, constant_light, directional_light, shade
from synth.synthesis import Film

FRAMES = 8
_TALL, _FAR = 2.4, 12.0  # metres of the world that a tile shows, and to the camera
# Okabe-Ito, linear light: what was predicted, the held pose, what the motion adds.
_WRONG, _HELD, _NEW = (0.79, 0.34, 0.0), (0.55, 0.55, 0.55), (0.09, 0.45, 0.81)
_PICKED = (0, 158, 115)


def shown_frames(film: Film, count: int = FRAMES) -> list[int]:
    """Evenly spaced frames, of the first to the last; those that a sample shows take the place of the nearest."""
    if not len(film.joints):
        return []
    frames = np.linspace(0, len(film.joints) - 1, count).round().astype(int)
    for picked in film.picked:
        frames[np.abs(frames - picked).argmin()] = picked
    return sorted(frames.tolist())


def film_strip(
    film: Film,
    image_3HW: Tensor,
    joints2d_J2: Tensor,
    conf_J: Tensor,
    prediction: Prediction,
    body: BodyModel,
    side: int = 160,
) -> np.ndarray:
    """(H, W, 3) uint8 RGB.

    Args:
        image_3HW: the challenge's crop, uint8; ``joints2d_J2`` and ``conf_J``: its labels, pixels of the crop.
        prediction: the challenge's own, one row.
        side: of each tile, pixels.

    Orange: the predicted pose. Grey: frames of the held pose. Blue: what was generated. Green frame: a sample shows it.
    """
    shown = shown_frames(film)
    tiles = [_picture(image_3HW, joints2d_J2, conf_J, side)]
    betas = prediction.betas.nan_to_num().clamp(-2.5, 2.5)
    if bool(prediction.finite.all()):
        posed = body(betas, prediction.body_pose, prediction.global_orient).vertices
        tiles += _drawn(posed, body.faces, [_WRONG], side)
    else:
        tiles += [np.full((side, side, 3), 255, np.uint8)]
    _label(tiles[1], "predicted")
    if shown:
        joints = film.joints[shown]
        fits = fit_joints3d(body, joints, betas=betas.expand(len(shown), -1), on_bad="mask")
        posed = body(fits.betas, fits.body_pose, fits.global_orient, fits.transl).vertices
        # The motion walks; its strip stays with the person, on the motion's own ground.
        place = joints[:, 0] * joints.new_tensor([1.0, 0.0, 1.0])
        seen = turn_about_y(posed - place[:, None], torch.full((len(shown),), film.heading))
        middle = seen.new_tensor([0.0, 0.45 * _TALL, 0.0])
        colours = [_HELD if f < film.prefix else _NEW for f in shown]
        for tile, f, at in zip(_drawn(level_flip(seen - middle), body.faces, colours, side), shown, place, strict=True):
            _label(tile, f"{f / film.fps:.1f} s  {float(at.norm()):.1f} m")
            if f in film.picked:
                cv2.rectangle(tile, (1, 1), (side - 2, side - 2), _PICKED, 3)
            tiles.append(tile)
    tiles += [np.full((side, side, 3), 255, np.uint8)] * (2 + FRAMES - len(tiles))
    row = np.hstack(tiles)
    text = film.caption + (f"  [no motion: {film.fell_back}]" if film.fell_back else "")
    return np.vstack([_text(text, row.shape[1]), row])


def _picture(image_3HW: Tensor, joints_J2: Tensor, conf_J: Tensor, side: int) -> np.ndarray:
    image = image_3HW.permute(1, 2, 0).contiguous().numpy()
    zoom = side / image.shape[0]
    tile = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
    for (x, y), seen in zip((joints_J2.numpy() + 0.5) * zoom - 0.5, conf_J.numpy() > 0, strict=True):
        if seen and np.isfinite([x, y]).all() and max(abs(x), abs(y)) < 4 * side:
            cv2.circle(tile, (round(float(x)), round(float(y))), 3, _PICKED, -1, cv2.LINE_AA)
    return tile


def _drawn(
    vertices_BV3: Tensor, faces: Tensor, colours: list[tuple[float, float, float]], side: int
) -> list[np.ndarray]:
    """Meshes in a level camera's directions, around the origin, from far away: one tile each."""
    away = vertices_BV3.detach().float().cpu() + torch.tensor([0.0, 0.0, _FAR])
    faces = faces.cpu()
    focal = side * _FAR / _TALL
    camera = torch.tensor([[focal, 0.0, (side - 1) / 2], [0.0, focal, (side - 1) / 2], [0.0, 0.0, 1.0]])
    count, fine = len(away), (2 * side, 2 * side)
    doubled = camera * torch.tensor([[2.0], [2.0], [1.0]])
    doubled[:2, 2] += 0.5
    fragments = rasterise(away, faces, doubled.expand(count, 3, 3).contiguous(), fine)
    lamp = directional_light(torch.nn.functional.normalize(torch.tensor([[-0.4, -0.6, -0.7]])), torch.full((1, 3), 0.7))
    light = (lamp + constant_light(torch.full((1, 3), 0.35))).expand(count, -1, -1).contiguous()
    albedo = torch.tensor(colours)[:, None, None].expand(count, *fine, 3).contiguous()
    colour = shade(fragments, faces, vertex_normals(away, faces), albedo, light)
    drawn = compose(colour, fragments, torch.ones(count, side, side, 3), supersample=2).colour
    pixels = (drawn.clamp(0, 1) ** (1 / 2.2) * 255).round().byte().numpy()
    return [np.ascontiguousarray(p) for p in pixels]


def _label(tile: np.ndarray, text: str) -> None:
    cv2.putText(tile, text, (5, tile.shape[0] - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (60, 60, 60), 1, cv2.LINE_AA)


def _text(text: str, width: int) -> np.ndarray:
    """The caption, in as many lines as it takes; letters that the font lacks are question marks."""
    plain = text.encode("ascii", "replace").decode()
    lines = textwrap.wrap(plain, width // 9)[:3] or ["(no caption)"]
    out = np.full((20 * len(lines) + 6, width, 3), 255, np.uint8)
    for k, line in enumerate(lines):
        cv2.putText(out, line, (6, 20 * k + 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return out
