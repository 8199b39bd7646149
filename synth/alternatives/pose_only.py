"""The mis-predicted pose itself: what the papers' rows without pose synthesis train on."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import torch

from human.body import BodyModel
from synth.alternatives.base import finish
from synth.synthesis import SYNTHESISERS, Challenges, Synthesised, Variation, settings_hash, without_nan
from synth.variation import VariationConfig


@SYNTHESISERS.register("pose_only")
class PoseOnly:
    """Each slot is its challenge's prediction, unchanged (PoseSyn Table 2 a; the estimator sees its own mistakes with
    labels that fit them). A prediction that is not finite falls back to ``variation``.
    """

    name = "pose_only"
    wants_references = False
    wants_clips = False

    def __init__(self, variation: VariationConfig | None = None) -> None:
        self.other = Variation(variation)

    def config_hash(self) -> str:
        return settings_hash(self.name, variation=asdict(self.other.config))

    def synthesise(
        self, challenges: Challenges, slot_challenge_S: np.ndarray, seeds: list[int], body: BodyModel
    ) -> Synthesised:
        sound, _ = without_nan(challenges.predictions)
        mine = sound[torch.from_numpy(slot_challenge_S)]
        return finish(
            challenges, slot_challenge_S, seeds, mine.betas, mine.body_pose, mine.global_orient, body, self.other
        )
