"""The cameras of Human3.6M: calibration files, and the data set's own lens model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from datamodules.readers.files import read_json, read_xml, shaped
from human.errors import PosesynError

Array = npt.NDArray[np.float64]

#: In the order of metadata.xml, which numbers them from 0; 3DMPPE's files number them from 1.
CAMERAS = ("54138969", "55011271", "58860488", "60457274")
#: Where a calibration is looked for below the root: the release's, then github.com/karfly/human36m-camera-parameters.
FILES = ("metadata.xml", "Release-v1.2/metadata.xml", "Release-v1.1/metadata.xml", "camera-parameters.json")


@dataclass(frozen=True)
class Camera:
    """``matrix`` (4,4) world to camera, metres; ``intrinsics`` (3,3) px; ``lens`` k1 k2 p1 p2 k3."""

    matrix: Array
    intrinsics: Array
    lens: Array

    def project(self, points: Array) -> Array:
        """(...,3) metres in the camera's frame to (...,2) px, as the set's D2_Positions are made.

        The release's lens model is not quite OpenCV's: its tangential part is p1 y + p2 x in the factor, and p2 r^2 and
        p1 r^2 beside it. The two differ by up to 0.2 px; this one meets the labels of four pictures to 4e-5 px.
        """
        x, y = np.moveaxis(points[..., :2] / points[..., 2:], -1, 0)
        k1, k2, p1, p2, k3 = self.lens
        r2 = x * x + y * y
        factor = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + p1 * y + p2 * x
        bent = np.stack([x * factor + p2 * r2, y * factor + p1 * r2, np.ones_like(x)], -1)
        return np.asarray((bent @ self.intrinsics.T)[..., :2])


def calibration_file(root: Path) -> Path | None:
    """The first of :data:`FILES` below ``root``."""
    return next((root / name for name in FILES if (root / name).is_file()), None)


def read_cameras(path: Path) -> dict[tuple[int, str], Camera]:
    """Cameras by (subject, serial number).

    ``metadata.xml`` of the release holds numbers in ``<w0>``: (4 cameras, 11 subjects, 6) Euler angles x y z of the
    rotation from world to camera and the camera's place in mm, then (4, 9) f f c c k1 k2 k3 p1 p2.
    ``camera-parameters.json`` has "intrinsics" by camera and "extrinsics" by subject and camera (t in mm).
    """
    return _from_json(path) if path.suffix == ".json" else _from_xml(path)


def _from_xml(path: Path) -> dict[tuple[int, str], Camera]:
    text = (read_xml(path).findtext("w0") or "").strip().strip("[]").replace(",", " ").split()
    numbers = shaped([text], (1, 300), path, "the camera list <w0>")[0]
    extrinsics, intrinsics = numbers[:264].reshape(4, 11, 6), numbers[264:].reshape(4, 9)
    cameras = {}
    for c, name in enumerate(CAMERAS):
        fx, fy, cx, cy, k1, k2, k3, p1, p2 = intrinsics[c]
        for s in range(11):
            turn = Rotation.from_euler("XYZ", extrinsics[c, s, :3]).as_matrix()
            cameras[s + 1, name] = Camera(
                _matrix(turn, -turn @ extrinsics[c, s, 3:] / 1000),
                _pinhole(fx, fy, cx, cy),
                np.array([k1, k2, p1, p2, k3]),
            )
    return cameras


def _from_json(path: Path) -> dict[tuple[int, str], Camera]:
    content = read_json(path)
    cameras = {}
    try:
        for subject, views in content["extrinsics"].items():
            for name, view in views.items():
                inner = content["intrinsics"][name]
                matrix = _matrix(
                    shaped(view["R"], (3, 3), path, "R"), shaped(view["t"], (3, 1), path, "t")[:, 0] / 1000
                )
                cameras[int(subject.removeprefix("S")), name] = Camera(
                    matrix,
                    shaped(inner["calibration_matrix"], (3, 3), path, "calibration_matrix"),
                    shaped(inner["distortion"], (5,), path, "distortion"),
                )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PosesynError(
            f"{path} holds no cameras of Human3.6M ({type(error).__name__}: {error}): get it again"
        ) from None
    return cameras


def from_3dmppe(view: Mapping[str, Any], path: Path) -> Camera:
    """A camera of 3DMPPE's JSON: R, t (mm), f, c; its pictures' lens is not modelled."""
    try:
        turn, place = shaped(view["R"], (3, 3), path, "R"), np.ravel(view["t"]).astype(np.float64)
        fx, fy, cx, cy = np.concatenate([np.ravel(view["f"]), np.ravel(view["c"])]).astype(np.float64)
        return Camera(_matrix(turn, place / 1000), _pinhole(fx, fy, cx, cy), np.zeros(5))
    except (KeyError, TypeError, ValueError) as error:
        raise PosesynError(f"{path} holds a damaged camera ({type(error).__name__}: {error}): get it again") from None


def _matrix(turn: Array, place: Array) -> Array:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, place
    return matrix


def _pinhole(fx: float, fy: float, cx: float, cy: float) -> Array:
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
