"""The body's surface as a canvas: per-vertex coordinates in which garments, hair and a face are simple inequalities.

All coordinates come from the mean body at rest, so that paint sticks to the skin whatever the shape and the pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from human.body import BodyModel
from human.skeleton import POSE32

#: x, y, z: rest position, metres. reach: along the arm, 0 shoulder, 1 elbow, 2 wrist, 3 fingertips; negative towards
#: the neck, -2 below the armpits. level: -3 sole, -2 ankle, -1 knee, 0 hip, 1 neck, 2 crown. hair: metres above the
#: hairline, negative on face and neck.
FIELDS = ("x", "y", "z", "reach", "level", "hair")
_ARM_JOINTS = ("shoulder", "elbow", "wrist", "hand")


@dataclass(frozen=True)
class Points:
    """N points of the surface; every attribute is (N,) float32, see :data:`FIELDS`."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    reach: np.ndarray
    level: np.ndarray
    hair: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: np.ndarray) -> Points:
        return Points(*(getattr(self, f)[index] for f in FIELDS))


class BodySurface:
    """Rest-pose fields of a body model.

    Attributes:
        faces: (F,3) int32 tensor.
        vertices: :class:`Points`, one per vertex.
        joints: rest position (x, y, z) of each POSE32 joint by name, metres.
        eye_distance: metres between the eyes, the unit in which the face is drawn.
    """

    def __init__(self, body: BodyModel) -> None:
        with torch.no_grad():
            rest = body(torch.zeros(1, 10), torch.zeros(1, 23, 3), torch.zeros(1, 3), None)
        vertices = rest.vertices[0].numpy().astype(np.float32)
        # Python floats: numpy's float64 scalars would turn every float32 array they meet into float64.
        self.joints = {n: tuple(float(v) for v in p) for n, p in zip(POSE32.joints, rest.joints[0], strict=True)}
        self.faces = body.faces.to(torch.int32).contiguous()
        self.eye_distance = float(np.linalg.norm(np.subtract(self.joints["left_eye"], self.joints["right_eye"])))
        arm = np.array([any(w in name for w in _ARM_JOINTS) for name in POSE32.joints[:24]])
        arm_weight = body.weights.numpy()[:, arm].sum(1)
        self._arm = arm
        self._low, self._high = vertices.min(0), np.abs(vertices).max(0)
        self._high[1] = vertices[:, 1].max()
        self.vertices = self._points(vertices, arm_weight)
        self._faces = self.faces.numpy()
        columns = np.stack([getattr(self.vertices, f) for f in FIELDS], 1)
        self._corners = np.ascontiguousarray(columns[self._faces])  # (F,3,C): one cache line per face

    def around(self, vertices_N3: np.ndarray, weights_N24: np.ndarray) -> Points:
        """The fields of other rest-pose points about the body, such as those of clothes.

        Args:
            vertices_N3: metres.
            weights_N24: skinning weights: how much of each point belongs to the arms.
        """
        return self._points(vertices_N3.astype(np.float32), weights_N24[:, self._arm].sum(1))

    def _points(self, vertices: np.ndarray, arm_weight: np.ndarray) -> Points:
        x, y, z = vertices.T.copy()
        return Points(x, y, z, self._reach(vertices, arm_weight), self._level(y), self._hair(vertices))

    def at(self, face_N: np.ndarray, bary_N3: np.ndarray) -> Points:
        """The fields at points given by face and barycentrics."""
        values = np.einsum("nkc,nk->cn", self._corners[face_N], bary_N3)
        return Points(*np.ascontiguousarray(values))

    def interpolate(self, values_VC: np.ndarray, face_N: np.ndarray, bary_N3: np.ndarray) -> np.ndarray:
        """(C,N) of any per-vertex values at such points."""
        return np.ascontiguousarray(np.einsum("nkc,nk->cn", values_VC.take(self._faces.take(face_N, 0), 0), bary_N3))

    def _reach(self, vertices: np.ndarray, arm_weight: np.ndarray) -> np.ndarray:
        shoulder, elbow, wrist = (abs(self.joints[f"left_{n}"][0]) for n in ("shoulder", "elbow", "wrist"))
        x = np.abs(vertices[:, 0])
        tip = self._high[0]
        inward = (x - shoulder) / (elbow - shoulder)
        outward = np.interp(x, [shoulder, elbow, wrist, tip], [0.0, 1.0, 2.0, 3.0])
        reach = np.where(x < shoulder, inward, outward)
        # On the trunk the coordinate fades out from armpit height down, so that a sleeve cannot start at the waist.
        below = np.clip((self.joints["left_shoulder"][1] - 0.10 - vertices[:, 1]) / 0.08, 0, 1)
        return (reach - (2 + reach) * np.where(arm_weight > 0.5, 0, below)).astype(np.float32)

    def _level(self, y: np.ndarray) -> np.ndarray:
        heights = [float(self._low[1])] + [self.joints[n][1] for n in ("left_ankle", "left_knee", "left_hip", "neck")]
        return np.interp(y, [*heights, float(self._high[1])], [-3, -2, -1, 0, 1, 2]).astype(np.float32)

    def _hair(self, vertices: np.ndarray) -> np.ndarray:
        eye, ear = self.joints["left_eye"], self.joints["left_ear"]
        crown, unit = self._high[1], self.eye_distance
        # Height of the hairline over depth: nape, behind the ear, temple, forehead.
        line = np.interp(
            vertices[:, 2],
            [ear[2] - 1.2 * unit, ear[2] - 0.25 * unit, ear[2] + 0.35 * unit, eye[2] - 0.1 * unit],
            [eye[1] - 1.4 * unit, eye[1] - 0.4 * unit, eye[1] + 0.5 * unit, eye[1] + 0.55 * (crown - eye[1])],
        )
        near_head = np.abs(vertices[:, 0]) < 3 * unit
        return np.where(near_head, vertices[:, 1] - line, -1.0).astype(np.float32)
