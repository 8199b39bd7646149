"""PyTorch3D as a rasteriser: slow on the CPU, and the oracle that :mod:`human.raster` is tested against.

Installed by ``pip install 'posesyn[pytorch3d]'`` (the community wheel easypytorch3d 0.7.9.post1). Its extension links
to torch 2.12's CUDA 13 libraries (PyPI's default build on Linux), so a CPU-only build of torch cannot serve it; a GPU
and a system CUDA are not needed.
"""

from __future__ import annotations

import torch

from human.errors import PosesynError


def rasterise(
    verts_BV3: torch.Tensor,
    faces_F3: torch.Tensor,
    cameras_B23: torch.Tensor,
    size: tuple[int, int],
    near: float,
    cull_backfaces: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As :func:`human.raster_warp.rasterise`: face (B,H,W) int32, bary (B,H,W,3), depth (B,H,W).

    Raises:
        PosesynError: PyTorch3D cannot be imported.
    """
    try:
        from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
        from pytorch3d.structures import Meshes
    except ImportError as error:
        raise PosesynError(
            f"the pytorch3d rasteriser cannot be imported ({error}); pip install 'posesyn[pytorch3d]' beside the "
            "default (CUDA 13) build of torch 2.12, or use backend='warp'"
        ) from error

    batch = len(verts_BV3)
    height, width = size
    face = torch.full((batch, height, width), -1, dtype=torch.int32, device=verts_BV3.device)
    bary = torch.zeros((batch, height, width, 3), device=verts_BV3.device)
    depth = torch.zeros((batch, height, width), device=verts_BV3.device)
    points = _to_ndc(verts_BV3, cameras_B23, size)
    drawable = (verts_BV3[..., 2] > near) & points.isfinite().all(-1)
    kept = [drawable[b][faces_F3.long()].all(-1).nonzero()[:, 0] for b in range(batch)]
    drawn = [b for b in range(batch) if len(kept[b])]
    if not drawn:
        return face, bary, depth
    meshes = Meshes([points[b].nan_to_num() for b in drawn], [faces_F3[kept[b]].long() for b in drawn])
    pix_to_face, zbuf, weights, _ = rasterize_meshes(
        meshes,
        image_size=size,
        blur_radius=0.0,
        faces_per_pixel=1,
        bin_size=0,
        perspective_correct=True,
        cull_backfaces=cull_backfaces,
    )
    first = 0
    for i, b in enumerate(drawn):
        packed = pix_to_face[i, ..., 0]
        hit = packed >= 0
        face[b][hit] = kept[b][packed[hit] - first].to(torch.int32)
        bary[b][hit] = weights[i, ..., 0, :][hit]
        depth[b][hit] = zbuf[i, ..., 0][hit]
        first += len(kept[b])
    return face, bary, depth


def _to_ndc(verts_BV3: torch.Tensor, cameras_B23: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Camera frame -> PyTorch3D's screen: x left, y up, shorter side -1..1, z in metres.

    Its pixel i of n has its centre at (n - 1 - 2 i) / min(H, W), with i counted from the left or top.
    """
    height, width = size
    short = min(size)
    z = verts_BV3[..., 2:]
    rays = torch.cat([verts_BV3[..., :2] / z, torch.ones_like(z)], dim=-1)
    u, v = (rays @ cameras_B23.transpose(1, 2)).unbind(-1)
    return torch.stack([(width - 1 - 2 * u) / short, (height - 1 - 2 * v) / short, z[..., 0]], dim=-1)
