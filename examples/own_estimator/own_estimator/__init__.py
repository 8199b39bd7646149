"""A target pose estimator in 40 lines: tokens of a vision transformer, attended by one learnt query."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

from human.batch import PoseBatch
from human.rotations import sixd_to_matrix
from lightning_modules import PoseEstimator
from lightning_modules.base import Regression
from lightning_modules.upright import upright_sixd


class TokenRegressor(PoseEstimator):
    """Args:
    backbone: a timm model whose ``forward_features`` gives tokens.
    heads: of the attention that reads them.
    **base: body, image_size, loss weights, learning rate, checkpoint, ... of every estimator.
    """

    def __init__(self, backbone: str = "vit_small_patch16_224", heads: int = 4, **base: Any) -> None:
        super().__init__(**base)
        self.backbone = timm.create_model(backbone, img_size=self.image_size, num_classes=0)
        width = self.backbone.num_features
        self.query = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.head = nn.Linear(width, 144 + 10 + 3)
        # It starts from a person who stands upright in the middle of the crop.
        nn.init.normal_(self.head.weight, std=1e-3)
        with torch.no_grad():
            self.head.bias.copy_(torch.cat([upright_sixd().flatten(), torch.zeros(10), torch.tensor([0.9, 0.0, 0.2])]))
        self.load_initial_weights()

    def regress(self, batch: PoseBatch) -> Regression:
        tokens: Tensor = self.backbone.forward_features((batch.image.float() - 127.5) / 127.5)
        read, _ = self.attention(self.query.expand(len(tokens), -1, -1), tokens, tokens, need_weights=False)
        sixd, betas, weak = self.head(read[:, 0]).split([144, 10, 3], 1)
        rotations = sixd_to_matrix(sixd.reshape(-1, 24, 6))
        return Regression(rotations, betas, weak, features=read[:, 0])
