"""People drawn over their pictures, and their meshes as files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from human.errors import PosesynError
from human.raster import rasterise, vertex_normals
from human.shading import compose, constant_light, directional_light, shade

#: Okabe-Ito colours (linear light), one person after the other.
COLOURS = torch.tensor(
    [[0.09, 0.45, 0.81], [0.79, 0.34, 0.0], [0.0, 0.34, 0.17], [0.6, 0.19, 0.39], [0.87, 0.77, 0.05]]
)
MESH_FORMATS = ("ply", "glb")


def draw_people(
    image_HWC: np.ndarray, vertices_PV3: Tensor, faces_F3: Tensor, cameras_P33: Tensor, depth_P: Tensor, side: int
) -> np.ndarray:
    """(H',W',3) RGB: the picture, its longer side at most ``side`` px, and each person as its own camera sees them.

    Args:
        vertices_PV3: metres in the frame of each person's camera.
        cameras_P33: intrinsics, px of the picture.
        depth_P: who is before whom.
    """
    height, width = image_HWC.shape[:2]
    zoom = min(1.0, side / max(height, width))
    size = (max(1, round(height * zoom)), max(1, round(width * zoom)))
    picture = cv2.resize(image_HWC, size[::-1], interpolation=cv2.INTER_AREA) if zoom < 1 else image_HWC
    canvas = torch.from_numpy(np.ascontiguousarray(picture)).float()[None] / 255
    # Integer coordinates are pixel centres, before and after.
    shrink = torch.eye(3)
    shrink[0, 0], shrink[1, 1] = size[1] / width, size[0] / height
    shrink[0, 2], shrink[1, 2] = (shrink[0, 0] - 1) / 2, (shrink[1, 1] - 1) / 2
    faces = faces_F3.cpu()
    towards = torch.nn.functional.normalize(torch.tensor([[-0.4, -0.6, -0.7]]))
    lamp = directional_light(towards, torch.full((1, 3), 0.7))
    light = lamp + constant_light(torch.full((1, 3), 0.35))
    for k in depth_P.argsort(descending=True).tolist():
        vertices = vertices_PV3[k : k + 1].detach().cpu().float()
        if not vertices.isfinite().all():
            continue
        fragments = rasterise(vertices, faces, shrink[None] @ cameras_P33[k : k + 1].cpu(), size)
        albedo = COLOURS[k % len(COLOURS)].expand(1, *size, 3).contiguous()
        colour = shade(fragments, faces, vertex_normals(vertices, faces), albedo, light)
        drawn = compose(colour, fragments, torch.zeros(1, *size, 3))
        canvas = torch.lerp(canvas, drawn.colour.clamp(0, 1) ** (1 / 2.2), 0.8 * drawn.alpha[..., None])
    return (canvas[0] * 255).round().clamp(0, 255).byte().numpy()


def check_mesh_format(kind: str) -> None:
    """:class:`PosesynError` where meshes of that kind cannot be written here."""
    if kind not in MESH_FORMATS:
        raise PosesynError(f"predictions.meshes={kind!r}: choose one of {', '.join(MESH_FORMATS)}, or null for none")
    if find_spec("trimesh") is None:
        raise PosesynError("meshes are written by trimesh: run `pip install 'posesyn[meshes]'`")


def write_mesh(path: Path, vertices_V3: np.ndarray, faces_F3: np.ndarray) -> None:
    """A ``.ply`` or ``.glb``. Vertices are metres in the camera's frame; in the file y points up and z to the viewer,
    as glTF has it and viewers expect, with the camera in the origin."""
    import trimesh

    path.parent.mkdir(parents=True, exist_ok=True)
    mesh = trimesh.Trimesh(vertices_V3 * np.array([1.0, -1.0, -1.0]), faces_F3, process=False)
    partial = path.with_name(f".{path.name}")
    mesh.export(partial, file_type=path.suffix[1:])
    partial.replace(path)
