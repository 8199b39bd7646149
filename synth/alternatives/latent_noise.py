"""Noise on the code of the predicted pose: the pose augmentation of Diffusion-HPC.

Weng et al., "Diffusion-HPC" (3DV 2024), equations 8 to 10 (:mod:`synth.pose_augmentation`).
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import torch

from human.body import BodyModel
from human.rng import generator
from synth.alternatives.base import candidate_seeds, check_best_of, finish
from synth.pose_augmentation import PoseAugmentation
from synth.pose_prior_files import PACKAGED, shared_pose_prior, weights_hash
from synth.synthesis import SYNTHESISERS, Challenges, Synthesised, Variation, settings_hash, without_nan
from synth.variation import VariationConfig


@SYNTHESISERS.register("latent_noise")
class LatentNoise:
    """z = E(theta), z' = z (1 + s eps), theta' = D(z'); a prediction that is not finite falls back to ``variation``.

    Numbers near 0 of a code hardly move: the noise is relative, and an ordinary pose stays near itself.

    Args:
        variation: for what falls back.
        prior: the pose prior by name or path (:func:`synth.pose_prior_files.load_pose_prior`).
        scale: s; 1 is the code's of the paper.
        orient_scale, shape_scale: the same factor's of the rotation vector (camera frame) and of the betas.
        posterior: "sample" draws the code from the posterior, as theirs does; "mean" takes its middle.
        best_of: candidates of a slot, of which the one that explains the challenge's 2D joints best is used; the paper
            draws one.
    """

    name = "latent_noise"
    wants_references = False
    wants_clips = False

    def __init__(
        self,
        variation: VariationConfig | None = None,
        prior: str = PACKAGED,
        scale: float = 1.0,
        orient_scale: float = 0.1,
        shape_scale: float = 0.1,
        posterior: str = "sample",
        best_of: int = 1,
    ) -> None:
        self.augmentation = PoseAugmentation(
            scale=scale, orient_scale=orient_scale, shape_scale=shape_scale, posterior=posterior
        )
        check_best_of(self.name, best_of)
        self.other = Variation(variation)
        self.prior = shared_pose_prior(prior)
        self.best_of = best_of

    def config_hash(self) -> str:
        return settings_hash(
            self.name,
            variation=asdict(self.other.config),
            prior=weights_hash(self.prior),
            scales=[self.augmentation.scale, self.augmentation.orient_scale, self.augmentation.shape_scale],
            posterior=self.augmentation.posterior,
            best_of=self.best_of,
        )

    def synthesise(
        self, challenges: Challenges, slot_challenge_S: np.ndarray, seeds: list[int], body: BodyModel
    ) -> Synthesised:
        sound, _ = without_nan(challenges.predictions)
        mine = torch.from_numpy(slot_challenge_S).repeat_interleave(self.best_of)
        width = self.augmentation.width(self.prior)
        drawn = [
            generator(self.name, s).standard_normal(width) for s in candidate_seeds(self.name, seeds, self.best_of)
        ]
        noise = torch.from_numpy(np.array(drawn).reshape(len(mine), width)).float()
        moved = self.augmentation.apply(
            self.prior, sound.betas[mine], sound.body_pose[mine], sound.global_orient[mine], noise
        )
        return finish(
            challenges,
            slot_challenge_S,
            seeds,
            moved.betas,
            moved.body_pose,
            moved.global_orient,
            body,
            self.other,
        )
