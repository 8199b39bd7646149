"""Draws docs/images/reprojection.jpg: people of the freely licensed demo videos, and the same people in the same
places in other poses (:mod:`synth.reprojection`).

    python scripts/draw_reprojection.py docs/images/reprojection.jpg

Bodies are fitted to the demos' 2D joints; the poses come from the free motion bank.
"""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from datamodules.readers import make_reader
from human.body import BodyModel, load_body
from human.camera import level_flip, make_intrinsics
from human.crop import crop_affine, square_box, transform_points, warp_image
from human.fit import FitResult, fit_joints2d
from human.motion import load_motion_bank
from human.raster import rasterise, vertex_normals
from human.rotations import matrix_to_rotvec, rotvec_to_matrix
from human.shading import compose, sample_texture, shade, supersampled_intrinsics
from synth.body_atlas import atlas_uv
from synth.reprojection import ReferenceAppearance, reproject_reference

SIZE, FINE = 320, 3
# Reader, its options, which person; then (clip, frame share, turn to the right in degrees) of each new pose.
ROWS: list[tuple[str, dict[str, Any], int, list[tuple[str, float, float]]]] = [
    ("pose2sim", {"split": "train", "stride": 10}, 1, [("walk", 0.3, 20), ("dance_a", 0.4, -30), ("kick", 0.45, 60)]),
    ("pose2sim", {"split": "train", "stride": 10}, 7, [("run", 0.3, 200), ("cartwheel", 0.4, 160), ("punch", 0.5, 90)]),
    ("sports2d", {"stride": 10}, 0, [("jump", 0.5, 20), ("run", 0.5, 40), ("walk", 0.8, 170)]),
    ("sports2d", {"stride": 10}, 14, [("walk", 0.1, -60), ("dance_b", 0.6, 60), ("spinkick", 0.5, 100)]),
]  # fmt: skip


def main(target: str) -> None:
    body, bank = load_body(), load_motion_bank()
    rows = []
    for name, options, person, poses in ROWS:
        reader = make_reader(name, options)
        index = reader.index
        cx, cy, side = square_box(index.bbox_xyxy[person], 1.3)
        affine = crop_affine((cx, cy), side, SIZE)
        picture = warp_image(reader.read_image(person), affine, SIZE)
        joints = torch.from_numpy(transform_points(affine, index.joints2d[person, :, :2])).float()[None]
        conf = torch.from_numpy(index.joints2d[person, :, 2])[None]
        camera = make_intrinsics(torch.tensor([1.8 * SIZE]), SIZE)
        fit = fit_joints2d(body, joints, conf, camera)
        reference = reproject_reference(picture, fit, camera, body, joints2d=joints[0], joints2d_conf=conf[0])
        print(name, person, {k: round(v, 3) for k, v in reference.quality.items()})
        row = [picture]
        for clip, share, turn in poses:
            frames = np.flatnonzero(bank.clip == bank.clip_names.index(clip))
            frame = frames[int(share * (len(frames) - 1))]
            row.append(
                draw(body, reference, fit, torch.tensor(bank.poses[frame]), torch.tensor(bank.root[frame]), turn)
            )
        rows.append(np.hstack(row))
    sheet = np.vstack(rows)
    if not cv2.imwrite(target, sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85] if target.endswith("jpg") else []):
        raise SystemExit(f"cannot write {target}")


def draw(
    body: BodyModel, reference: ReferenceAppearance, fit: FitResult, pose_23x3: Tensor, root_3: Tensor, turn: float
) -> np.ndarray:
    """(H, W, 3) uint8: the person of the reference in another pose, feet on the same ground."""
    facing = rotvec_to_matrix(torch.tensor([[0.0, np.deg2rad(turn), 0.0]]).float())[0]
    lean = rotvec_to_matrix(root_3[None].float())[0]
    yaw = torch.atan2(lean[0, 2], lean[2, 2])
    unturned = rotvec_to_matrix(torch.stack([0 * yaw, -yaw, 0 * yaw])[None])[0] @ lean
    orient = matrix_to_rotvec(level_flip(facing @ unturned, -2)[None])
    with torch.inference_mode():
        before = body(fit.betas, fit.body_pose, fit.global_orient, fit.transl).vertices[0]
        verts = body(fit.betas, pose_23x3[None].float(), orient).vertices
        # On the ground where the person stood: the same lowest point, the same middle.
        move = (before.amin(0) + before.amax(0)) / 2 - (verts[0].amin(0) + verts[0].amax(0)) / 2
        move[1] = before[:, 1].max() - verts[0, :, 1].max()
        verts = verts + move
        camera = torch.from_numpy(reference.intrinsics)[None]
        frags = rasterise(verts, body.faces, supersampled_intrinsics(camera, FINE), (FINE * SIZE, FINE * SIZE))
        texture = torch.from_numpy(linear(reference.atlas[..., :3]))[None]
        albedo = sample_texture(frags, atlas_uv(body), texture)
        normals = vertex_normals(verts, body.faces)
        colour = shade(frags, body.faces, normals, albedo, torch.from_numpy(reference.light)[None])
        picture = compose(colour, frags, torch.from_numpy(linear(reference.background))[None], FINE).colour[0].numpy()
    return np.rint(255 * np.clip(picture, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def linear(picture: np.ndarray) -> np.ndarray:
    return ((picture / 255.0) ** 2.2).astype(np.float32)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "docs/images/reprojection.jpg")
