"""Another estimator that is asked where a person's joints are in the picture, when 3DCrowdNet predicts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from human.batch import PoseBatch
from human.errors import PosesynError
from lightning_modules.base import PoseEstimator


class PoseGuide(nn.Module):
    """A frozen estimator, at its own crop size.

    Like the body model it is no part of the weights around it: its tensors are constants, which no optimiser sees and
    no checkpoint holds; it comes from its own file.
    """

    def __init__(self, estimator: PoseEstimator) -> None:
        super().__init__()
        if estimator.checkpoint is None:
            raise PosesynError(
                f"pose2d: the {type(estimator).__name__} that finds the joints has no weights; give it a checkpoint"
            )
        self.weights_hash = estimator.weights_hash()
        self.estimator = estimator
        for module in estimator.modules():
            for name, weight in list(module._parameters.items()):
                if weight is not None:
                    del module._parameters[name]
                    module.register_buffer(name, weight.detach())
            module._non_persistent_buffers_set.update(module._buffers)
        self.train()

    def train(self, mode: bool = True) -> PoseGuide:
        return super().train(False)

    @torch.no_grad()
    def forward(self, batch: PoseBatch) -> tuple[Tensor, Tensor]:
        """(B,32,2) pixels of ``batch``'s crops, and (B,32) bool. Pictures and cameras are all that is looked at."""
        size, own = batch.size, self.estimator.image_size
        image, intrinsics = batch.image, batch.intrinsics
        if size != own:
            image = F.interpolate(image.float(), size=(own, own), mode="bilinear", antialias=True, align_corners=False)
            image = image.round().clamp(0, 255).to(torch.uint8)
            intrinsics = intrinsics * intrinsics.new_tensor([own / size, own / size, 1.0])[:, None]
            shift = intrinsics.new_zeros(3, 3)
            shift[:2, 2] = 0.5 * own / size - 0.5
            intrinsics = intrinsics + shift
        asked = PoseBatch.blank(len(batch), own).to(image.device)
        said = self.estimator.predict(asked.replace(image=image, intrinsics=intrinsics, key=batch.key))
        pixels = (said.joints2d.float() + 0.5) * (size / own) - 0.5
        return pixels, pixels.isfinite().all(-1)
