"""Reference re-projection: the appearance of a real person, and the place they are in, from one picture.

The estimator's mesh says which pixel shows which point of the body. Points that the picture shows take their colour
from it; the others are filled in by symmetry and along the surface (:mod:`synth.body_atlas`). The light is flattened
roughly and returned, and the person is removed from the scene, so that the same person can be drawn in the same scene
in any other pose: PoseSyn's reference-guided animation (arXiv 2503.13025, §3.3) without a generative model.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from human.body import BodyModel
from human.camera import project
from human.errors import PosesynError
from human.raster import rasterise, vertex_normals
from human.record import Record
from synth.body_atlas import BodyAtlas, body_atlas
from synth.colours import linear_to_srgb, srgb_to_linear
from synth.inpaint import inpaint_person
from synth.person_cutout import cut_out_person
from synth.reference_light import estimate_light, response

ATLAS_SIZE = 256
_RIM = 0.018  # metres taken off the person's outline: its pixels are mixed with the background
_DEEP = 0.045  # metres: that far inside the outline, a pixel is the person's
_ALIKE = 36.0  # levels (RGB) between colours that may be the same
_HAND_LIKE = 28.0  # levels (RGB) by which a hand may differ from its forearm
_SNAP = 0.03  # metres: a point that lies this far outside the person counts 1/e
_OVERHANG = 0.04  # metres by which a nearer surface must stand off to hide a point
_MARGIN = 0.028  # metres around a nearer surface's outline that are not trusted either
_GRAZING = (0.12, 0.5)  # cosines to the line of sight: nothing below, full trust above
_MIN_SEEN = 0.08  # share of texels
_MAX_JOINT_ERROR = 0.12  # of the torso's length
_log = logging.getLogger(__name__)


class Parameters(Protocol):
    """B fitted bodies, as ``human.prediction.Prediction``, ``human.fit.FitResult`` and ``SceneSpec`` hold them."""

    @property
    def betas(self) -> Tensor: ...
    @property
    def body_pose(self) -> Tensor: ...
    @property
    def global_orient(self) -> Tensor: ...
    @property
    def transl(self) -> Tensor: ...


@dataclass(frozen=True)
class ReferenceAppearance:
    """A person and a place.

    ``atlas`` (T,T,4) uint8 sRGB and alpha (255: everything has a colour), the person under even light, in the body's
    texture coordinates (``synth.body_atlas.atlas_uv``); ``seen`` (T,T) uint8, how far the picture itself showed each
    texel; ``background`` (H,W,3) uint8 RGB, the picture without the person; ``light`` (9,3) float32 harmonics, grey,
    camera frame, under which the atlas looks as in the picture (``human.shading.shade``); the fitted ``betas`` (10,),
    ``global_orient`` (3,), ``transl`` (3,) metres and ``intrinsics`` (3,3) that place a person in this scene;
    ``quality``: figures.
    """

    atlas: np.ndarray
    seen: np.ndarray
    background: np.ndarray
    light: np.ndarray
    betas: np.ndarray
    global_orient: np.ndarray
    transl: np.ndarray
    intrinsics: np.ndarray
    quality: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ReferenceBank(Record):
    """N references as tensors; fields as in :class:`ReferenceAppearance` with a leading N."""

    atlas: Tensor
    background: Tensor
    light: Tensor
    betas: Tensor
    global_orient: Tensor
    transl: Tensor
    intrinsics: Tensor

    @classmethod
    def of(cls, references: Iterable[ReferenceAppearance]) -> ReferenceBank:
        """All references; their pictures and atlases must agree in size."""
        items = list(references)
        if not items:
            raise PosesynError("a reference bank needs at least one reference: none of the pictures gave one")
        columns = {}
        for name in ("atlas", "background", "light", "betas", "global_orient", "transl", "intrinsics"):
            values = [getattr(item, name) for item in items]
            if len({v.shape for v in values}) > 1:
                raise PosesynError(f"the references' {name} differ in shape: make all from crops of one size")
            columns[name] = torch.from_numpy(np.stack(values))
        return cls(**columns)


def reproject_reference(
    image: np.ndarray,
    parameters: Parameters,
    camera: Tensor,
    body: BodyModel,
    *,
    joints2d: Tensor | None = None,
    joints2d_conf: Tensor | None = None,
    person: np.ndarray | None = None,
    size: int = ATLAS_SIZE,
    flatten: bool = True,
) -> ReferenceAppearance:
    """The appearance and the scene of one picture.

    Args:
        image: (H, W, 3) uint8 RGB.
        parameters: one body (B = 1) fitted to the person, in the camera frame.
        camera: (3, 3) or (1, 3, 3) pixel intrinsics of the picture.
        body: the model the parameters belong to.
        joints2d, joints2d_conf: (32, 2) px and (32,) labels; where given, a fit that misses them is refused.
        person: (H, W) bool, the person's pixels where known; else they are cut out by colour.
        size: T of the atlas.
        flatten: divide by the estimated light; else the picture's shading stays and the light is constant.

    Raises:
        PosesynError: no person is found in the picture, or the fit is bad.
    """
    height, width = _checked(image, parameters, camera)
    with torch.inference_mode():
        intrinsics = camera.detach().reshape(1, 3, 3).float().cpu()
        posed = body(*(getattr(parameters, n).to(body.v_template) for n in _POSE))
        vertices, joints = posed.vertices.float().cpu(), posed.joints.float().cpu()
        if not bool(torch.isfinite(vertices).all()):
            raise PosesynError("the fitted body has NaN or infinite vertices: the estimator found no person")
        depth = float(joints[0, 0, 2])
        if depth <= 0.2:
            raise PosesynError(
                f"the fitted body is at depth {depth:.2f} m, behind or inside the camera: no person found"
            )
        joint_error = _joint_error(project(joints, intrinsics)[0], joints2d, joints2d_conf)
        faces = body.faces.cpu()
        frags = rasterise(vertices, faces, intrinsics, (height, width))
        normals = vertex_normals(vertices, faces)[0].numpy().astype(np.float64)
    px = float(intrinsics[0, 0, 0]) / depth  # per metre
    mask = frags.mask[0].numpy()
    quality = {"joint_error": joint_error}
    if person is None:
        person, found = cut_out_person(image, mask, px)
        quality |= found
    elif person.shape != (height, width):
        raise PosesynError(f"the person's mask is {person.shape} and the picture {(height, width)}: they must agree")

    atlas = body_atlas(body, size)
    points = atlas.at(vertices[0].numpy().astype(np.float64))
    facing = atlas.at(normals)
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-9)
    pixel = points[:, :2] / np.maximum(points[:, 2:], 0.01) @ intrinsics[0, :2, :2].numpy().T.astype(np.float64)
    pixel += intrinsics[0, :2, 2].numpy()
    part_F = _PAIRED[body.part.cpu().numpy()[atlas.faces[:, 0]]]
    part_HW = np.where(mask, part_F[frags.face[0].numpy()], -1)
    clean, trust = _person_colours(image, person, part_HW, px)
    weight = _visibility(points, facing, pixel, frags.depth[0].numpy(), mask, px) * _sample(trust, pixel)
    linear = srgb_to_linear(_sample(clean, pixel))
    weight *= _plausible_hands(atlas, linear, weight)
    seen = float((weight > 0.05).mean())
    quality["seen"] = seen
    if seen < _MIN_SEEN:
        raise PosesynError(f"no person found: only {seen:.0%} of the fitted body's surface can be seen in the picture")

    light = np.zeros(9)
    light[0] = 1 / 0.282095
    if flatten:
        seen_n = np.flatnonzero(weight > 0.05)[:: max(1, len(weight) // 40000)]
        light = estimate_light(linear[seen_n], facing[seen_n], part_F[atlas.face_n[seen_n]], weight[seen_n])
        shading = np.clip(response(light, facing), 0.5, 1.8)
        linear = linear / shading[:, None]
    colours = atlas.spread(linear, weight)
    rgb = np.rint(linear_to_srgb(colours)).astype(np.uint8)
    return ReferenceAppearance(
        atlas=atlas.image(np.concatenate([rgb, np.full((len(rgb), 1), 255, np.uint8)], 1)),
        seen=atlas.image(np.rint(255 * weight).astype(np.uint8)),
        background=_without_person(image, person, mask, px),
        light=np.repeat(light[:, None], 3, 1).astype(np.float32),
        betas=_row(parameters.betas),
        global_orient=_row(parameters.global_orient),
        transl=_row(parameters.transl),
        intrinsics=intrinsics[0].numpy(),
        quality=quality,
    )


_POSE = ("betas", "body_pose", "global_orient", "transl")
#: Body parts with left and right as one: they wear the same.
_PAIRED = np.array([0, 1, 1, 3, 4, 4, 3, 7, 7, 9, 10, 10, 12, 9, 9, 15, 16, 16, 18, 18, 20, 20, 20, 20])


def _row(value: Tensor) -> np.ndarray:
    return value.detach().float().cpu().numpy()[0].copy()


def _checked(image: np.ndarray, parameters: Parameters, camera: Tensor) -> tuple[int, int]:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape[:2]) < 32:
        raise PosesynError(f"a reference must be (H, W, 3) uint8 of at least 32 px, got {image.shape} {image.dtype}")
    for name in _POSE:
        value = getattr(parameters, name)
        if len(value) != 1:
            raise PosesynError(f"reproject_reference takes one body at a time; {name} has {len(value)} rows")
        if not bool(torch.isfinite(value).all()):
            raise PosesynError(f"the fitted {name} are not finite: the estimator found no person")
    if camera.numel() != 9 or not bool(torch.isfinite(camera).all()):
        raise PosesynError(f"the camera must be finite (3, 3) intrinsics, got {tuple(camera.shape)}")
    return int(image.shape[0]), int(image.shape[1])


def _joint_error(found_J2: Tensor, joints2d: Tensor | None, conf: Tensor | None) -> float:
    """Mean distance of the fit to labelled joints over the torso's length; 0 without labels."""
    if joints2d is None or conf is None:
        return 0.0
    used = conf > 0
    if not bool(used.any()):
        return 0.0
    torso = float((found_J2[[16, 17]].mean(0) - found_J2[[1, 2]].mean(0)).norm())
    extent = float((found_J2.amax(0) - found_J2.amin(0)).max())
    error = float((found_J2 - joints2d.float().cpu())[used.cpu()].norm(dim=-1).mean()) / max(torso, 0.25 * extent, 1.0)
    if not error <= _MAX_JOINT_ERROR:
        raise PosesynError(
            f"the fitted body misses the labelled joints by {error:.0%} of the torso's length: refine the fit "
            "(human.fit.fit_joints2d)"
        )
    return error


