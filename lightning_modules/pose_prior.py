"""Training of pose priors (:mod:`synth.pose_prior`): VPoser's evidence bound on rotations and joints."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from human.body import load_body
from human.errors import PosesynError
from human.lbs import forward_kinematics
from human.rotations import geodesic_degrees, rotvec_to_matrix
from synth.pose_prior import JOINTS, PosePrior, PosePriorConfig, Posterior, make_pose_prior
from synth.pose_prior_files import load_pose_prior

#: Nats: a number of the code is in use where it tells more than this of a pose, on average. (Its variance over
#: the poses, Burda et al., ICLR 2016, §2.2, says the same of varied poses, but calls a motion that hardly moves
#: collapsed.)
ACTIVE_NATS = 0.02


class PosePriorTrainer(L.LightningModule):
    """A variational autoencoder of poses.

    The loss is ``rotation_weight`` times the mean angle between rotations (radians), ``joint_weight`` times the mean
    distance of the 22 joints (metres, mean shape), and ``kl_weight`` times the divergence of the posterior (nats, all
    of the code), which is let in over ``kl_warmup_steps`` so that the decoder learns to listen first. VPoser v2's own
    weights (V02_05.yaml) are 2, 2 and 0.005, and 4 on the mesh, for which the joints stand here.

    A posterior that collapses (a code that tells the decoder nothing) is counted in ``val/active_units`` and warned of
    once.

    Args:
        kind, width, latent, dropout: of the network.
        lr, weight_decay: of Adam, with a cosine to 0.
        body: whose mean skeleton the joints are measured on.
        checkpoint: a prior to start from, as ``load_pose_prior`` takes it; its sizes count.
    """

    def __init__(
        self,
        kind: str = "v2",
        width: int = 512,
        latent: int = 32,
        dropout: float = 0.1,
        rotation_weight: float = 2.0,
        joint_weight: float = 6.0,
        kl_weight: float = 0.005,
        kl_warmup_steps: int = 1000,
        lr: float = 1e-3,
        weight_decay: float = 1e-5,
        body: str = "free",
        checkpoint: str | None = None,
    ) -> None:
        super().__init__()
        weights = (rotation_weight, joint_weight, kl_weight, kl_warmup_steps, weight_decay)
        if not all(math.isfinite(w) and w >= 0 for w in weights) or not lr > 0:
            raise PosesynError(f"the pose prior's loss weights must not be negative and lr above 0: {weights}, {lr}")
        self.save_hyperparameters()
        self.prior: PosePrior
        if checkpoint is None:
            self.prior = make_pose_prior(PosePriorConfig(kind, width, latent, dropout))
        else:
            self.prior = load_pose_prior(checkpoint).requires_grad_(True).train()
        self.rotation_weight, self.joint_weight = rotation_weight, joint_weight
        self.kl_weight, self.kl_warmup_steps = kl_weight, kl_warmup_steps
        self.lr, self.weight_decay = lr, weight_decay
        skeleton = load_body(body)
        self.parents = skeleton.parents[: JOINTS + 1]
        self.register_buffer("rest_joints", skeleton.J_template[: JOINTS + 1].clone(), persistent=False)
        self._sums: dict[int, Tensor] = {}
        self._warned = False

    rest_joints: Tensor

    def joints(self, rotation_B21x33: Tensor) -> Tensor:
        """(B, 22, 3) metres, the pelvis unturned."""
        root = torch.eye(3, device=rotation_B21x33.device).expand(len(rotation_B21x33), 1, 3, 3)
        rest = self.rest_joints.expand(len(rotation_B21x33), -1, -1)
        return forward_kinematics(torch.cat([root, rotation_B21x33], 1), rest, self.parents)[1]

    @property
    def kl_factor(self) -> float:
        """Of ``kl_weight`` now."""
        return min(1.0, self.global_step / self.kl_warmup_steps) if self.kl_warmup_steps else 1.0

    def losses(self, pose_B23x3: Tensor, noise_BZ: Tensor) -> dict[str, Tensor]:
        """The terms, without weights."""
        pose = pose_B23x3[:, :JOINTS]
        rotation, posterior = self.prior(pose, noise_BZ)
        truth = rotvec_to_matrix(pose)
        # 2 sqrt 2 sin(angle / 2) is the distance of the matrices; the root and the arcsine need room at both ends
        chord = ((rotation - truth).square().sum((-2, -1)) + 1e-8).sqrt() / (2 * math.sqrt(2))
        away = self.joints(rotation) - self.joints(truth)
        return {
            "rotation": (2 * chord.clamp_max(1 - 1e-4).asin()).mean(),
            "joints": (away.square().sum(-1) + 1e-8).sqrt().mean(),
            "kl": posterior.kl().sum(1).mean(),
        }

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        noise = torch.randn(len(batch), self.prior.config.latent, device=batch.device)
        terms = self.losses(batch, noise)
        loss = (
            self.rotation_weight * terms["rotation"]
            + self.joint_weight * terms["joints"]
            + self.kl_factor * self.kl_weight * terms["kl"]
        )
        self.log_dict({f"train/{k}": v for k, v in terms.items()}, batch_size=len(batch))
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch))
        return loss

    # -- validation ------------------------------------------------------------------------------------------------
    def on_validation_epoch_start(self) -> None:
        self._sums = {}

    def validation_step(self, batch: list[Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        pose = batch[0][:, :JOINTS]
        rotation, posterior = self.prior(pose)
        truth = rotvec_to_matrix(pose)
        row = torch.cat(
            [
                self.joints(rotation).sub(self.joints(truth)).norm(dim=-1).mean(1, keepdim=True),
                geodesic_degrees(rotation, truth).mean(1, keepdim=True),
                _squared_length(posterior),
                posterior.kl(),
            ],
            1,
        ).double()
        sums = torch.cat([row.new_full((1,), len(row)), row.sum(0)])
        self._sums[dataloader_idx] = self._sums.get(dataloader_idx, torch.zeros_like(sums)) + sums

    def on_validation_epoch_end(self) -> None:
        for number, sums in self._sums.items():
            sums = self.trainer.strategy.reduce(sums, reduce_op="sum")
            mean = sums[1:] / sums[0]
            kl = mean[3:]
            active = int((kl > ACTIVE_NATS).sum())
            name = f"val/{self.validation_names[number]}"
            self.log_dict(
                {
                    f"{name}/mpjpe_mm": 1000 * mean[0],
                    f"{name}/angle_deg": mean[1],
                    f"{name}/hardness": mean[2],
                    f"{name}/kl": kl.sum(),
                    f"{name}/active_units": float(active),
                },
                sync_dist=False,
            )
            self._report(active, float(kl.sum()), self.validation_names[number])

    @property
    def validation_names(self) -> list[str]:
        """Of the validation loaders, in order."""
        sets: Any = getattr(self.trainer.datamodule, "validation_sets", None)  # type: ignore[attr-defined]
        return list(sets) if sets else [str(k) for k in range(len(self._sums))]

    def _report(self, active: int, kl: float, name: str) -> None:
        """Warn, once, of a posterior that has collapsed."""
        latent = self.prior.config.latent
        if self._warned or self.trainer.sanity_checking or active >= max(1, latent // 8):
            return
        self._warned = True
        rank_zero_warn(
            f"pose prior: the posterior has collapsed: {active} of {latent} numbers of the code are in use on "
            f"{name!r}, {kl:.2f} nats in all: the decoder gives nearly one pose. Lower model.kl_weight (now "
            f"{self.kl_weight:g}) or raise model.kl_warmup_steps ({self.kl_warmup_steps})"
        )

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.prior.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _squared_length(posterior: Posterior) -> Tensor:
    """(B, 1) as :func:`synth.pose_prior.pose_hardness` has it."""
    return (posterior.mean.square() + posterior.std.square()).sum(1, keepdim=True)
