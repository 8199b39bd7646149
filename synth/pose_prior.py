"""VPoser, a variational autoencoder of body poses: 21 joints to 32 numbers and back.

Pavlakos et al., "Expressive Body Capture" (SMPLify-X), CVPR 2019, §3.3. Both released networks are here, under the
names of their own weights: v1 (nghorbani/human_body_prior, branch cvpr19, train/vposer_smpl.py) and v2 (same
repository, models/vposer_model.py). The official weights are never shipped (:mod:`synth.pose_prior_files`
finds and reads a user's copy); "packaged:pose_prior_free" is a small one of ours that saw free motion only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from human.errors import PosesynError
from human.rotations import matrix_to_rotvec, sixd_to_matrix
from synth.scene import in_fixed_batches

JOINTS = 21
"""SMPL's body joints without the pelvis and the two hands: the first 21 of ``body_pose``."""
HARD = 30.0
"""Diffusion-HPC's threshold on :func:`pose_hardness`."""


class Posterior(NamedTuple):
    """A diagonal Gaussian over codes: ``mean`` and ``std`` (B, latent)."""

    mean: Tensor
    std: Tensor

    def sample(self, noise_BZ: Tensor) -> Tensor:
        """The code at standard normal noise."""
        return self.mean + self.std * noise_BZ

    def kl(self) -> Tensor:
        """(B, latent) nats of each dimension to the standard normal."""
        std = self.std.clamp_min(1e-6)  # softplus underflows to 0 far below it
        return 0.5 * (self.mean.square() + std.square() - 1) - std.log()


@dataclass(frozen=True)
class PosePriorConfig:
    """Which network. ``dropout`` acts in training alone; 0.1 is the original's.

    Args:
        kind: "v1" or "v2".
        width: neurons of each hidden layer.
        latent: numbers of a code.
    """

    kind: str = "v2"
    width: int = 512
    latent: int = 32
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.kind not in ("v1", "v2") or self.width < 1 or self.latent < 1 or not 0 <= self.dropout < 1:
            raise PosesynError(
                "a pose prior needs kind v1 or v2, width and latent of at least 1 and dropout in [0, 1), got "
                f"{self.kind!r}, {self.width}, {self.latent} and {self.dropout}"
            )


