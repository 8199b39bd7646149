"""What the alternatives share: candidates chosen by the labels, and a pose where the prediction is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from human.body import BodyModel
from human.errors import PosesynError
from human.rng import derive_seed
from synth.scene import in_fixed_batches
from synth.synthesis import Challenges, Synthesised, Synthesiser
from synth.variation import image_error


def check_best_of(name: str, best_of: int) -> None:
    """:class:`PosesynError` unless there is at least one candidate."""
    if best_of < 1:
        raise PosesynError(f"synthesiser {name!r}: best_of must be at least 1, got {best_of}")


def candidate_seeds(name: str, seeds: list[int], best_of: int) -> list[int]:
    """S * ``best_of`` seeds, slot after slot; the first of a slot is the same whatever ``best_of``."""
    return [derive_seed(name, int(s), m) for s in seeds for m in range(best_of)]


def choose(
    challenges: Challenges,
    slot_challenge_S: np.ndarray,
    betas_C10: Tensor,
    pose_C233: Tensor,
    orient_C3: Tensor,
    body: BodyModel,
) -> Synthesised:
    """Of each slot's candidates (C = S * ``best_of``, slot after slot) the one whose joints explain the challenge's 2D
    labels best; a single candidate stands as it is, its ``fit`` NaN.
    """
    count = len(slot_challenge_S)
    many = len(betas_C10) // count if count else 1
    if many == 1:
        return Synthesised(betas_C10, pose_C233, orient_C3, torch.full((count,), torch.nan))
    with torch.inference_mode():
        (joints,) = in_fixed_batches(lambda *row: (body.joints(*row),), betas_C10, pose_C233, orient_C3)
    rows = torch.from_numpy(slot_challenge_S)
    crops = challenges.crops
    error = image_error(joints.unflatten(0, (count, many)), crops.joints2d[rows], crops.joints2d_conf[rows])
    best = error.argmin(1) + many * torch.arange(count)
    fit = error.amin(1)
    return Synthesised(betas_C10[best], pose_C233[best], orient_C3[best], fit.where(fit.isfinite(), torch.nan))


def fall_back(
    made: Synthesised,
    broken_K: Tensor,
    challenges: Challenges,
    slot_challenge_S: np.ndarray,
    seeds: list[int],
    body: BodyModel,
    other: Synthesiser,
) -> Synthesised:
    """``made`` with ``other``'s poses in the slots of ``broken_K`` challenges, which are counted."""
    if not bool(broken_K.any()):
        return made
    slots = np.flatnonzero(broken_K.numpy()[slot_challenge_S])
    report = made.report | {"not_finite": int(broken_K.sum())}
    if len(slots) == 0:
        return replace(made, report=report)
    theirs = other.synthesise(challenges, slot_challenge_S[slots], [seeds[s] for s in slots], body)
    values = {}
    for name in ("betas", "body_pose", "global_orient", "fit"):
        values[name] = getattr(made, name).clone()
        values[name][torch.from_numpy(slots)] = getattr(theirs, name).to(values[name].dtype)
    return replace(made, **values, report=report)
