"""Pseudo-labels from another estimator: its 2D joints, trusted where it says the same of the mirrored picture."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from human.batch import PoseBatch
from human.blazepose import Picture, invert_affine
from human.camera import guess_intrinsics
from human.checkpoints import packaged_file
from human.crop import crop_affine, square_box, transform_intrinsics, transform_points, warp_image
from human.crop_scale import check_crop_scale
from human.detectors import make_detector
from human.errors import PosesynError
from human.labellers import LABELLERS, Labeller, Labels
from human.skeleton import POSE32
from lightning_modules.base import PoseEstimator
from lightning_modules.checkpoints import PACKAGED_WEIGHTS
from lightning_modules.from_config import config_of, load_estimator

_FLIP = list(POSE32.flip_permutation)


@LABELLERS.register("estimator")
class EstimatorLabeller(Labeller):
    """Any target pose estimator on the people that a detector finds.

    An estimator does not say how sure it is. It is asked twice, of the picture and of its mirror image; a joint lies in
    the middle of the two answers, d apart, with the confidence exp(-d^2 / (2 s^2)), s being ``spread`` times the crop's
    side. It must be another estimator than the one that is mined: of itself it thinks well.

    Args:
        checkpoint: its weights: a run's checkpoint, the original code's, or ``packaged:NAME``.
        config: of its run; default: the config.yaml near the checkpoint.
        detector, detector_options: who finds the people (``human.detectors.DETECTORS``).
        box_scale: crop side over the longer side of a person's box, or a convention (:mod:`human.crop_scale`).
        spread: see above.
        device: "cpu", "cuda", …
    """

    name = "estimator"
    skeleton = POSE32.name
    parallel = False

    def __init__(
        self,
        checkpoint: str,
        config: str | None = None,
        detector: str = "blazepose",
        detector_options: dict[str, Any] | None = None,
        box_scale: float | str = 1.25,
        spread: float = 0.04,
        device: str = "cpu",
    ) -> None:
        check_crop_scale(box_scale, "labeller estimator: box_scale")
        if not spread > 0:
            raise PosesynError(f"labeller estimator: spread={spread}: give a share of the crop's side, more than 0")
        self._checkpoint, self._device = checkpoint, device
        self._config = Path(config) if config else config_of(Path(checkpoint))
        self._detector = make_detector(detector, detector_options)
        self.finder, self.box_scale, self.spread = self._detector.describe(), box_scale, spread
        weights = packaged_file(checkpoint, PACKAGED_WEIGHTS)
        try:
            self.weights = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
        except OSError as error:
            raise PosesynError(f"labeller estimator: checkpoint {weights} cannot be read ({error.strerror})") from None

    @cached_property
    def _estimator(self) -> PoseEstimator:
        estimator = load_estimator(self._config, self._checkpoint)
        return estimator.eval().requires_grad_(False).to(self._device)

    @torch.inference_mode()
    def __call__(self, image_HWC: Picture, file: str = "") -> Labels:
        height, width = image_HWC.shape[:2]
        found = self._detector(image_HWC, file)
        if not len(found):
            return Labels.of([], [], len(POSE32), height, width)
        size = self._estimator.image_size
        scale = 1.0 if self._detector.crops_as_they_are else self.box_scale
        squares = [square_box(box, scale, detected=True) for box in found.boxes]
        affines = [crop_affine((cx, cy), side, size) for cx, cy, side in squares]
        pixels = np.stack([warp_image(image_HWC, affine, size) for affine in affines])
        camera = guess_intrinsics(height, width).double().numpy()
        cameras = np.stack([transform_intrinsics(affine, camera) for affine in affines])
        batch = PoseBatch.blank(len(found), size).replace(
            image=torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
            intrinsics=torch.from_numpy(cameras).float(),
        )
        straight, mirrored = self._said(batch), _back(self._said(_mirror(batch)), size)
        apart = (straight - mirrored).norm(dim=-1) / (self.spread * size)
        sure = torch.exp(-apart.square() / 2).double().numpy()
        middle = ((straight + mirrored) / 2).double().numpy()
        points = np.stack([transform_points(invert_affine(a), p) for a, p in zip(affines, middle, strict=True)])
        return Labels.of(np.concatenate([points, sure[..., None]], -1), found.score, len(POSE32), height, width)

    def _said(self, batch: PoseBatch) -> Tensor:
        """(P,32,2) px of the crops."""
        return self._estimator.predict(batch.to(self._device)).cpu().joints2d


def _mirror(batch: PoseBatch) -> PoseBatch:
    intrinsics = batch.intrinsics.clone()
    intrinsics[:, 0, 2] = batch.size - 1 - intrinsics[:, 0, 2]
    return batch.replace(image=batch.image.flip(-1), intrinsics=intrinsics)


def _back(joints_PJ2: Tensor, size: int) -> Tensor:
    """What was said of mirror images, of the pictures themselves."""
    out = joints_PJ2[:, _FLIP].clone()
    out[..., 0] = size - 1 - out[..., 0]
    return out