class PosePrior(nn.Module, ABC):
    """What both versions share; made by :func:`make_pose_prior` or read by
    :func:`synth.pose_prior_files.load_pose_prior`."""

    def __init__(self, config: PosePriorConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def encode(self, pose_BJ3: Tensor) -> Posterior:
        """(B, 21, 3) rotation vectors to the posterior of their codes."""

    @abstractmethod
    def _sixd(self, latent_BZ: Tensor) -> Tensor:
        """(B, 126): two columns of each joint's rotation, entry by entry."""

    def decode(self, latent_BZ: Tensor) -> Tensor:
        """(B, 21, 3, 3) rotations."""
        return sixd_to_matrix(self._sixd(latent_BZ).unflatten(1, (JOINTS, 6)))

    def forward(self, pose_BJ3: Tensor, noise_BZ: Tensor | None = None) -> tuple[Tensor, Posterior]:
        """The rotations at a code of the posterior (its mean without ``noise_BZ``), and the posterior."""
        posterior = self.encode(pose_BJ3)
        return self.decode(posterior.mean if noise_BZ is None else posterior.sample(noise_BZ)), posterior


class VPoserV1(PosePrior):
    """The network of SMPLify-X. Without ``encoder``: its decoder alone."""

    def __init__(self, config: PosePriorConfig, encoder: bool = True) -> None:
        super().__init__(config)
        width, latent = config.width, config.latent
        if encoder:
            self.bodyprior_enc_bn1 = nn.BatchNorm1d(3 * JOINTS)
            self.bodyprior_enc_fc1 = nn.Linear(3 * JOINTS, width)
            self.bodyprior_enc_bn2 = nn.BatchNorm1d(width)
            self.bodyprior_enc_fc2 = nn.Linear(width, width)
            self.bodyprior_enc_mu = nn.Linear(width, latent)
            self.bodyprior_enc_logvar = nn.Linear(width, latent)
        self.dropout = nn.Dropout(config.dropout)
        self.bodyprior_dec_fc1 = nn.Linear(latent, width)
        self.bodyprior_dec_fc2 = nn.Linear(width, width)
        self.bodyprior_dec_out = nn.Linear(width, 6 * JOINTS)

    def encode(self, pose_BJ3: Tensor) -> Posterior:
        h = F.leaky_relu(self.bodyprior_enc_fc1(self.bodyprior_enc_bn1(pose_BJ3.flatten(1))), 0.2)
        h = F.leaky_relu(self.bodyprior_enc_fc2(self.dropout(self.bodyprior_enc_bn2(h))), 0.2)
        return Posterior(self.bodyprior_enc_mu(h), F.softplus(self.bodyprior_enc_logvar(h)))

    def _sixd(self, latent_BZ: Tensor) -> Tensor:
        h = self.dropout(F.leaky_relu(self.bodyprior_dec_fc1(latent_BZ), 0.2))
        return self.bodyprior_dec_out(F.leaky_relu(self.bodyprior_dec_fc2(h), 0.2))


class _Gaussian(nn.Module):
    def __init__(self, width: int, latent: int) -> None:
        super().__init__()
        self.mu = nn.Linear(width, latent)
        self.logvar = nn.Linear(width, latent)  # softplus of it is the standard deviation, whatever its name

    def forward(self, h: Tensor) -> Posterior:
        return Posterior(self.mu(h), F.softplus(self.logvar(h)))


class VPoserV2(PosePrior):
    """The network of 2020 (V02_05). The numbers of its layers are those in the official file."""

    def __init__(self, config: PosePriorConfig) -> None:
        super().__init__(config)
        width, latent = config.width, config.latent
        self.encoder_net = nn.Sequential(
            nn.Flatten(),
            nn.BatchNorm1d(3 * JOINTS),
            nn.Linear(3 * JOINTS, width),
            nn.LeakyReLU(),
            nn.BatchNorm1d(width),
            nn.Dropout(config.dropout),
            nn.Linear(width, width),
            nn.Linear(width, width),
            _Gaussian(width, latent),
        )
        self.decoder_net = nn.Sequential(
            nn.Linear(latent, width),
            nn.LeakyReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(width, width),
            nn.LeakyReLU(),
            nn.Linear(width, 6 * JOINTS),
        )

    def encode(self, pose_BJ3: Tensor) -> Posterior:
        return self.encoder_net(pose_BJ3)

    def _sixd(self, latent_BZ: Tensor) -> Tensor:
        return self.decoder_net(latent_BZ)


def make_pose_prior(config: PosePriorConfig) -> PosePrior:
    """An untrained network."""
    return VPoserV1(config) if config.kind == "v1" else VPoserV2(config)


def posterior_of(prior: PosePrior, body_pose_B23x3: Tensor) -> Posterior:
    """Posteriors of SMPL poses, without gradients; a row is the same in any batch, NaN where its pose is not finite."""
    if body_pose_B23x3.ndim != 3 or tuple(body_pose_B23x3.shape[1:]) != (23, 3):
        raise PosesynError(f"a pose prior needs body_pose (B, 23, 3), got {tuple(body_pose_B23x3.shape)}")
    pose = body_pose_B23x3[:, :JOINTS].float()
    if len(pose) == 0:
        return Posterior(pose.new_zeros(0, prior.config.latent), pose.new_zeros(0, prior.config.latent))
    with torch.inference_mode():
        return Posterior(*in_fixed_batches(prior.encode, pose))


def decode_pose(prior: PosePrior, latent_BZ: Tensor, hands_B2x3: Tensor | None = None) -> Tensor:
    """(B, 23, 3) rotation vectors of codes, without gradients; the hands rest, or are as given."""
    if hands_B2x3 is None:
        hands_B2x3 = latent_BZ.new_zeros(len(latent_BZ), 2, 3)
    if len(latent_BZ) == 0:
        return latent_BZ.new_zeros(0, JOINTS + 2, 3)
    with torch.inference_mode():
        (rotation,) = in_fixed_batches(lambda z: (prior.decode(z),), latent_BZ)
        return torch.cat([matrix_to_rotvec(rotation), hands_B2x3], 1)


def pose_hardness(prior: PosePrior, body_pose_B23x3: Tensor) -> Tensor:
    """(B,) the expected squared length of a pose's code: how far from the common poses it lies. Hard: above ``HARD``.

    Weng et al., "Diffusion-HPC" (3DV 2024) write ||VPoser(theta)|| > 30; their code (ZZWENG/Diffusion_HPC,
    bev_utils.py) squares and takes a random code of the posterior. Its expectation, |mean|^2 + sum of variances, needs
    no luck. Over the poses that a prior of 32 numbers learnt from it is about 32. NaN for a pose that is not finite.
    """
    posterior = posterior_of(prior, body_pose_B23x3)
    return posterior.mean.square().sum(1) + posterior.std.square().sum(1)
