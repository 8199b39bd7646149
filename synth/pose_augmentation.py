"""Diffusion-HPC's pose augmentation: noise on the code of a recovered pose, on its orientation and on its shape.

Weng et al., "Diffusion-HPC" (3DV 2024), equations 8 to 10: z = E(theta), theta' = D(z (1 + s eps)). Their code is not
of one mind: ZZWENG/Diffusion_HPC, bev/bev/main.py has s = 1 and multiplies orientation and shape by 1 + 0.1 eps (the
defaults here); external/DAPA_release/hmr_utils.py, which made the few-shot sets, multiplies codes by 1.5 + 0.3 eps and
adds 10 degrees eps to the orientation (:data:`FEW_SHOT`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from human.errors import PosesynError
from human.joint_limits import clamp_pose
from synth.pose_prior import JOINTS, PosePrior, decode_pose, posterior_of


class Augmented(NamedTuple):
    """``betas`` (B,10), ``body_pose`` (B,23,3) and ``global_orient`` (B,3) rotation vectors."""

    betas: Tensor
    body_pose: Tensor
    global_orient: Tensor


@dataclass(frozen=True)
class PoseAugmentation:
    """How far poses are moved.

    Args:
        scale: s, of the code. centre: what codes are multiplied by without noise; above 1 poses get more extreme.
        orient_scale: relative, of the rotation vector. orient_degrees: added to each of its numbers.
        shape_scale: relative, of the betas.
        posterior: "sample" draws the code from the posterior, as theirs does; "mean" takes its middle.
    """

    scale: float = 1.0
    centre: float = 1.0
    orient_scale: float = 0.1
    orient_degrees: float = 0.0
    shape_scale: float = 0.1
    posterior: str = "sample"

    def __post_init__(self) -> None:
        scales = (self.scale, self.orient_scale, self.shape_scale, self.orient_degrees, self.centre)
        if not all(np.isfinite(s) and s >= 0 for s in scales) or self.posterior not in ("sample", "mean"):
            raise PosesynError(
                f"pose augmentation needs scales of at least 0 and posterior sample or mean, got {scales} and "
                f"{self.posterior!r}"
            )

    def width(self, prior: PosePrior) -> int:
        """Standard normal numbers that :meth:`apply` takes per pose."""
        return 2 * prior.config.latent + 13

    def apply(
        self, prior: PosePrior, betas_B10: Tensor, pose_B23x3: Tensor, orient_B3: Tensor, noise_BN: Tensor
    ) -> Augmented:
        """Poses within the joint limits; hands stay as they are."""
        latent = prior.config.latent
        code_noise, posterior_noise, orient_noise, shape_noise = noise_BN.split([latent, latent, 3, 10], 1)
        chosen = posterior_of(prior, pose_B23x3)
        code = chosen.mean if self.posterior == "mean" else chosen.sample(posterior_noise)
        code = code * (self.centre + self.scale * code_noise)
        orient = orient_B3 * (1 + self.orient_scale * orient_noise)
        if self.orient_degrees:
            orient = orient + float(np.deg2rad(self.orient_degrees)) * orient_noise
        return Augmented(
            betas_B10 * (1 + self.shape_scale * shape_noise),
            clamp_pose(decode_pose(prior, code, pose_B23x3[:, JOINTS:])),
            orient,
        )


#: What made the paper's few-shot training sets.
FEW_SHOT = PoseAugmentation(scale=0.3, centre=1.5, orient_scale=0.0, orient_degrees=10.0)
