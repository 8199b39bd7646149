"""Poses that know nothing of the prediction: draws of the pose space (:mod:`synth.pose_space`)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from human.body import BodyModel
from human.camera import level_flip
from human.errors import PosesynError
from human.rng import derive_seed, generator
from human.rotations import matrix_to_rotvec, rotation_about, rotvec_to_matrix
from synth.alternatives.base import candidate_seeds, check_best_of, finish
from synth.lift import camera_to_upright
from synth.pose_parts import heading_of
from synth.pose_space import PoseSpace, free_pose_space
from synth.scene import in_fixed_batches
from synth.synthesis import SYNTHESISERS, Challenges, Synthesised, Variation, settings_hash, without_nan
from synth.variation import VariationConfig


@SYNTHESISERS.register("pose_space")
class SampledPoses:
    """Any valid pose, with the predicted shape. The pose's own tilt (standing, lying, upside down) is kept: cameras are
    taken for level.

    Args:
        variation: for what falls back: a prediction that is not finite.
        space: "free", the packaged network, or a file of :meth:`synth.pose_space.PoseSpace.save`.
        heading: where the person looks: as predicted, or anywhere.
        best_of: candidates of a slot, of which the one that explains the challenge's 2D joints best is used.
    """

    name = "pose_space"
    wants_references = False
    wants_clips = False

    def __init__(
        self,
        variation: VariationConfig | None = None,
        space: str = "free",
        heading: Literal["predicted", "random"] = "predicted",
        best_of: int = 1,
    ) -> None:
        if heading not in ("predicted", "random"):
            raise PosesynError(f"synthesiser 'pose_space': heading must be predicted or random, got {heading!r}")
        check_best_of(self.name, best_of)
        self.other = Variation(variation)
        self.space = free_pose_space() if space == "free" else PoseSpace.load(space)
        self.heading, self.best_of = heading, best_of

    def config_hash(self) -> str:
        return settings_hash(
            self.name,
            variation=asdict(self.other.config),
            space=self.space.content_hash(),
            heading=self.heading,
            best_of=self.best_of,
        )

    def synthesise(
        self, challenges: Challenges, slot_challenge_S: np.ndarray, seeds: list[int], body: BodyModel
    ) -> Synthesised:
        sound, _ = without_nan(challenges.predictions)
        mine = torch.from_numpy(slot_challenge_S).repeat_interleave(self.best_of)
        drawn = candidate_seeds(self.name, seeds, self.best_of)
        # The space counts its poses; a candidate's number is its seed's.
        number = np.array([derive_seed("number", s) % PoseSpace.NUMBERS for s in drawn], np.int64)
        pose, tilt = self.space.at(number)
        if self.heading == "predicted":
            turn = heading(sound.global_orient)[mine]
        else:
            turn = torch.tensor([generator("heading", s).uniform(-np.pi, np.pi) for s in drawn])
        return finish(
            challenges,
            slot_challenge_S,
            seeds,
            sound.betas[mine],
            torch.from_numpy(pose),
            in_camera(torch.from_numpy(tilt), turn),
            body,
            self.other,
        )


def heading(orient_B3: Tensor) -> Tensor:
    """(B,) radians: how far people in a level camera's frame (y down) are turned about the vertical, 0 where they face
    it; 0 too where it is not defined, as for one who hangs head down.
    """
    if len(orient_B3) == 0:
        return orient_B3.new_zeros(0)
    (upright,) = in_fixed_batches(lambda r: (camera_to_upright(r),), orient_B3)
    return torch.from_numpy(heading_of(upright.numpy())).to(orient_B3)


def in_camera(tilt_B3: Tensor, turn_B: Tensor) -> Tensor:
    """(B, 3) orientation in a level camera's frame of people with this tilt (y up, facing +z), turned about the
    vertical.
    """
    if len(tilt_B3) == 0:
        return tilt_B3

    def placed(tilt: Tensor, turn: Tensor) -> tuple[Tensor]:
        return (matrix_to_rotvec(level_flip(rotation_about("y", turn) @ rotvec_to_matrix(tilt), -2)),)

    return in_fixed_batches(placed, tilt_B3, turn_B.to(tilt_B3))[0]