def _person_colours(
    image: np.ndarray, person: np.ndarray, part_HW: np.ndarray, px: float
) -> tuple[np.ndarray, np.ndarray]:
    """The picture with everything but the person replaced by the person's nearest colour, and how much to trust it,
    (H, W): 1 inside, falling with the distance to the person."""
    inside = cv2.distanceTransform(person.astype(np.uint8), cv2.DIST_L2, 5)
    rim = max(1.0, _RIM * px)
    sure = inside > min(rim, 0.5 * float(inside.max()))
    sure &= ~_like_background(image, inside, person, part_HW, px)
    # The picture's own border is no outline of the person.
    sure[:, [0, -1]] |= person[:, [0, -1]]
    sure[[0, -1]] |= person[[0, -1]]
    distance, (row, column) = distance_transform_edt(~sure, return_indices=True)
    beyond = np.maximum(0, distance - rim - 1) / max(1.0, _SNAP * px)
    return image[row, column], np.exp(-(beyond**2)).astype(np.float32)


def _like_background(
    image: np.ndarray, inside: np.ndarray, person: np.ndarray, part_HW: np.ndarray, px: float
) -> np.ndarray:
    """Pixels near the outline that look like the background beside them and neither like the person further in nor
    like most of their body part: the cut is never exact, nor is the fit."""
    outside = cv2.distanceTransform((~person).astype(np.uint8), cv2.DIST_L2, 5) > 2
    if not outside.any():
        return np.zeros_like(person)
    calm = cv2.GaussianBlur(image, (0, 0), 1.0).astype(np.float32)
    row, column = distance_transform_edt(~outside, return_distances=False, return_indices=True)
    from_background = np.linalg.norm(calm - calm[row, column], axis=-1)
    usual = np.full(person.shape, np.inf, np.float32)
    row, column = distance_transform_edt(part_HW < 0, return_distances=False, return_indices=True)
    part_HW = part_HW[row, column]
    for part in range(24):
        rows, columns = np.nonzero(person & (part_HW == part))
        if len(rows) > 20:
            median = np.median(calm[rows, columns], axis=0)
            usual[rows, columns] = np.linalg.norm(calm[rows, columns] - median, axis=-1)
    depth = max(2.0, _DEEP * px)
    deep = inside > depth
    if deep.any():
        to_deep, (row, column) = distance_transform_edt(~deep, return_indices=True)
        # On thin limbs the next deep pixel may wear something else.
        further = np.linalg.norm(calm - calm[row, column], axis=-1)
        usual = np.where(to_deep < 2.5 * depth, np.minimum(usual, further), usual)
    near = inside < 2 * depth
    return np.asarray(near & np.isfinite(usual) & (from_background < _ALIKE) & (from_background < 0.75 * usual))


