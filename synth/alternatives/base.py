"""What the alternatives share: candidates chosen by the labels, and a pose where the prediction is none."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from human.body import BodyModel
from human.errors import PosesynError
from human.rng import derive_seed
from synth.scene import in_fixed_batches
from synth.synthesis import Challenges, Synthesised, Synthesiser, fall_back
from synth.variation import image_error


def check_best_of(name: str, best_of: int) -> None:
    """:class:`PosesynError` unless there is at least one candidate."""
    if best_of < 1:
        raise PosesynError(f"synthesiser {name!r}: best_of must be at least 1, got {best_of}")


def candidate_seeds(name: str, seeds: list[int], best_of: int) -> list[int]:
    """S * ``best_of`` seeds, slot after slot; the first of a slot is the same whatever ``best_of``."""
    return [derive_seed(name, int(s), m) for s in seeds for m in range(best_of)]


def finish(
    challenges: Challenges,
    slot_challenge_S: np.ndarray,
    seeds: list[int],
    betas_C10: Tensor,
    pose_C233: Tensor,
    orient_C3: Tensor,
    body: BodyModel,
    other: Synthesiser,
) -> Synthesised:
    """Of each slot's candidates (C = S * ``best_of``, slot after slot) the one whose joints explain the challenge's 2D
    labels best; a single candidate stands as it is, its ``fit`` NaN. Slots of predictions that are not finite fall back
    to ``other``; ``not_finite`` counts these challenges.
    """
    best, fit = _best(challenges, slot_challenge_S, betas_C10, pose_C233, orient_C3, body)
    broken_K = ~challenges.predictions.finite
    report: dict[str, float | int] = {"not_finite": int(broken_K.sum())} if bool(broken_K.any()) else {}
    made = Synthesised(betas_C10[best], pose_C233[best], orient_C3[best], fit, report=report)
    lost_S = broken_K[torch.from_numpy(slot_challenge_S)]
    return fall_back(made, lost_S, challenges, slot_challenge_S, seeds, body, other)


def _best(
    challenges: Challenges,
    slot_challenge_S: np.ndarray,
    betas_C10: Tensor,
    pose_C233: Tensor,
    orient_C3: Tensor,
    body: BodyModel,
) -> tuple[Tensor, Tensor]:
    """(S,) each slot's best candidate and its mean error, pixels."""
    count = len(slot_challenge_S)
    many = len(betas_C10) // count if count else 1
    if many == 1:
        return torch.arange(count), torch.full((count,), torch.nan)
    with torch.inference_mode():
        (joints,) = in_fixed_batches(lambda *row: (body.joints(*row),), betas_C10, pose_C233, orient_C3)
    rows = torch.from_numpy(slot_challenge_S)
    crops = challenges.crops
    error = image_error(joints.unflatten(0, (count, many)), crops.joints2d[rows], crops.joints2d_conf[rows])
    fit = error.amin(1)
    return error.argmin(1) + many * torch.arange(count), fit.where(fit.isfinite(), torch.nan)
