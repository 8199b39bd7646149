"""HMR-style regressor: any timm backbone, iterative regression of 6D rotations, shape and camera.

Kanazawa et al., "End-to-end Recovery of Human Shape and Pose", CVPR 2018, §3.2 (iterative error feedback, three steps
from a mean), with the 6D rotations of Zhou et al., CVPR 2019, as SPIN uses them. Unlike HMR the feature maps need not
be averaged (``pool``): a small backbone at 128 px then still knows where things are.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

from human.batch import PoseBatch
from human.errors import PosesynError
from human.rotations import sixd_to_matrix
from lightning_modules.backbones import load_lite_weights
from lightning_modules.base import ESTIMATORS, PoseEstimator, Regression
from lightning_modules.normalisation import LITE, Normalisation, Normalise
from lightning_modules.pooling import POOLS
from lightning_modules.upright import upright_sixd


class IterativeHead(nn.Module):
    """Refines (24 rotations in 6D, 10 betas, 3 camera) ``steps`` times from a fixed start.

    The start is a person who stands upright, arms down, facing the camera, filling most of the crop.
    """

    start: Tensor

    def __init__(self, features: int, hidden: int, steps: int, dropout: float) -> None:
        super().__init__()
        self.steps = steps
        start = torch.cat([upright_sixd().flatten(), torch.zeros(10), torch.tensor([0.9, 0.0, 0.2])])
        self.register_buffer("start", start)
        self.encode = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, hidden), nn.GELU(), nn.Dropout(dropout))
        self.refine = nn.Sequential(
            nn.Linear(hidden + len(start), hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.GELU()
        )
        self.delta = nn.Linear(hidden, len(start))
        nn.init.xavier_uniform_(self.delta.weight, gain=0.01)
        nn.init.zeros_(self.delta.bias)

    def forward(self, features_BF: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.encode(features_BF)
        state = self.start.to(h.dtype).expand(len(h), -1)
        for _ in range(self.steps):
            state = state + self.delta(self.refine(torch.cat([h, state], 1)))
        sixd, betas, weak = state.split([144, 10, 3], 1)
        return sixd_to_matrix(sixd.reshape(-1, 24, 6)), betas, weak


@ESTIMATORS.register("hmr")
class HMR(PoseEstimator):
    """HMR on a timm backbone.

    Args:
        backbone: any timm model that gives feature maps.
        pool: from feature maps to a vector (:mod:`lightning_modules.pooling`): "avg" as HMR, "flatten" or "joints".
        channels: width inside the pooling.
        hidden, steps, dropout: the iterative head.
        backbone_asset: ImageNet weights to start the backbone from, by asset name ("efficientnet-lite0").
        mean, std: normalisation of 0..255 pixels; the default is efficientnet-lite's.
        **base: see :class:`lightning_modules.base.PoseEstimator`.
    """

    def __init__(
        self,
        backbone: str = "tf_efficientnet_lite0",
        pool: str = "joints",
        channels: int = 128,
        hidden: int = 512,
        steps: int = 3,
        dropout: float = 0.1,
        backbone_asset: str | None = None,
        mean: tuple[float, float, float] = LITE.mean,
        std: tuple[float, float, float] = LITE.std,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if backbone not in timm.list_models() and "/" not in backbone:
            close = timm.list_models(f"*{backbone}*")[:5]
            raise PosesynError(
                f"timm has no backbone {backbone!r}" + (f"; did you mean {', '.join(close)}?" if close else "")
            )
        if pool not in POOLS:
            raise PosesynError(f"pool={pool!r}: choose one of {', '.join(POOLS)}")
        indices = (-2, -1) if pool == "joints" else (-1,)
        self.backbone = timm.create_model(backbone, pretrained=False, features_only=True, out_indices=indices)
        self.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.normalise = Normalise(Normalisation(mean, std))
        with torch.no_grad():
            self.backbone.eval()
            maps = self.backbone(torch.zeros(1, 3, self.image_size, self.image_size))
            self.backbone.train()
        self.pool = POOLS[pool]([m.shape[1] for m in maps], channels, maps[-1].shape[-1])
        self.head = IterativeHead(self.pool.out_features, hidden, steps, dropout)
        if backbone_asset is not None:
            load_lite_weights(self.backbone, backbone_asset)
        self.load_initial_weights()
        self.train()  # frozen parts go to eval mode: Lightning trains in the mode it is given

    def regress(self, batch: PoseBatch) -> Regression:
        x = self.normalise(batch.image)
        pooled = self.pool(list(self.backbone(x.contiguous(memory_format=torch.channels_last))))
        rotations, betas, weak = self.head(pooled.features)
        # -1 and 1 are the picture's edges, half a pixel outside the outer pixel centres.
        seen = None if pooled.joints is None else (pooled.joints + 1) * (self.image_size / 2) - 0.5
        return Regression(rotations, betas, weak, seen, pooled.log_heat, pooled.features)
