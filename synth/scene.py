"""What to picture: poses, shapes, cameras and framing, as data for an image engine.

A scene is drawn from one integer per sample and nothing else, so the same seed names the same scene in any process
and any batch. Viewpoints follow Chen et al., "Synthesizing Training Images for Boosting Human 3D Pose Estimation"
(3DV 2016), §3.1; the field of view follows Pose++ (HumanWild), §3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from human.body import BodyModel
from human.errors import PosesynError
from human.joint_limits import clamp_pose
from human.motion import MotionBank
from human.record import Record
from human.rng import generator
from human.rotations import matrix_to_rotvec, rotation_about, rotvec_to_matrix
from human.skeleton import SMPL24

# Joints of body_pose (SMPL24 without the pelvis) that a limb swap moves together.
_ARMS = [
    i - 1 for i, n in enumerate(SMPL24.joints) if any(w in n for w in ("collar", "shoulder", "elbow", "wrist", "hand"))
]
_NEAREST = 0.3  # metres: no joint may come closer to the camera than this
_FRAMING_STEPS = 8


@dataclass(frozen=True)
class SceneSpec(Record):
    """B scenes, each one person before one camera.

    * ``betas`` (B,10), ``body_pose`` (B,23,3) rotation vectors
    * ``global_orient`` (B,3), ``transl`` (B,3) metres: the body in the OpenCV camera frame
    * ``intrinsics`` (B,3,3) pixels of the picture to make
    * ``seed`` (B,) int64: drives what the engine chooses itself (appearance, light, sensor)
    * ``background`` (B,H,W,3) uint8 RGB, or None to let the engine draw one by the seed
    * ``up`` (B,3) unit vector away from the ground of the place that the picture shows, camera frame; None is a level
      camera's (0, -1, 0)
    * ``atlas`` (B,T,T,4) uint8 and ``light`` (B,9,3), or None: the appearance of a real person in the body's texture
      coordinates, and the harmonics of the light it is seen in (:class:`synth.reprojection.ReferenceBank`)
    """

    betas: Tensor
    body_pose: Tensor
    global_orient: Tensor
    transl: Tensor
    intrinsics: Tensor
    seed: Tensor
    background: Tensor | None = None
    up: Tensor | None = None
    atlas: Tensor | None = None
    light: Tensor | None = None


@dataclass(frozen=True)
class SceneConfig:
    """What varies between scenes.

    Angles are degrees, ``(low, high)`` ranges uniform. With ``frontal_probability`` the person faces the camera up to
    ``azimuth_sigma``, as people in photographs mostly do; otherwise the azimuth is uniform. ``fill`` is the longer side
    of the box around the projected joints as a share of the picture's; ``shift`` the box centre's displacement from the
    middle, as a share of the picture's side. ``field_of_view`` is the whole photograph's, of which the crop shows
    1 / ``crop_zoom``; it is narrowed where the person would otherwise be nearer than about ``nearest`` metres.
    """

    beta_clip: float = 2.5
    frontal_probability: float = 0.7
    azimuth_sigma: float = 45.0
    elevation_mean: float = 5.0
    elevation_sigma: float = 15.0
    roll_sigma: float = 15.0
    tumble_probability: float = 0.12
    field_of_view: tuple[float, float] = (25.0, 65.0)
    crop_zoom: tuple[float, float] = (1.0, 3.0)
    nearest: float = 1.5
    fill: tuple[float, float] = (0.65, 0.9)
    shift: float = 0.05
    truncation_probability: float = 0.12
    truncation_fill: tuple[float, float] = (0.9, 1.6)
    truncation_shift: float = 0.3
    swap_arms_probability: float = 0.3
    pose_noise: float = 8.0
    pose_noise_probability: float = 0.7


def sample_scene(
    seeds: Iterable[int],
    motion_bank: MotionBank,
    body: BodyModel,
    size: int,
    config: SceneConfig | None = None,
) -> SceneSpec:
    """Draw one scene per seed.

    Poses come from the bank, mirrored half of the time; with some probability the arms come from another frame
    (limbs are nearly independent: Chen et al. sample them from a Bayesian network) and joints get noise. The camera
    stands mostly before the person (Chen et al.: azimuth with sigma 45 degrees), with normal elevation and roll.

    Args:
        seeds: one integer per sample.
        size: side of the picture in pixels.
    """
    config = config or SceneConfig()
    given = [int(seed) for seed in seeds]
    if not given:
        raise PosesynError("sample_scene was given no seeds: pass at least one integer")
    column = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in _draw(given, motion_bank, config).items()}
    body_pose = clamp_pose(column["body_pose"].float())
    camera = camera_rotation(column["yaw"], column["elevation"], column["roll"])
    orient = matrix_to_rotvec(camera @ rotvec_to_matrix(column["root"].double())).float()
    betas = column["betas"].float()
    with torch.no_grad():
        (joints,) = in_fixed_batches(lambda *p: (body.joints(*p),), betas, body_pose, orient)
    # Limbs that point at the camera make a small box; filling the picture with it would take a camera at arm's length.
    extent = (joints[..., :2].amax(1) - joints[..., :2].amin(1)).amax(1).double()
    widest = 2 * torch.rad2deg(torch.atan(0.5 * extent / (column["fill"] * config.nearest)))
    fov = torch.minimum(column["fov"], widest)
    transl, intrinsics = frame_person(joints, size, fov, column["fill"], column["shift"])
    # Backgrounds are upright photographs: a roll leans the person, not the place.
    elevation = torch.deg2rad(column["elevation"])
    up = torch.stack([torch.zeros_like(elevation), -elevation.cos(), -elevation.sin()], -1).float()
    return SceneSpec(betas, body_pose, orient, transl, intrinsics, column["seed"], up=up)


def in_fixed_batches(
    function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor, size: int = 32
) -> tuple[Tensor, ...]:
    """``function`` of (B,...) tensors, evaluated ``size`` rows at a time, the last rows padded with copies.

    A batched matrix product may round differently with the batch size. At one fixed size it does not, so a sample has
    the same bytes in any batch.
    """
    count = len(inputs[0])
    index = torch.arange(-(-count // size) * size).clamp_max(count - 1)
    parts = [function(*(x[rows] for x in inputs)) for rows in index.split(size)]
    return tuple(torch.cat(column)[:count] for column in zip(*parts, strict=True))


def _draw(seeds: list[int], bank: MotionBank, config: SceneConfig) -> dict[str, np.ndarray]:
    """The scenes' random numbers, each scene's from its own generator; their number is fixed, so a probability changes
    only its effect.
    """
    drawn = [_numbers(generator("scene", seed), len(bank)) for seed in seeds]
    column = {k: np.stack([row[k] for row in drawn]) for k in drawn[0]}
    chance, tilt = column["chance"].T, column["tilt"].T
    poses, roots = bank.sample(column["frame"].ravel(), column["mirror"].ravel() < 0.5)
    pose, other = poses.reshape(-1, 2, 23, 3).astype(np.float64).transpose(1, 0, 2, 3)
    root = roots.reshape(-1, 2, 3)[:, 0].astype(np.float64)
    swapped = np.zeros((len(seeds), 23, 1), bool)
    swapped[:, _ARMS] = (column["swap"] < config.swap_arms_probability)[:, None, None]
    # The spread of the noise varies too: mostly near the data, sometimes far from it.
    spread = np.deg2rad(config.pose_noise) * column["spread"] * (column["noisy"] < config.pose_noise_probability)
    body_pose = np.where(swapped, other, pose) + spread[:, None, None] * column["noise"]
    frontal = column["frontal"] < config.frontal_probability
    near_front = config.azimuth_sigma * column["azimuth"] - _heading(root)
    roll = np.where(chance[0] < config.tumble_probability, _between(-180, 180, chance[1]), config.roll_sigma * tilt[1])
    whole = np.deg2rad(_between(*config.field_of_view, chance[2]))
    least, most = np.log(config.crop_zoom)
    fov = 2 * np.arctan(np.tan(whole / 2) / np.exp(_between(least, most, chance[3])))
    cut = chance[7] < config.truncation_probability
    fill = np.where(cut, _between(*config.truncation_fill, chance[8]), _between(*config.fill, chance[4]))
    reach = np.where(cut, config.truncation_shift, config.shift)[:, None]
    return {
        "yaw": np.where(frontal, near_front, column["yaw"]),
        "elevation": config.elevation_mean + config.elevation_sigma * tilt[0],
        "roll": roll,
        "fov": np.rad2deg(fov),
        "fill": fill,
        "shift": _between(-reach, reach, np.where(cut, chance[9:11], chance[5:7]).T),
        "body_pose": body_pose,
        "root": root,
        "betas": np.clip(column["betas"], -config.beta_clip, config.beta_clip),
        "seed": np.array(seeds, np.int64),
    }


def _numbers(rng: np.random.Generator, poses: int) -> dict[str, Any]:
    """One scene's, in the order that names them."""
    return {
        "frame": rng.integers(poses, size=2),
        "mirror": rng.random(2),
        "swap": rng.random(),
        "spread": rng.gamma(2.0, 0.5),
        "noisy": rng.random(),
        "noise": rng.standard_normal((23, 3)),
        "betas": rng.standard_normal(10),
        "yaw": _between(-180, 180, rng.random()),
        "azimuth": rng.standard_normal(),
        "frontal": rng.random(),
        "tilt": rng.standard_normal(2),
        "chance": rng.random(11),
    }