def _visibility(
    points: np.ndarray, facing: np.ndarray, pixel: np.ndarray, depth: np.ndarray, mask: np.ndarray, px: float
) -> np.ndarray:
    """(n,) 0..1: faces the camera, in the picture, and nothing nearer at or right beside its pixel."""
    height, width = depth.shape
    towards = -(points * facing).sum(1) / np.maximum(np.linalg.norm(points, axis=1), 1e-9)
    weight = np.clip((towards - _GRAZING[0]) / (_GRAZING[1] - _GRAZING[0]), 0, 1)
    radius = max(1, round(_MARGIN * px))
    nearest = cv2.erode(
        np.where(mask, depth, 1e6).astype(np.float32),
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2),
    )
    at = np.rint(pixel).astype(np.int64)
    inside = (pixel[:, 0] >= 0) & (pixel[:, 1] >= 0) & (pixel[:, 0] <= width - 1) & (pixel[:, 1] <= height - 1)
    front = nearest[at[:, 1].clip(0, height - 1), at[:, 0].clip(0, width - 1)]
    # Across the margin a slanted surface comes nearer by itself.
    slack = _OVERHANG + _MARGIN * np.sqrt(np.maximum(0, 1 - towards**2)) / np.maximum(towards, 0.1)
    return np.asarray(weight * inside * (points[:, 2] <= front + slack))


