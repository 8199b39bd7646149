"""What other image engines are told about a scene: depth, normals, body parts, masks, visibility, key points, drawings.

    seen = draw_conditions(body, vertices, joints, intrinsics, (H, W))     # all from one rasterisation
    control = openpose_drawing(seen.coco2d, seen.coco_visible, (H, W))     # for an OpenPose ControlNet
    control = depth_picture(seen.depth)                                    # for a depth ControlNet

Positions are metres in the OpenCV camera frame, pixels have integer centres. See docs/conditions.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from human.body import BodyModel
from human.camera import project
from human.errors import PosesynError
from human.raster import NEAR, interpolate, rasterise, vertex_normals
from human.record import Record
from human.skeleton import COCO17, POSE32, SMPL24, convert

#: Joints that lie on the skin: nothing of their own is before them, up to this many metres.
_ON_SKIN = {"nose": 0.03, "left_eye": 0.03, "right_eye": 0.03, "left_ear": 0.04, "right_ear": 0.04, "head_top": 0.08}
_FARTHEST_OWN = 0.2  # metres: no joint lies deeper in its own part
_THINNEST = 0.03
OWN_SLACK = 2.0
#: OpenPose's COCO-18 order, by COCO-17 name; the neck is the middle of the shoulders.
_OPENPOSE = """nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee
right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear"""
#: Limbs and colours of OpenPose's drawing, as the ControlNet annotators make it.
_LIMBS = """1-2 1-5 2-3 3-4 5-6 6-7 1-8 8-9 9-10 1-11 11-12 12-13 1-0 0-14 14-16 0-15 15-17"""
_COLOURS = """255,0,0 255,85,0 255,170,0 255,255,0 170,255,0 85,255,0 0,255,0 0,255,85 0,255,170 0,255,255 0,170,255
0,85,255 0,0,255 85,0,255 170,0,255 255,0,255 255,0,170 255,0,85"""
_LIMB_SHADE = 0.6


@dataclass(frozen=True)
class Conditions(Record):
    """What B pictures of one body each show.

    * ``depth`` (B,H,W) metres along the camera's axis, 0 where there is no body
    * ``normals`` (B,H,W,3) unit, camera frame, 0 where there is no body
    * ``parts`` (B,H,W) uint8: 0 none, else 1 + the SMPL joint that the surface follows most
    * ``mask`` (B,H,W) bool
    * ``joints2d`` (B,32,2) pixels and ``visible`` (B,32) bool: POSE32, see :func:`joint_visibility`
    * ``coco2d`` (B,17,2), ``coco_visible`` (B,17): where COCO's annotators would click, if the body has that regressor
    """

    depth: Tensor
    normals: Tensor
    parts: Tensor
    mask: Tensor
    joints2d: Tensor
    visible: Tensor
    coco2d: Tensor
    coco_visible: Tensor


def draw_conditions(
    body: BodyModel,
    vertices_BV3: Tensor,
    joints_B32x3: Tensor,
    intrinsics_B33: Tensor,
    size: tuple[int, int],
    hidden_BHW: Tensor | None = None,
    backend: str = "warp",
) -> Conditions:
    """Everything at once, on the vertices' device.

    Args:
        body: the model that made the vertices, on any device.
        vertices_BV3, joints_B32x3: ``body(...)``'s output in the camera frame, metres.
        size: (height, width) in pixels.
        hidden_BHW: bool, where an object stands before the body: joints there are not visible. The maps show the body
            as if it were not there; combine them with ``~hidden`` where the object should show.
        backend: of :func:`human.raster.rasterise`.
    """
    device = vertices_BV3.device
    if vertices_BV3.ndim != 3 or vertices_BV3.shape[1] != len(body.v_template):
        raise PosesynError(
            f"draw_conditions: vertices are {tuple(vertices_BV3.shape)}; this body needs (B, {len(body.v_template)}, 3)"
        )
    faces = body.faces.to(device, torch.int32)
    frags = rasterise(vertices_BV3, faces, intrinsics_B33, size, backend)
    normals = interpolate(frags, faces, vertex_normals(vertices_BV3, faces))
    normals = normals / normals.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    corner = frags.bary.argmax(-1, keepdim=True)
    vertex = faces[frags.face.clamp_min(0).long()].gather(-1, corner)[..., 0].long()
    parts = torch.where(frags.mask, body.part.to(device)[vertex] + 1, 0).to(torch.uint8)

    reach, own = own_thickness(body).to(device), own_parts().to(device)
    joints2d = project(joints_B32x3, intrinsics_B33)
    visible = joint_visibility(joints_B32x3, intrinsics_B33, frags.depth, reach, hidden_BHW, parts, own)
    order = [POSE32.index(name) for name in COCO17.joints]
    if "coco17" in body.regressor_names:
        regressor = body.get_buffer("coco17_index").to(device), body.get_buffer("coco17_weight").to(device)
        coco = (vertices_BV3[:, regressor[0]] * regressor[1][..., None]).sum(2)
        coco2d = project(coco, intrinsics_B33)
        coco_visible = joint_visibility(coco, intrinsics_B33, frags.depth, reach[order], hidden_BHW, parts, own[order])
    else:
        coco2d, coco_visible = (x for x in convert(joints2d, visible, "pose32", "coco17"))
    return Conditions(frags.depth, normals, parts, frags.mask, joints2d, visible, coco2d, coco_visible)


def joint_visibility(
    joints_BJ3: Tensor,
    intrinsics_B33: Tensor,
    depth_BHW: Tensor,
    thickness_J: Tensor,
    hidden_BHW: Tensor | None = None,
    parts_BHW: Tensor | None = None,
    own_JP: Tensor | None = None,
) -> Tensor:
    """(B,J) bool: a joint is visible when a photograph would show the place on the skin that an annotator clicks.

    It projects into the picture; no object hides that pixel; and no surface there is nearer than the joint by more than
    ``thickness``: joints lie inside the limb, so the limb's own skin is before them by about that.

    Args:
        thickness_J: metres.
        hidden_BHW: bool, where an object stands before the body.
        parts_BHW, own_JP: which part (0 none) each pixel shows, and which parts (J, 25) bool surround each joint. Skin
            of those may be :data:`OWN_SLACK` times as far before the joint: limbs are seen aslant, and people vary.
    """
    height, width = depth_BHW.shape[1:]
    at = project(joints_BJ3, intrinsics_B33).round()
    inside = (joints_BJ3[..., 2] > NEAR) & (at >= 0).all(-1) & (at[..., 0] < width) & (at[..., 1] < height)
    pixel = torch.where(inside, at[..., 1] * width + at[..., 0], 0.0).long()
    seen = depth_BHW.flatten(1).gather(1, pixel)
    slack = thickness_J.expand(seen.shape)
    if parts_BHW is not None and own_JP is not None:
        part = parts_BHW.flatten(1).gather(1, pixel).long()
        own = own_JP[torch.arange(own_JP.shape[0], device=part.device), part]
        slack = torch.where(own, OWN_SLACK * slack, slack)
    clear = (seen == 0) | (seen >= joints_BJ3[..., 2] - slack)
    if hidden_BHW is not None:
        clear = clear & ~hidden_BHW.flatten(1).gather(1, pixel)
    return inside & clear


def own_parts() -> Tensor:
    """(32,25) bool: the parts (column 1 + SMPL joint; 0 is none) whose skin surrounds each POSE32 joint.

    A joint's own part and its neighbours along the tree; for the trunk's joints the whole trunk. A joint on the skin
    has none: the head hides the nose from behind.
    """
    own = torch.zeros(len(POSE32), 1 + len(SMPL24), dtype=torch.bool)
    trunk = [i for i, n in enumerate(SMPL24.joints) if n in ("pelvis", "left_hip", "right_hip") or "spine" in n]
    trunk += SMPL24.indices("left_collar", "right_collar")
    for j, name in enumerate(POSE32.joints):
        if name in _ON_SKIN:
            continue
        near = [j, POSE32.parents[j], *(c for c, p in enumerate(POSE32.parents) if p == j)]
        near = near + trunk if j in trunk or name == "thorax" else near
        near = [*near, SMPL24.index("head")] if name == "upper_neck" else near  # behind the chin
        own[j, [1 + k for k in near if 0 <= k < len(SMPL24)]] = True
    return own


def own_thickness(body: BodyModel) -> Tensor:
    """(32,) metres: how far before each POSE32 joint its own part's skin may lie, from the mean body at rest.

    Rays leave the joint across its bone; the median way out, with a third to spare for other shapes and bent limbs.
    """
    known = getattr(body, "_own_thickness", None)
    if known is None:
        known = _measure_thickness(body)
        object.__setattr__(body, "_own_thickness", known)  # a cache, not a buffer: it does not move with the body
    return known


def _measure_thickness(body: BodyModel) -> Tensor:
    with torch.no_grad():
        like = body.v_template
        rest = body(like.new_zeros(1, body.num_betas), like.new_zeros(1, 23, 3), like.new_zeros(1, 3))
    vertices, joints = (x[0].double().cpu().numpy() for x in (rest.vertices, rest.joints))
    corners = vertices[body.faces.cpu().numpy()]
    children: dict[int, int] = {}
    for child, parent in enumerate(POSE32.parents[: len(SMPL24)]):
        children.setdefault(parent, child)
    out = []
    for j, name in enumerate(POSE32.joints):
        if name in _ON_SKIN:
            out.append(_ON_SKIN[name])
            continue
        other = children.get(j, POSE32.parents[j]) if j < len(SMPL24) else POSE32.index("head")
        bone = joints[other if other >= 0 else 3] - joints[j]
        near = corners[np.linalg.norm(corners.mean(1) - joints[j], axis=1) < 0.4]
        distance = _ways_out(joints[j], bone / np.linalg.norm(bone), near)
        thickness = 1.33 * float(np.median(distance)) + 0.01 if len(distance) else 0.05
        out.append(min(max(thickness, _THINNEST), _FARTHEST_OWN))
    return torch.tensor(out, dtype=torch.float32)


def _ways_out(origin_3: np.ndarray, axis_3: np.ndarray, triangles_F33: np.ndarray, rays: int = 24) -> np.ndarray:
    """First distance to a triangle along rays across ``axis``; rays that meet none are left out (Moller & Trumbore)."""
    aside = np.cross(axis_3, np.eye(3)[np.argmin(np.abs(axis_3))])
    aside /= np.linalg.norm(aside)
    turn = np.arange(rays) * 2 * math.pi / rays
    towards = np.cos(turn)[:, None] * aside + np.sin(turn)[:, None] * np.cross(axis_3, aside)
    e1, e2 = triangles_F33[:, 1] - triangles_F33[:, 0], triangles_F33[:, 2] - triangles_F33[:, 0]
    s = origin_3 - triangles_F33[:, 0]
    across = np.cross(towards[:, None], e2)
    det = (across * e1).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        u = (s * across).sum(-1) / det
        q = np.cross(s, e1)
        v = (towards @ q.T) / det
        t = (e2 * q).sum(-1) / det
    hit = np.isfinite(t) & (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 1e-4)
    first = np.where(hit, t, np.inf).min(1)
    return first[np.isfinite(first)]


def heat_maps(joints2d_BJ2: Tensor, conf_BJ: Tensor, size: tuple[int, int], sigma: float = 2.0) -> Tensor:
    """(B,J,H,W) float32: a Gaussian of peak ``conf`` at each joint, ``sigma`` pixels wide; 0 beyond three sigma."""
    if sigma <= 0:
        raise PosesynError(f"heat_maps: sigma is {sigma}; give a positive number of pixels")
    height, width = size
    x, y = joints2d_BJ2.nan_to_num(-1e6).float().unbind(-1)
    columns = torch.arange(width, device=x.device) - x[..., None]
    rows = torch.arange(height, device=x.device) - y[..., None]
    wide, tall = (torch.where(d.abs() <= 3 * sigma, torch.exp(d * d / (-2 * sigma**2)), 0.0) for d in (columns, rows))
    return conf_BJ.float()[..., None, None] * tall[..., :, None] * wide[..., None, :]


def depth_picture(depth_BHW: Tensor, floor: float = 0.25) -> Tensor:
    """(B,H,W) uint8 as depth ControlNets want it: inverse depth, the nearest point 255, no body 0.

    The farthest point of the body shows ``floor`` of full scale, so that it stands out from nothing.
    """
    inverse = torch.where(depth_BHW > 0, 1 / depth_BHW.clamp_min(1e-6), 0.0)
    covered = depth_BHW > 0
    near = inverse.amax((1, 2), keepdim=True)
    far = torch.where(covered, inverse, torch.inf).amin((1, 2), keepdim=True)
    share = (inverse - far) / (near - far).clamp_min(1e-9)
    level = torch.where(covered, floor + (1 - floor) * share, 0.0)
    return (255 * level + 0.5).clamp(0, 255).to(torch.uint8)


def openpose_drawing(
    coco2d_B17x2: Tensor, conf_B17: Tensor, size: tuple[int, int], width: int = 4, threshold: float = 0.3
) -> Tensor:
    """(B,H,W,3) uint8 RGB: the skeleton that OpenPose ControlNets were trained on (COCO-18, black ground).

    Args:
        coco2d_B17x2: pixels, COCO-17 order. The neck is drawn in the middle of the shoulders.
        conf_B17: joints below ``threshold`` are left out, and so are their limbs. Pass visibility, or all ones to draw
            hidden joints as well, as ControlNets accept.
        width: half the width of a limb and the radius of a joint, pixels; 4 for a 512 px picture.
    """
    points, conf = coco2d_B17x2.detach().cpu().double().numpy(), conf_B17.detach().cpu().float().numpy()
    order = [COCO17.index(n) if n != "neck" else 0 for n in _OPENPOSE.split()]
    shoulders = COCO17.indices("left_shoulder", "right_shoulder")
    limbs = [tuple(int(i) for i in pair.split("-")) for pair in _LIMBS.split()]
    colours = [tuple(int(v) for v in c.split(",")) for c in _COLOURS.split()]
    pictures = np.zeros((len(points), *size, 3), np.uint8)
    for picture, all_xy, all_conf in zip(pictures, points, conf, strict=True):
        xy, shown = all_xy[order], all_conf[order] >= threshold
        xy[1], shown[1] = all_xy[shoulders].mean(0), (all_conf[shoulders] >= threshold).all()
        shown &= np.isfinite(xy).all(1)
        # Far beyond the picture OpenCV's fixed-point drawing overflows.
        shown &= (np.abs(np.where(shown[:, None], xy, 0)) < 16 * max(size)).all(1)
        for (a, b), colour in zip(limbs, colours, strict=False):
            if shown[a] and shown[b]:
                middle, (dx, dy) = (xy[a] + xy[b]) / 2, xy[a] - xy[b]
                axes = (int(math.hypot(dx, dy) / 2), width)
                angle = int(math.degrees(math.atan2(dy, dx)))
                outline = cv2.ellipse2Poly((int(middle[0]), int(middle[1])), axes, angle, 0, 360, 1)
                cv2.fillConvexPoly(picture, np.asarray(outline), [int(_LIMB_SHADE * c) for c in colour])
        for (x, y), on, colour in zip(xy, shown, colours, strict=True):
            if on:
                cv2.circle(picture, (int(x), int(y)), width, colour, thickness=-1)
    return torch.from_numpy(pictures).to(coco2d_B17x2.device)