def _between(low: Any, high: Any, share: Any) -> Any:
    return low + (high - low) * share


def _heading(root_B3: np.ndarray) -> np.ndarray:
    """(B,) degrees by which a root rotation (y up) turns the body's front away from +z, about the vertical."""
    angle = np.sqrt((root_B3 * root_B3).sum(-1))
    x, y, z = root_B3.T / np.maximum(angle, 1e-12)
    c, s = np.cos(angle), np.sin(angle)
    # Rodrigues' formula: where +z goes.
    return np.rad2deg(np.arctan2((1 - c) * x * z + s * y, c + (1 - c) * z * z))


def camera_rotation(yaw_B: Tensor, elevation_B: Tensor, roll_B: Tensor) -> Tensor:
    """(B,3,3) from the y-up world to the camera frame; degrees.

    All zero: the camera is upright and a person who faces the world's +z faces it. Positive elevation puts the camera
    above the person, looking down.
    """
    half_turn = rotation_about("x", torch.full_like(yaw_B, torch.pi))
    yaw, elevation, roll = (torch.deg2rad(a) for a in (yaw_B, elevation_B, roll_B))
    return rotation_about("z", roll) @ rotation_about("x", elevation) @ half_turn @ rotation_about("y", yaw)


def frame_person(
    joints_BJ3: Tensor, size: int, field_of_view_B: Tensor, fill_B: Tensor, shift_B2: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Put a person before the camera so that the projected joints fill a given box.

    Args:
        joints_BJ3: metres, turned into the camera frame but not moved (``transl`` zero).
        size: side of the picture, pixels.
        field_of_view_B: of the picture, degrees.
        fill_B: longer side of the box around the projected joints / side of the picture.
        shift_B2: (x, y) of the box centre from the middle of the picture, as a share of its side; None is centred.
            For a wanted box ``(x0, y0, x1, y1)`` in pixels: fill = max(x1 - x0, y1 - y0) / size,
            shift = ((x0 + x1, y0 + y1) / 2 - (size - 1) / 2) / size.

    Returns:
        transl (B,3) metres and intrinsics (B,3,3) pixels, float32, principal point in the middle. A person so large
        in the picture that a joint would come within 0.3 m of the camera is put further away and fills less.
    """
    joints = joints_BJ3.detach().cpu().double().numpy()
    fill, fov = np.asarray(fill_B, np.float64), np.asarray(field_of_view_B, np.float64)
    if not (np.isfinite(joints).all() and (fill > 0).all() and ((fov > 0) & (fov < 180)).all()):
        raise PosesynError("frame_person needs finite joints, fill > 0 and 0 < field of view < 180 degrees")
    shift = np.zeros((len(joints), 2)) if shift_B2 is None else np.asarray(shift_B2, np.float64)
    focal = 0.5 / np.tan(np.deg2rad(fov) / 2)  # in sides of the picture
    extent = (joints[..., :2].max(1) - joints[..., :2].min(1)).max(1)
    nearest = _NEAREST - joints[..., 2].min(1)
    transl = np.zeros((len(joints), 3))
    transl[:, 2] = np.maximum(focal * extent / fill, nearest)
    for _ in range(_FRAMING_STEPS):
        moved = joints + transl[:, None]
        uv = focal[:, None, None] * moved[..., :2] / moved[..., 2:]
        low, high = uv.min(1), uv.max(1)
        # Size goes as 1 / depth and place as x / depth, nearly: a fixed-point step for each converges in a few rounds.
        transl[:, 2] = np.maximum(transl[:, 2] * (high - low).max(1) / fill, nearest)
        moved = joints + transl[:, None]
        uv = focal[:, None, None] * moved[..., :2] / moved[..., 2:]
        centre = (uv.min(1) + uv.max(1)) / 2
        transl[:, :2] += (shift - centre) * transl[:, 2:] / focal[:, None]
    intrinsics = np.zeros((len(joints), 3, 3))
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal * size
    intrinsics[:, :2, 2] = (size - 1) / 2
    intrinsics[:, 2, 2] = 1
    return torch.from_numpy(transl).float(), torch.from_numpy(intrinsics).float()