def _plausible_hands(atlas: BodyAtlas, linear_n3: np.ndarray, weight_n: np.ndarray) -> np.ndarray:
    """(n,) 0 where a hand does not have its forearm's colour: hands lie before or beside clothes, and are fitted worst,
    so what seems to be a hand is often cloth. A glove is lost with it."""
    reach, x = atlas.reach_x_n2.T
    display = linear_to_srgb(linear_n3)
    out = np.ones(len(weight_n))
    for side in (x >= 0, x < 0):
        arm = np.flatnonzero(side & (reach > 1.55) & (reach <= 2.0) & (weight_n > 0.3))
        if len(arm) < 30:  # the other arm's, then
            arm = np.flatnonzero((reach > 1.55) & (reach <= 2.0) & (weight_n > 0.3))
        if len(arm) >= 30:
            hand = np.flatnonzero(side & (reach > 2.0))
            away = np.linalg.norm(display[hand] - np.median(display[arm], axis=0), axis=1)
            out[hand] = np.clip(2 - away / _HAND_LIKE, 0, 1)
    return out


def _sample(image: np.ndarray, pixel_n2: np.ndarray) -> np.ndarray:
    """Bilinear, (n,) or (n, C) float64."""
    xy = pixel_n2.astype(np.float32)
    rows = -(-len(xy) // 1024)  # OpenCV wants pictures, none longer than 32767
    padded = np.zeros((rows * 1024, 2), np.float32)
    padded[: len(xy)] = xy
    grid = padded.reshape(rows, 1024, 2)
    out = cv2.remap(
        image.astype(np.float32), grid[..., 0], grid[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(out.reshape(rows * 1024, *image.shape[2:])[: len(xy)].astype(np.float64))


def _without_person(image: np.ndarray, person: np.ndarray, mask: np.ndarray, px: float) -> np.ndarray:
    radius = max(2, round(0.035 * px))
    hole = cv2.dilate((person | mask).astype(np.uint8), np.ones((2 * radius + 1,) * 2, np.uint8)).astype(bool)
    if hole.mean() > 0.9:
        raise PosesynError("the person covers the whole picture: nothing is left of the scene")
    return inpaint_person(image, hole)


def build_reference_bank(
    items: Iterable[tuple[str, np.ndarray, Parameters, Tensor]], body: BodyModel, size: int = ATLAS_SIZE
) -> tuple[ReferenceBank, list[str]]:
    """A bank of all references that can be made, and the names of those in it; the others are logged and counted.

    Args:
        items: (name, picture, fitted body, camera) each.
    """
    made, names, skipped = [], [], 0
    for name, image, parameters, camera in items:
        try:
            made.append(reproject_reference(image, parameters, camera, body, size=size))
            names.append(name)
        except PosesynError as error:
            skipped += 1
            _log.warning("reference %s skipped: %s", name, error)
    if skipped:
        _log.warning("%d of %d references were skipped", skipped, skipped + len(made))
    return ReferenceBank.of(made), names
