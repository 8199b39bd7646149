"""RTMPose (Jiang et al., arXiv 2303.07399) by rtmlib, which runs its ONNX files without MMPose."""

from __future__ import annotations

import contextlib
import io
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from human.blazepose import Picture
from human.crop import Array
from human.errors import PosesynError
from human.keypoints.base import COUNT, KEYPOINT_DETECTORS, KeypointDetector, People
from human.skeleton import COCO17


@KEYPOINT_DETECTORS.register("rtmpose")
class RTMPoseKeypoints(KeypointDetector):
    """Looks at the box of each person.

    Args:
        weights: an ``.onnx`` file of RTMPose's model zoo whose first 17 points are COCO's: body (17 points), body with
            feet (Halpe, 26) or whole body (133).
        input_size: (width, height) px that the file was made for: (192, 256) or (288, 384).
        device: "cpu", "cuda", "cuda:1", "mps" or "rocm", as onnxruntime is installed.
    """

    name: ClassVar[str] = "rtmpose"

    def __init__(self, weights: str, input_size: tuple[int, int] = (192, 256), device: str = "cpu") -> None:
        if len(input_size) != 2 or min(input_size) < 1:
            raise PosesynError(f"rtmpose: input_size is (width, height) in pixels, got {input_size}")
        self.weights = Path(weights).expanduser().absolute()
        self.input_size, self.device = (int(input_size[0]), int(input_size[1])), device

    def config(self) -> dict[str, Any]:
        # The file by name: the zoo's names carry size, data and a hash.
        return {"name": self.name, "version": 1, "weights": self.weights.name, "input_size": list(self.input_size)}

    @cached_property
    def _loaded(self) -> Any:
        try:
            from rtmlib import RTMPose
        except ImportError as error:
            raise PosesynError(
                f"the keypoint detector rtmpose needs rtmlib and onnxruntime ({error}): run `pip install onnxruntime` "
                "and `pip install --no-deps rtmlib` (its own dependencies would replace opencv-python-headless)"
            ) from error
        if not self.weights.is_file():  # rtmlib would take the path for an address
            raise PosesynError(
                f"rtmpose: there is no file {self.weights}: get an .onnx of RTMPose's model zoo (mmpose, "
                "projects/rtmpose; 14 to 250 MB) and name it in `weights`"
            )
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it announces what it loads
                return RTMPose(str(self.weights), self.input_size, backend="onnxruntime", device=self.device)
        except Exception as error:  # onnxruntime has a type of its own for each way a file can be wrong
            raise PosesynError(
                f"rtmpose: {self.weights} cannot be run on {self.device!r} ({type(error).__name__}: "
                f"{str(error).splitlines()[0][:200]})"
            ) from error

    def _look(self, pictures: list[Picture], boxes: list[Array], hints: list[Array]) -> list[People]:
        network, out = self._loaded, []
        for picture, table in zip(pictures, boxes, strict=True):
            # rtmlib leaves the channels' order to us; its means are RGB's, as the networks were trained.
            points, conf = network(picture, table)
            if points.shape[1] < COUNT:
                raise PosesynError(f"rtmpose: {self.weights.name} has {points.shape[1]} points, fewer than COCO's 17")
            points, conf = points[:, :COUNT], conf[:, :COUNT]
            out.append(People.named(points, conf, conf.mean(1), COCO17.joints))
        return out
