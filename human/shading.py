"""Deferred shading of rasterised meshes: albedo, Lambert light, composition over a background.

    frags = rasterise(verts, faces, supersampled_intrinsics(K, 2), (2 * H, 2 * W))
    albedo = interpolate(frags, faces, colours)            # or sample_texture(frags, uv, texture)
    colour = shade(frags, faces, vertex_normals(verts, faces), albedo, constant_light(rgb))
    picture = compose(colour, frags, background, supersample=2)

Everything is linear radiance in float32, unclamped; a display curve and 8 bits are the caller's affair. All directions
are in the camera frame (x right, y down, z forward). Lights are nine spherical-harmonic coefficients of the incoming
radiance per channel, in the order Y00, Y1-1, Y10, Y11, Y2-2, Y2-1, Y20, Y21, Y22. Ramamoorthi and Hanrahan, "An
Efficient Representation for Irradiance Environment Maps", SIGGRAPH 2001. Nothing here is differentiable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from human.errors import PosesynError
from human.raster import Fragments, lookup_faces

#: Factors of 1, y, z, x, xy, yz, 3z^2-1, xz, x^2-y^2 in the real harmonics (eq. 3 of the paper).
SH_FACTORS = (0.282095, 0.488603, 0.488603, 0.488603, 1.092548, 1.092548, 0.315392, 1.092548, 0.546274)
#: The clamped cosine's zonal coefficients over pi (eq. 8): radiance to reflected light of a white Lambertian.
SH_COSINE = (1.0, *([2 / 3] * 3), *([1 / 4] * 5))


@dataclass(frozen=True)
class Picture:
    """A rendering over a background.

    Attributes:
        colour: (B,H,W,3) float32, linear.
        alpha: (B,H,W) float32, the covered fraction of each pixel.
        depth: (B,H,W) float32, metres to the nearest covered sample; 0 where there is none.
    """

    colour: torch.Tensor
    alpha: torch.Tensor
    depth: torch.Tensor


def sh_basis(directions_N3: torch.Tensor) -> torch.Tensor:
    """The nine real spherical harmonics up to order 2 of unit vectors: (..., 3) -> (..., 9)."""
    x, y, z = directions_N3.unbind(-1)
    terms = torch.stack(
        [torch.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y],
        dim=-1,
    )
    return terms * torch.tensor(SH_FACTORS, dtype=terms.dtype, device=terms.device)


def constant_light(radiance_B3: torch.Tensor) -> torch.Tensor:
    """Light of the same radiance from everywhere: (B,3) -> (B,9,3). A surface then shows albedo * radiance."""
    light = torch.zeros((len(radiance_B3), 9, 3), dtype=torch.float32, device=radiance_B3.device)
    light[:, 0] = radiance_B3 * (1 / SH_FACTORS[0])
    return light


def directional_light(towards_B3: torch.Tensor, radiance_B3: torch.Tensor) -> torch.Tensor:
    """A soft lamp in direction ``towards_B3`` (unit, from the surface to the lamp): (B,3), (B,3) -> (B,9,3).

    The order-2 projection of a point light whose exact Lambert response is radiance * max(n.d, 0). Lights add up.
    """
    return math.pi * sh_basis(towards_B3).float()[:, :, None] * radiance_B3.float()[:, None, :]


def sample_texture(frags: Fragments, uv_F32: torch.Tensor, texture_BTT3: torch.Tensor) -> torch.Tensor:
    """Bilinear texture colours (B,H,W,3) float32, 0 at background.

    Args:
        frags: from :func:`human.raster.rasterise`.
        uv_F32: texture coordinates of each face's corners, (F,3,2): u right and v down from the texture's top left
            corner, both in 0..1 (Wavefront files have v up: give 1 - v). Clamped at the border.
        texture_BTT3: (B,Th,Tw,3), or (1,Th,Tw,3) for one texture shared by the batch. Not filtered when minified.
    """
    from human import raster_warp as rw
    from human import shading_kernels

    batch, height, width = frags.face.shape
    texture = texture_BTT3.detach().float().contiguous()
    if texture.ndim != 4 or texture.shape[-1] != 3 or texture.shape[0] not in (1, batch) or not texture.numel():
        raise PosesynError(f"sample_texture: texture is {tuple(texture.shape)}; give ({batch} or 1, Th, Tw, 3)")
    uv = uv_F32.detach().to(texture.device, torch.float32).contiguous()
    if uv.ndim != 3 or uv.shape[1:] != (3, 2):
        raise PosesynError(f"sample_texture: uv is {tuple(uv.shape)}; give (F, 3, 2), one per corner of each face")
    if frags.face.numel() and int(frags.face.max()) >= len(uv):
        raise PosesynError(
            f"sample_texture: uv is for {len(uv)} faces; the fragments show face {int(frags.face.max())}"
        )
    out = torch.zeros((batch, height * width, 3), device=texture.device)
    inputs = [*_pixels(frags), rw.vectors(uv, rw.wp.vec2), rw.vectors(texture, rw.wp.vec3)]
    rw.launch(shading_kernels.texture_kernel, batch, height * width, inputs, [rw.vectors(out, rw.wp.vec3)], out.device)
    return out.view(batch, height, width, 3)


def shade(
    frags: Fragments,
    faces_F3: torch.Tensor,
    normals_BV3: torch.Tensor,
    albedo_BHW3: torch.Tensor,
    light_B93: torch.Tensor,
    sun_B23: torch.Tensor | None = None,
) -> torch.Tensor:
    """Lambertian reflection: (B,H,W,3) float32, 0 at background.

    Args:
        frags: what each pixel sees.
        faces_F3: the faces ``frags`` were drawn with.
        normals_BV3: unit vertex normals (:func:`human.raster.vertex_normals`), interpolated over the face.
        albedo_BHW3: reflectance per pixel.
        light_B93: spherical-harmonic light per channel (:func:`constant_light`, :func:`directional_light`, sums of
            them, or a measured environment). Negative lobes of the order-2 approximation are clamped at 0.
        sun_B23: optional hard lamp, rows (unit direction towards it, radiance): adds radiance * max(n.d, 0) exactly.
    """
    from human import raster_warp as rw
    from human import shading_kernels

    batch, height, width = frags.face.shape
    device = frags.face.device
    albedo = albedo_BHW3.detach().float().contiguous()
    normals = normals_BV3.detach().float().contiguous()
    for name, tensor, shape in (("albedo", albedo, (batch, height, width, 3)), ("light", light_B93, (batch, 9, 3))):
        if tensor.shape != shape:
            raise PosesynError(f"shade: {name} is {tuple(tensor.shape)}; give {shape}")
    factors = torch.tensor([a * y for a, y in zip(SH_COSINE, SH_FACTORS, strict=True)], device=device)
    terms = (light_B93.detach().float() * factors[:, None]).contiguous()
    sun = torch.zeros((batch, 2, 3), device=device) if sun_B23 is None else sun_B23.detach().float().contiguous()
    out = torch.zeros((batch, height * width, 3), device=device)
    inputs = [
        *_pixels(frags),
        rw.vectors(lookup_faces(frags, faces_F3, normals), rw.wp.vec3i),
        rw.vectors(normals, rw.wp.vec3),
        rw.vectors(albedo.flatten(1, 2), rw.wp.vec3),
        rw.vectors(terms, rw.wp.vec3),
        rw.vectors(sun, rw.wp.vec3),
    ]
    rw.launch(shading_kernels.shade_kernel, batch, height * width, inputs, [rw.vectors(out, rw.wp.vec3)], device)
    return out.view(batch, height, width, 3)


def supersampled_intrinsics(intrinsics_B33: torch.Tensor, supersample: int) -> torch.Tensor:
    """Intrinsics of the same view with ``supersample`` times the pixels each way.

    Pixel centres are integers, so pixel u covers samples s*u .. s*u+s-1, centred at s*u + (s-1)/2.
    """
    scaled = intrinsics_B33.clone()
    scaled[:, :2] *= supersample
    scaled[:, :2, 2] += (supersample - 1) / 2
    return scaled


def compose(
    colour_BHW3: torch.Tensor, frags: Fragments, background_BHW3: torch.Tensor, supersample: int = 1
) -> Picture:
    """Lay a rendering over a background; with ``supersample`` > 1, average each pixel's samples (smooth edges).

    Args:
        colour_BHW3: (B, s*H, s*W, 3), from :func:`shade`.
        frags: the fragments it was shaded from, same size.
        background_BHW3: (B, H, W, 3), in the same linear scale.
        supersample: s, the number of samples per pixel each way.
    """
    from human import raster_warp as rw
    from human import shading_kernels

    background = background_BHW3.detach().float().contiguous()
    batch, height, width = background.shape[:3]
    fine = (batch, height * supersample, width * supersample)
    if supersample < 1 or frags.face.shape != fine or colour_BHW3.shape != (*fine, 3):
        raise PosesynError(
            f"compose: colour is {tuple(colour_BHW3.shape)} and background {tuple(background.shape)}; with "
            f"supersample={supersample} the colour must be {(*fine, 3)}"
        )
    samples = colour_BHW3.detach().float().contiguous()
    if supersample == 1:
        mask = frags.mask
        return Picture(torch.where(mask[..., None], samples, background), mask.float(), frags.depth)
    colour = torch.empty_like(background)
    alpha = torch.empty(background.shape[:3], device=background.device)
    depth = torch.empty_like(alpha)
    inputs = [
        rw.vectors(samples, rw.wp.vec3),
        rw.wp.from_torch(frags.depth),
        rw.vectors(background, rw.wp.vec3),
        supersample,
    ]
    outputs = [rw.vectors(colour, rw.wp.vec3), rw.wp.from_torch(alpha), rw.wp.from_torch(depth)]
    rw.launch(shading_kernels.compose_kernel, batch, height * width, inputs, outputs, background.device)
    return Picture(colour, alpha, depth)


def _pixels(frags: Fragments) -> list[object]:
    """Face index and barycentrics as flat Warp arrays (B,P)."""
    from human import raster_warp as rw

    return [rw.wp.from_torch(frags.face.flatten(1)), rw.vectors(frags.bary.flatten(1, 2), rw.wp.vec3)]
