"""CLIFF: SPIN's regressor that knows where in the whole picture its crop lies, trained with the whole picture's camera.

Li, Liu, Zhang, Xu, Yan, "CLIFF: Carrying Location Information in Full Frames into Human Pose and Shape Estimation",
ECCV 2022, §3.2: the box (cx, cy, b) over the focal length is given to the regressor beside the features, the regressed
weak-perspective camera is carried from the crop to the whole picture, and joints are projected with the picture's own
camera. All of that is in ``PoseBatch.intrinsics`` (:func:`human.camera.crop_ray`), whatever turned, mirrored or scaled
the crop. The loss on 2D joints is that of the whole picture, in units of half the box, so that people near and far
from the camera weigh the same.

The network sees the middle 192 columns of crops of 256 pixels, 1.1 times the box. Backbones: "hrnet_w48" and
"resnet50".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from human.batch import PoseBatch
from human.camera import cliff_box_info, known_intrinsics, weak_to_full_translation
from lightning_modules.base import ESTIMATORS, Regression
from lightning_modules.encoders import with_counters
from lightning_modules.spin import REGRESSOR, SPIN


@ESTIMATORS.register("cliff")
class CLIFF(SPIN):
    """CLIFF.

    Args:
        backbone: any timm model; "hrnet_w48" and "resnet50" are the paper's.
        image_size: side of the crops, pixels: the height that the network sees.
        width: columns that the network sees, from the middle of the crop.
        **spin: see :class:`lightning_modules.spin.SPIN`; ``focal`` is not used, since the camera is the picture's.
            The paper's: ``body: smpl``, ``lr: 1e-4``, Adam.
    """

    crop_convention = "cliff"
    beside = 3

    def __init__(self, backbone: str = "hrnet_w48", image_size: int = 256, width: int = 192, **spin: Any) -> None:
        super().__init__(backbone=backbone, image_size=image_size, width=width, **spin)

    def regress(self, batch: PoseBatch) -> Regression:
        features = self.encode(batch.image)
        box = cliff_box_info(known_intrinsics(batch.intrinsics, self.image_size), self.image_size)
        rotations, betas, weak = self.head(torch.cat([features, box.to(features.dtype)], 1))
        return Regression(rotations, betas, weak, features=features)

    def place(self, weak_B3: Tensor, batch: PoseBatch) -> tuple[Tensor, Tensor]:
        """Before the camera of the whole picture, in pixels of the crop."""
        intrinsics = known_intrinsics(batch.intrinsics, self.image_size)
        return weak_to_full_translation(weak_B3, intrinsics, self.image_size), intrinsics

    @classmethod
    def from_upstream(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """CLIFF's ``model``: ``encoder`` and the regressor."""
        state = {k.removeprefix("module."): v for k, v in state.items()}
        if "encoder.conv1.weight" not in state or "decpose.weight" not in state:
            return None
        return with_counters(
            {
                f"head.{k}" if k.startswith(REGRESSOR) else f"backbone.{k.removeprefix('encoder.')}": v
                for k, v in state.items()
            }
        )
