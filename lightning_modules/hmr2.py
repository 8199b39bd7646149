"""HMR 2.0: a vision transformer and a transformer decoder that reads SMPL's parameters.

Goel et al., "Humans in 4D: Reconstructing and Tracking Humans with Transformers", ICCV 2023, §3.1-3.2 (4D-Humans):
ViTPose's ViT-H on the middle three quarters of a square crop of 256 pixels, one query token, 6D rotations,
weak-perspective camera with a focal length of 5000 pixels per 256 of crop. Checkpoints of 4D-Humans load as they are.
Its adversary (:mod:`lightning_modules.pose_discriminator`) is there with ``loss.adversary`` above 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from human.batch import PoseBatch
from human.camera import project
from human.errors import PosesynError
from human.rotations import sixd_to_matrix
from lightning_modules.base import ESTIMATORS, PoseEstimator, Regression, Solution
from lightning_modules.checkpoints import check_state, read_checkpoint
from lightning_modules.hmr2_losses import HMR2LossWeights, hmr2_losses
from lightning_modules.mean_parameters import load_mean_parameters
from lightning_modules.normalisation import IMAGENET, Normalise
from lightning_modules.pose_discriminator import DISCRIMINATOR_WEIGHT, PoseDiscriminator, draw_people, real_people
from lightning_modules.ranks import place
from lightning_modules.smpl_decoder import DecoderConfig, SMPLDecoder
from lightning_modules.spin import rest_pelvis
from lightning_modules.vit import VITPOSE, ViT, ViTConfig, vitpose_backbone

#: 4D-Humans' name of a part of the decoder, and ours.
_HEAD_NAMES = (
    (r"^transformer\.", ""),
    (r"^transformer\.layers\.", "layers."),
    (r"^(layers\.\d+)\.0\.norm\.", r"\1.norm1."),
    (r"^(layers\.\d+)\.1\.norm\.", r"\1.norm2."),
    (r"^(layers\.\d+)\.2\.norm\.", r"\1.norm3."),
    (r"^(layers\.\d+)\.0\.fn\.", r"\1.attn."),
    (r"^(layers\.\d+)\.1\.fn\.", r"\1.cross."),
    (r"^(layers\.\d+)\.2\.fn\.net\.", r"\1.mlp."),
    (r"\.to_out\.0\.", ".to_out."),
)
#: What else 4D-Humans' checkpoints hold: SMPL itself, the adversary of its training, a flag.
_NOT_THE_NETWORK = ("smpl.", "discriminator.", "initialized")


def middle_columns(image_B3HW: Tensor) -> Tensor:
    """The middle three quarters of the columns: 192 of 256."""
    margin = image_B3HW.shape[-1] // 8
    return image_B3HW[..., margin : image_B3HW.shape[-1] - margin]


def sixd_by_columns(sixd: Tensor) -> Tensor:
    """(...,6) -> (...,3,3) by Gram-Schmidt, from the first column followed by the second, as 4D-Humans keeps them;
    SPIN (and :func:`human.rotations.sixd_to_matrix`) keep them side by side."""
    return sixd_to_matrix(sixd.unflatten(-1, (2, 3)).mT.flatten(-2))


def columns_of(pose_144: Tensor) -> Tensor:
    """(24,6) mean rotations in 4D-Humans' layout, whichever of the two layouts the file has: in the right one, columns
    are unit vectors at right angles."""
    apart = pose_144.reshape(24, 2, 3)
    beside = pose_144.reshape(24, 3, 2).mT
    found = min((apart, beside), key=lambda axes: float((axes @ axes.mT - torch.eye(2)).abs().sum()))
    return found.reshape(24, 6)


@ESTIMATORS.register("hmr2")
class HMR2(PoseEstimator):
    """HMR 2.0 on a ViTPose backbone.

    Args:
        backbone: size of the transformer: "huge" (4D-Humans), "large", "base", "small", or numbers of your own.
        decoder: size of the head; default: 4D-Humans'.
        drop_path: another probability than the backbone's own.
        backbone_checkpoint: weights of the backbone alone to start from: ViTPose's, or those that 4D-Humans trains
            from (``vitpose_backbone.pth``).
        mean_params: where the regression starts: "upright", "smpl" (the licensed ``smpl_mean_params.npz``) or a path.
            A checkpoint brings its own.
        loss: weights of 4D-Humans' losses.
        mocap: real poses that the adversary compares with (:func:`~lightning_modules.pose_discriminator.real_people`);
            default: the packaged motion. Read only where ``loss.adversary`` is above 0.
        **base: see :class:`lightning_modules.base.PoseEstimator`.

    ``compile`` and ``gradient_checkpointing`` there act on backbone and head.
    """

    crop_convention = "hmr2"
    upstream_body = True
    not_predicting = (*PoseEstimator.not_predicting, "adversary.")

    def __init__(
        self,
        backbone: ViTConfig | str = "huge",
        decoder: DecoderConfig | None = None,
        drop_path: float | None = None,
        backbone_checkpoint: str | None = None,
        mean_params: str = "upright",
        image_size: int = 256,
        loss: HMR2LossWeights | None = None,
        mocap: Sequence[str] | None = None,
        **base: Any,
    ) -> None:
        weights = loss or HMR2LossWeights()
        super().__init__(image_size=image_size, loss=weights, **base)
        self.hmr2_weights = weights
        size = vit_size(backbone, drop_path)
        self.backbone = ViT(size, image_size, image_size - 2 * (image_size // 8))
        mean = load_mean_parameters(mean_params, self.body)
        self.head = SMPLDecoder(decoder or DecoderConfig(), size.width, columns_of(mean.pose), mean.shape, mean.camera)
        self.normalise = Normalise(IMAGENET)
        if backbone_checkpoint is not None:
            self.load_backbone(backbone_checkpoint)
        if weights.adversary < 0:
            raise PosesynError(f"loss.adversary={weights.adversary} must be 0 (no adversary) or above")
        self.mocap = tuple(["free"] if mocap is None else mocap)
        self.adversary: PoseDiscriminator | None = None
        if weights.adversary > 0:
            real_people(self.mocap)  # what is missing is said now, not in the first step
            self.adversary = PoseDiscriminator()
        self.load_initial_weights()
        self.train()

    def regress(self, batch: PoseBatch) -> Regression:
        said = self.head(self.backbone(self.normalise(middle_columns(batch.image))))
        return Regression(sixd_by_columns(said.sixd), said.betas, said.weak, features=said.token)

    # -- camera convention of 4D-Humans ------------------------------------------------------------------------------
    def place(self, weak_B3: Tensor, batch: PoseBatch) -> tuple[Tensor, Tensor]:
        """4D-Humans' camera: the crop's middle is at pixel ``image_size / 2``, half a pixel right of and below ours."""
        transl, intrinsics = super().place(weak_B3, batch)
        middle = torch.zeros_like(intrinsics)
        middle[:, :2, 2] = self.image_size / 2 - intrinsics[:, :2, 2]
        return transl, intrinsics + middle

    def solve(self, batch: PoseBatch) -> Solution:
        """As the base, but the camera's translation is that of the body model's origin, from which the pelvis is off
        by its place at rest."""
        out = super().solve(batch)
        transl = out.transl + rest_pelvis(self.body, out.betas)
        return out._replace(transl=transl, joints2d=project(out.joints3d + transl[:, None], out.intrinsics))

    def losses(self, out: Solution, batch: PoseBatch) -> dict[str, Tensor]:
        terms = hmr2_losses(
            batch,
            joints2d_BJ2=out.joints2d,
            joints3d_BJ3=out.joints3d,
            rotations_BK33=out.rotations,
            betas_B10=out.betas,
            weights=self.hmr2_weights,
        )
        if self.adversary is not None:
            step = self.trainer.fit_loop.total_batch_idx if self._trainer is not None else 0
            seed = getattr(self._data, "seed", 0) if self._trainer is not None else 0
            rank, ranks = place()
            pose, betas = draw_people(self.mocap, len(batch) * ranks, out.betas.device, seed, step, 0)
            real = pose[rank::ranks], betas[rank::ranks]  # each rank its part of those of the global batch
            regressor, own = self.adversary.terms(out.rotations[:, 1:], out.betas, real, batch.weight)
            terms["adversary"] = self.hmr2_weights.adversary * regressor
            terms["discriminator"] = DISCRIMINATOR_WEIGHT * own
        return terms

    def opponent(self) -> list[nn.Parameter]:
        return [] if self.adversary is None else list(self.adversary.parameters())

    # -- weights -----------------------------------------------------------------------------------------------------
    @classmethod
    def from_upstream(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """4D-Humans' checkpoints."""
        if not any(k.startswith("smpl_head.") for k in state):
            if vitpose_backbone(state) is not None and not any(k.startswith("head.") for k in state):
                raise PosesynError(
                    "the checkpoint holds ViTPose's backbone alone: give it as `backbone_checkpoint` instead of "
                    "`checkpoint`"
                )
            return None
        ours = {}
        for name, value in state.items():
            if name.startswith("smpl_head."):
                part = name.removeprefix("smpl_head.")
                for theirs, own in _HEAD_NAMES:
                    part = re.sub(theirs, own, part)
                ours[f"head.{part}"] = value
            elif not name.startswith(_NOT_THE_NETWORK):
                ours[name] = value
        return ours

    def load_weights(self, path: str | Path) -> None:
        """As the base; and the adversary's, where the checkpoint (4D-Humans' or ours) and this estimator have one."""
        super().load_weights(path)
        if self.adversary is None:
            return
        _, state = read_checkpoint(path)
        ours = {k.removeprefix("adversary."): v for k, v in state.items() if k.startswith("adversary.")}
        found = PoseDiscriminator.from_upstream(state) or ours
        if found:
            check_state(found, self.adversary.state_dict(), Path(path), "PoseDiscriminator")
            self.adversary.load_state_dict(found)

    def load_backbone(self, path: str) -> None:
        """Load ViTPose's backbone; :class:`PosesynError` lists what differs."""
        file, state = read_checkpoint(path)
        found = vitpose_backbone(state)
        if found is None:
            names = ", ".join(list(state)[:3])
            raise PosesynError(f"{file} is no ViTPose checkpoint: it has no patch_embed and last_norm, but {names}, …")
        own = self.backbone.state_dict()
        check_state(found, own, file, "ViT backbone")
        self.backbone.load_state_dict({k: v.to(own[k].dtype) for k, v in found.items()})


def vit_size(backbone: ViTConfig | str, drop_path: float | None = None) -> ViTConfig:
    """The size called ``backbone``, or that size itself; with another ``drop_path`` where one is given."""
    if isinstance(backbone, str):
        if backbone not in VITPOSE:
            raise PosesynError(
                f"backbone={backbone!r}: choose one of {', '.join(VITPOSE)}, or give width, depth, heads"
            )
        backbone = VITPOSE[backbone]
    return backbone if drop_path is None else replace(backbone, drop_path=drop_path)
