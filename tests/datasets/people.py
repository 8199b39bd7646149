"""Persons whose truth is known exactly, for tiny instances of data sets: moving bodies before calibrated cameras.

The bodies are files in SMPL's (or SMPL-X's) official format (fixture ``body_files``), one for each gender, so that a
reader and a protocol are tested through the same code as with real files.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from callbacks.overlay import draw_people
from human.body import BodyModel, load_body
from human.motion import load_motion_bank
from human.regressors import FILES
from tests.licensed_files import body_arrays, npz, official_smpl

Array = np.ndarray
GENDERS = ("neutral", "male", "female")


def write_bodies(folder: Path) -> Path:
    """SMPL and SMPL-X files of each gender, in smplx's layout, and ``J_regressor_h36m.npy`` for SMPL's mesh."""
    for gender in GENDERS:
        official_smpl(folder / "smpl" / f"SMPL_{gender.upper()}.pkl", gender)
        npz(folder / "smplx" / f"SMPLX_{gender.upper()}.npz", "smplx", gender)
    np.save(folder / FILES["h36m"].file, h36m_rows())
    (folder / FILES["j19"].file).write_bytes(pickle.dumps(j19_rows(), 2))
    return folder


def h36m_rows() -> Array:
    """(17, 6890) float64, rows in the official order: near SMPL's kinematic joints, not at them, as the real ones."""
    near = (0, 1, 4, 7, 2, 5, 8, 6, 12, 15, 15, 16, 18, 20, 17, 19, 21)  # SMPL's joint beside each row
    return _rows_near(near, tops=(10,), forward=0.01)


def j19_rows() -> Array:
    """(19, 6890) float64 in the order of 4D-Humans' file, likewise, and not those of :func:`h36m_rows`."""
    near = (8, 5, 2, 1, 4, 7, 21, 19, 17, 16, 18, 20, 12, 15, 0, 12, 6, 15, 15)
    return _rows_near(near, tops=(13, 18), forward=-0.012)


def _rows_near(near: tuple[int, ...], tops: tuple[int, ...], forward: float) -> Array:
    """Rows of 30 vertices about SMPL's joints, those in ``tops`` above them."""
    template, rest = body_arrays("smpl")["v_template"], body_arrays("smpl")["J"]
    rows = np.zeros((len(near), len(template)))
    for row, joint in enumerate(near):
        goal = rest[joint] + [0.0, 0.12 * (row in tops), forward]
        chosen = np.argsort(np.linalg.norm(template - goal, axis=1))[:30]
        rows[row, chosen] = 1 / 30
    return rows


@dataclass(frozen=True)
class People:
    """P persons in F frames before C cameras.

    World: metres, y up. ``global_orient`` (P,F,3), ``body_pose`` (P,F,23,3), ``transl`` (P,F,3) and ``betas`` (P,10)
    are what the body of ``kind`` and gender takes to stand in the world. ``world_to_camera`` (C,F,4,4), OpenCV
    cameras; ``intrinsics`` (C,3,3) px for pictures of ``size`` (width, height).
    """

    kind: str
    genders: tuple[str, ...]
    betas: Array
    global_orient: Array
    body_pose: Array
    transl: Array
    world_to_camera: Array
    intrinsics: Array
    size: tuple[int, int]

    @property
    def frames(self) -> int:
        return self.transl.shape[1]

    def body(self, person: int) -> BodyModel:
        """float64."""
        gender = self.genders[person]
        return _body(self.kind if gender == "neutral" else f"{self.kind}_{gender}")

    @cached_property
    def _world(self) -> list[tuple[Array, Array]]:
        out = []
        for p in range(len(self.genders)):
            arguments = (self.body_pose[p], self.global_orient[p], self.transl[p])
            betas = np.broadcast_to(self.betas[p], (self.frames, 10)).copy()
            with torch.no_grad():
                posed = self.body(p)(torch.from_numpy(betas), *map(torch.from_numpy, arguments))
            out.append((posed.vertices.numpy(), posed.joints.numpy()))
        return out

    def world_joints(self, person: int) -> Array:
        """(F,32,3) metres; the first 24 are SMPL's kinematic joints."""
        return self._world[person][1]

    def world_vertices(self, person: int) -> Array:
        return self._world[person][0]

    def to_camera(self, camera: int, points_FN3: Array) -> Array:
        matrix = self.world_to_camera[camera]
        return np.einsum("fij,fnj->fni", matrix[:, :3, :3], points_FN3) + matrix[:, None, :3, 3]

    def joints(self, camera: int, person: int) -> Array:
        """(F,32,3) metres in the camera's frame."""
        return self.to_camera(camera, self.world_joints(person))

    def vertices(self, camera: int, person: int) -> Array:
        return self.to_camera(camera, self.world_vertices(person))

    def project(self, camera: int, points_FN3: Array) -> Array:
        """Camera frame to px."""
        homogeneous = points_FN3 @ self.intrinsics[camera].T
        return homogeneous[..., :2] / homogeneous[..., 2:]

    def pixels(self, camera: int, person: int) -> Array:
        """(F,32,2) px."""
        return self.project(camera, self.joints(camera, person))

    def camera_orient(self, camera: int, person: int) -> Array:
        """(F,3) rotation vectors: the root in the camera's frame."""
        turn = Rotation.from_matrix(self.world_to_camera[camera, :, :3, :3])
        return (turn * Rotation.from_rotvec(self.global_orient[person])).as_rotvec()

    def camera_transl(self, camera: int, person: int) -> Array:
        """(F,3) what the body takes with :meth:`camera_orient`: the body turns about its pelvis, not the origin."""
        zero = torch.zeros(1, 23, 3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)
        with torch.no_grad():
            rest = self.body(person)(torch.from_numpy(self.betas[person : person + 1]), *zero).joints[0, 0].numpy()
        return self.joints(camera, person)[:, 0] - rest

    def picture(self, camera: int, frame: int) -> Array:
        """(H,W,3) uint8 RGB: the persons as free bodies on grey, for looking at and decoding."""
        free = load_body("free")
        vertices, depth = [], []
        for p in range(len(self.genders)):
            arguments = self.body_pose[p, frame], self.camera_orient(camera, p)[frame]
            posed = free(torch.zeros(1, 10), *(torch.from_numpy(a)[None].float() for a in arguments))
            pelvis = torch.from_numpy(self.joints(camera, p)[frame, 0]).float()
            vertices.append(posed.vertices[0] - posed.joints[0, 0] + pelvis)
            depth.append(pelvis[2])
        cameras = torch.from_numpy(self.intrinsics[camera]).float().expand(len(vertices), 3, 3)
        grey = np.full((*self.size[::-1], 3), 120, np.uint8)
        return draw_people(grey, torch.stack(vertices), free.faces, cameras, torch.stack(depth), max(self.size))


