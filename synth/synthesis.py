"""Poses for challenges: what a synthesiser is given, what it gives back, and the first one, "variation".

A challenge is a person the estimator gets wrong: the predicted pose is wrong and the true one unknown. A synthesiser
makes poses that may lie nearer to it, one for each *slot* (a sample to be made). Those of the papers are registered
under their names: the motion synthesis module of PoseSyn ("msm", :mod:`synth.msm`) and its alternatives.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from human.batch import PoseBatch
from human.body import BodyModel
from human.motion import load_motion_bank
from human.prediction import Prediction
from human.registry import Registry
from synth.variation import VariationConfig, vary


@dataclass(frozen=True)
class Challenges:
    """K mined people, on the CPU.

    Attributes:
        predictions: what the estimator says of them.
        crops: their pictures and 2D labels.
        ids: their names in the mined data.
        errors: (K,) pixels, equation 1 of the EEM.
        activities: what they do, where the data says so ("" elsewhere).
        reference_orient: (S, 3) for each slot the orientation of the reference that it is set beside, camera frame;
            NaN where a slot has none. None: no slot has one.
    """

    predictions: Prediction
    crops: PoseBatch
    ids: list[str]
    errors: np.ndarray
    activities: list[str]
    reference_orient: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Film:
    """What was made for one challenge, to be looked at.

    Attributes:
        challenge: its number.
        caption: what was asked for.
        joints: (T, 22, 3) metres, y up, ``fps`` a second; the first frame faces +z.
        heading: radians about y by which the motion faces as the challenge was predicted to.
        picked: frames that a sample shows.
        prefix: so many first frames hold the predicted pose.
        fell_back: why none is shown, where none is.
    """

    challenge: int
    caption: str
    joints: Tensor
    fps: float
    heading: float = 0.0
    picked: tuple[int, ...] = ()
    prefix: int = 0
    fell_back: str = ""


@dataclass(frozen=True)
class Clips:
    """A motion through each slot's pose: S slots of F frames, for engines that make videos.

    Attributes:
        body_pose: (S, F, 23, 3) rotation vectors; NaN where a frame is not known.
        global_orient: (S, F, 3) rotation vectors, camera frame.
        offset: (S, F, 3) metres, camera axes: where the body is, from where it is in the kept frame.
        keep: for each slot the frame that is its pose (and equals its row of :class:`Synthesised`).
        fps: frames a second.
    """

    body_pose: Tensor
    global_orient: Tensor
    offset: Tensor
    keep: tuple[int, ...]
    fps: float

    def __len__(self) -> int:
        return len(self.keep)


@dataclass(frozen=True)
class Synthesised:
    """S poses, one per slot.

    Attributes:
        betas: (S, 10).
        body_pose: (S, 23, 3) rotation vectors.
        global_orient: (S, 3) rotation vectors, camera frame.
        fit: (S,) pixels, mean 2D error of the chosen pose to the challenge's labels; NaN where nothing was compared.
        captions: one sentence per challenge, or none at all.
        report: counts and figures for the refresh's log; what could not be made as asked is counted here.
        films: motions to look at.
        clips: the motions that the poses are of, where they were asked for (``wants_clips``) and there are any;
            :func:`synth.clips.clips_for` makes some for every synthesiser.
    """

    betas: Tensor
    body_pose: Tensor
    global_orient: Tensor
    fit: Tensor
    captions: tuple[str, ...] = ()
    report: dict[str, float | int] = field(default_factory=dict)
    films: tuple[Film, ...] = ()
    clips: Clips | None = None


class Synthesiser(Protocol):
    """Makes poses for challenges; a slot is a pure function of its challenge, its seed and the settings."""

    name: str
    wants_references: bool  # whether it looks at ``Challenges.reference_orient``, which costs a pass of the estimator
    wants_clips: bool  # set by who asks for ``Synthesised.clips``; one that knows no motion pays no heed

    def config_hash(self) -> str:
        """sha256 (hex) of name and settings: equal hashes, challenges and seeds mean equal poses."""
        ...

    def synthesise(
        self, challenges: Challenges, slot_challenge_S: np.ndarray, seeds: list[int], body: BodyModel
    ) -> Synthesised:
        """Slot s is made for challenge ``slot_challenge_S[s]`` with ``seeds[s]``.

        A challenge of which nothing can be made is never an error: it is counted in the report, and its slots get what
        :class:`Variation` makes.
        """
        ...


SYNTHESISERS: Registry[Callable[..., Synthesiser]] = Registry("synthesiser")
"""Classes whose arguments are ``variation`` (a :class:`VariationConfig`, for what falls back) and their options."""


def settings_hash(name: str, **settings: Any) -> str:
    """sha256 (hex) of a synthesiser's name and its settings (JSON-ready values)."""
    return hashlib.sha256(json.dumps({"synthesiser": name, **settings}, sort_keys=True).encode()).hexdigest()


@SYNTHESISERS.register("variation")
class Variation:
    """Poses around the predicted one: see :mod:`synth.variation`.

    Args:
        variation: how candidates are drawn.
        motion: the motion bank that limbs are taken from.
    """

    name = "variation"
    wants_references = False
    wants_clips = False

    def __init__(self, variation: VariationConfig | None = None, motion: str = "free") -> None:
        self.config, self.motion = variation or VariationConfig(), motion
        self.bank = load_motion_bank(motion)

    def config_hash(self) -> str:
        return settings_hash(self.name, variation=asdict(self.config), motion=self.motion)

    def synthesise(
        self, challenges: Challenges, slot_challenge_S: np.ndarray, seeds: list[int], body: BodyModel
    ) -> Synthesised:
        predictions, broken = without_nan(challenges.predictions)
        crops = challenges.crops
        made = vary(
            predictions[torch.from_numpy(slot_challenge_S)],
            crops.joints2d[slot_challenge_S],
            crops.joints2d_conf[slot_challenge_S],
            seeds,
            body,
            self.bank,
            self.config,
        )
        report: dict[str, float | int] = {"not_finite": broken} if broken else {}
        return Synthesised(made.betas, made.body_pose, made.global_orient, made.fit, report=report)


def fall_back(
    made: Synthesised,
    lost_S: Tensor,
    challenges: Challenges,
    slot_challenge_S: np.ndarray,
    seeds: list[int],
    body: BodyModel,
    other: Synthesiser,
) -> Synthesised:
    """``made`` with ``other``'s poses in the slots that are ``lost``; the report counts ``slots`` and ``fell_back``."""
    slots = np.flatnonzero(lost_S.numpy())
    made = replace(made, report={"slots": len(seeds), "fell_back": len(slots)} | made.report)
    if len(slots) == 0:
        return made
    theirs = other.synthesise(challenges, slot_challenge_S[slots], [seeds[s] for s in slots], body)
    values = {}
    for name in ("betas", "body_pose", "global_orient", "fit"):
        values[name] = getattr(made, name).clone()
        values[name][lost_S] = getattr(theirs, name).to(values[name].dtype)
    return replace(made, **values)


def without_nan(predictions: Prediction) -> tuple[Prediction, int]:
    """Predictions that are not finite become a person who stands before the camera; and how many did."""
    broken = ~predictions.finite
    if not bool(broken.any()):
        return predictions, 0
    upright = torch.tensor([torch.pi, 0.0, 0.0])
    return replace(
        predictions,
        betas=torch.where(broken[:, None], 0.0, predictions.betas),
        body_pose=torch.where(broken[:, None, None], 0.0, predictions.body_pose),
        global_orient=torch.where(broken[:, None], upright, predictions.global_orient),
    ), int(broken.sum())
