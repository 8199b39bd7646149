"""SPIN's regressor: a ResNet-50, or any timm backbone, and iterative regression of SMPL's parameters.

Kolotouros, Pavlakos, Black, Daniilidis, "Learning to Reconstruct 3D Human Pose and Shape via Model-fitting in the
Loop", ICCV 2019: the network of §3.1, the losses of §3.2-3.4 (:mod:`lightning_modules.spin_losses`) and, with
``fitting``, the fits in the loop (:mod:`lightning_modules.spin_fits`). Crops of 224 pixels, 1.2 times the box of the
joints; focal length 5000 pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from human.batch import PoseBatch
from human.body import BodyModel
from human.camera import project
from human.errors import PosesynError
from human.rotations import matrix_to_rotvec
from lightning_modules.base import ESTIMATORS, PoseEstimator, Regression, Solution
from lightning_modules.encoders import encoder_width, pooled_encoder, with_counters
from lightning_modules.mean_parameters import load_mean_parameters
from lightning_modules.normalisation import IMAGENET, Normalise
from lightning_modules.ranks import rank_mean, whole_batch
from lightning_modules.spin_fits import Bodies, FitsInTheLoop, ModelFitting
from lightning_modules.spin_head import IterativeRegressor
from lightning_modules.spin_losses import SpinLossWeights, spin_losses

#: Where a checkpoint keeps the fits made in the loop.
FITS = "spin_fits"
#: Beginnings of names in the original's checkpoints that belong to the regressor; the others are the backbone's.
REGRESSOR = ("fc1.", "fc2.", "decpose.", "decshape.", "deccam.", "init_pose", "init_shape", "init_cam")


def rest_pelvis(body: BodyModel, betas_B10: Tensor) -> Tensor:
    """(B,3) where the pelvis lies before any pose: the point about which a body's global orientation turns it.

    The originals' camera places the body's origin; the pelvis of SMPL lies about 0.2 m below that.
    """
    return body.J_template[0] + betas_B10 @ body.J_shapedirs[0].T


@ESTIMATORS.register("spin")
class SPIN(PoseEstimator):
    """SPIN.

    Args:
        backbone: any timm model; "resnet50" is the paper's.
        backbone_options: arguments of the timm model.
        backbone_weights: file of an ImageNet classifier to start the backbone from (timm's or torchvision's layout).
        hidden, steps, dropout: the regressor.
        mean_params: where the regressor starts: "upright", "smpl" (the licensed ``smpl_mean_params.npz``) or a path. A
            checkpoint brings its own.
        image_size, focal: see the base; the defaults are the paper's.
        width: columns that the network sees, from the middle of the crop; default: all.
        loss: weights of the paper's losses.
        fitting: fit the body to 2D labels in the loop and train on the best fits; default: not.
        **base: see :class:`lightning_modules.base.PoseEstimator`. The paper's: ``body: smpl``, ``lr: 5e-5``, Adam.
    """

    crop_convention = "spin"
    upstream_body = True
    #: Numbers given to the regressor beside the backbone's.
    beside: int = 0

    def __init__(
        self,
        backbone: str = "resnet50",
        backbone_options: dict[str, Any] | None = None,
        backbone_weights: str | None = None,
        hidden: int = 1024,
        steps: int = 3,
        dropout: float = 0.5,
        mean_params: str = "upright",
        image_size: int = 224,
        width: int | None = None,
        focal: str = "spin",
        loss: SpinLossWeights | None = None,
        fitting: ModelFitting | None = None,
        **base: Any,
    ) -> None:
        weights = loss or SpinLossWeights()
        super().__init__(image_size=image_size, focal=focal, loss=weights, **base)
        self.spin_weights = weights
        self.width = width or image_size
        if not 0 < self.width <= image_size:
            raise PosesynError(f"width={width} must lie within the crop: 1 to image_size={image_size}")
        self.backbone = pooled_encoder(backbone, image_size, self.width, backbone_options, backbone_weights)
        self.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.normalise = Normalise(IMAGENET)
        mean = load_mean_parameters(mean_params, self.body)
        self.head = IterativeRegressor(encoder_width(self.backbone) + self.beside, hidden, steps, dropout, mean)
        self.fits = None if fitting is None else FitsInTheLoop(fitting, self.body)
        self.load_initial_weights()
        self.train()  # frozen parts go to eval mode: Lightning trains in the mode it is given

    def encode(self, image_B3HW: Tensor) -> Tensor:
        """(B,F) features of uint8 crops."""
        left = (self.image_size - self.width) // 2
        columns = image_B3HW[..., left : left + self.width]
        return self.backbone(self.normalise(columns).contiguous(memory_format=torch.channels_last))

    def regress(self, batch: PoseBatch) -> Regression:
        features = self.encode(batch.image)
        rotations, betas, weak = self.head(features)
        return Regression(rotations, betas, weak, features=features)

    def solve(self, batch: PoseBatch) -> Solution:
        out = super().solve(batch)
        transl = out.transl + rest_pelvis(self.body, out.betas)
        return out._replace(transl=transl, joints2d=project(out.joints3d + transl[:, None], out.intrinsics))

    def losses(self, out: Solution, batch: PoseBatch) -> dict[str, Tensor]:
        if self.fits is not None and self.training:
            batch = self._with_fits(self.fits, out, batch)
        return spin_losses(
            batch,
            joints2d_BJ2=out.joints2d,
            joints3d_BJ3=out.joints3d,
            rotations_BK33=out.rotations,
            betas_B10=out.betas,
            scale_B=out.said.weak[:, 0].float(),
            weights=self.spin_weights,
        )

    # -- fits in the loop --------------------------------------------------------------------------------------------
    def _with_fits(self, fits: FitsInTheLoop, out: Solution, batch: PoseBatch) -> PoseBatch:
        betas = out.betas.detach()
        said = Bodies(matrix_to_rotvec(out.rotations.detach()), betas)
        origin = out.transl.detach() - rest_pelvis(self.body, betas)
        with torch.autocast(batch.image.device.type, enabled=False):
            batch, used = fits.improve(batch, said, origin, out.intrinsics.detach(), whole_batch)
        if self._trainer is not None:
            self.log("fits/used", rank_mean(used.float().mean()), batch_size=len(batch))
        return batch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self.fits is not None:
            checkpoint[FITS] = self.fits.best.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if self.fits is not None and FITS in checkpoint:
            self.fits.best.load_state_dict(checkpoint[FITS])

    @classmethod
    def from_upstream(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """SPIN's (and EFT's) ``model``: the ResNet and the regressor side by side, without prefixes."""
        state = {k.removeprefix("module."): v for k, v in state.items()}
        if "conv1.weight" not in state or "decpose.weight" not in state:
            return None
        ours = {f"head.{k}" if k.startswith(REGRESSOR) else f"backbone.{k}": v for k, v in state.items()}
        return with_counters(ours)