_BODIES: dict[str, BodyModel] = {}


def _body(name: str) -> BodyModel:
    if name not in _BODIES:
        _BODIES[name] = load_body(name).double()
    return _BODIES[name]


def make_people(
    genders: tuple[str, ...] = ("male", "female"),
    frames: int = 3,
    cameras: int = 1,
    size: tuple[int, int] = (320, 240),
    kind: str = "smpl",
    seed: int = 0,
    moving_camera: bool = False,
) -> People:
    """Persons 0.7 m apart, poses of real motion, 3 to 5 m before cameras that are turned, tilted and rolled.

    kind: "smpl" or "smplx" with the fixture ``body_files``, or "free" with genders ("neutral", ...).
    """
    rng = np.random.default_rng(seed)
    bank, count = load_motion_bank(), len(genders)
    start = rng.integers(0, len(bank) - 4 * frames, count)
    poses = [bank.sample(s + 4 * np.arange(frames)) for s in start]
    body_pose = np.stack([np.asarray(p[0], np.float64).reshape(frames, 23, 3) for p in poses])
    if kind != "free":
        body_pose[:, :, 21:] = 0  # the hands: SMPL-X has fingers instead
    yaw = rng.uniform(-np.pi, np.pi, count)
    global_orient = np.stack(
        [Rotation.from_euler("yxz", [[y + 0.1 * f, 0.1, 0.05 * f] for f in range(frames)]).as_rotvec() for y in yaw]
    )
    along = np.arange(frames)[None, :, None]
    place = np.stack(
        [0.7 * (np.arange(count) - (count - 1) / 2), np.full(count, 1.0), rng.uniform(-0.3, 0.3, count)], 1
    )
    transl = place[:, None] + along * rng.uniform(-0.03, 0.03, (count, 1, 3))
    world_to_camera = np.tile(np.eye(4), (cameras, frames, 1, 1))
    for c in range(cameras):
        for f in range(frames):
            drift = 0.05 * f * moving_camera
            # The camera looks along its z at the persons; y and z of the world point against the camera's.
            turn = Rotation.from_euler(
                "zxy", [0.05 + drift, 0.15 - drift, 2 * np.pi * c / max(cameras, 1) + 0.3 + drift]
            )
            matrix = (turn * Rotation.from_euler("x", np.pi)).as_matrix()
            world_to_camera[c, f, :3, :3] = matrix
            world_to_camera[c, f, :3, 3] = [0.05, -0.1, 3.6 + 0.3 * c] - matrix @ [0.0, 1.0, 0.0]
    focal = 1.1 * max(size)
    intrinsics = np.array([[focal, 0, size[0] / 2 + 3], [0, focal * 1.01, size[1] / 2 - 2], [0, 0, 1]])
    return People(
        kind=kind,
        genders=genders,
        betas=rng.normal(0, 0.8, (count, 10)),
        global_orient=global_orient,
        body_pose=body_pose,
        transl=transl,
        world_to_camera=world_to_camera,
        intrinsics=np.tile(intrinsics, (cameras, 1, 1)),
        size=size,
    )
