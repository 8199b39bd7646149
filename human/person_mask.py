"""Which pixels are people: MediaPipe's selfie segmentation, 250 kB that come with BlazePose's networks.

It tells people from everything else, not one from another, in any pose. Made for somebody near the camera, it takes
a large smooth thing for a person now and then.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from human.blazepose import Network, Picture, weights

_SIZE = 256


class PersonMask:
    """``threads``: CPU threads of the network."""

    def __init__(self, threads: int = 1) -> None:
        self._network = Network(weights() / "selfie_segmentation" / "selfie_segmentation.tflite", threads)

    def __call__(self, image_HWC: Picture) -> npt.NDArray[np.float32]:
        """(H,W) how surely each pixel is of a person, 0 to 1."""
        height, width = image_HWC.shape[:2]
        small = cv2.resize(image_HWC, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)
        (mask,) = self._network(small[None], (1,))
        return cv2.resize(mask.reshape(_SIZE, _SIZE), (width, height)).clip(0, 1).astype(np.float32)
