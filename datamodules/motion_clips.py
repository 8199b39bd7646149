"""What motion training is made of: clips of features with captions, and the sets that sources read."""

from __future__ import annotations

import json
import os
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from human.errors import PosesynError
from human.motion_skeleton import HUMANML3D, FeatureLayout

UNIT = 4  # frames per code
HOLD_FRAMES = 30  # of the repeated pose that motion synthesis starts from
MAX_FRAMES = 196  # HumanML3D's longest motion: 49 codes


@dataclass(frozen=True)
class Caption:
    """What a motion, or its part from ``start`` to ``end`` seconds, shows; 0 and 0: all of it."""

    text: str
    start: float = 0.0
    end: float = 0.0

    @property
    def whole(self) -> bool:
        return self.start == 0.0 and self.end == 0.0


@dataclass(frozen=True)
class MotionClip:
    """T feature rows in time order.

    Attributes:
        features: (T, F) float32, not normalised.
        captions: any number, also none.
        held: (H, F) features of the clip's first pose held alone, as synthesis encodes it, where the clip starts
            with such a hold: the codes of its start are those of ``held``, which know nothing of what follows.
    """

    name: str
    features: np.ndarray
    captions: tuple[Caption, ...] = ()
    held: np.ndarray | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.features)


@dataclass
class MotionSet:
    """What a source holds.

    Attributes:
        train, validation: clips.
        skipped: how many motions were left out, by reason.
        mean, std: (F,) of the data set where it has its own.
    """

    train: list[MotionClip] = field(default_factory=list)
    validation: list[MotionClip] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    mean: np.ndarray | None = None
    std: np.ndarray | None = None

    def describe_skipped(self) -> str:
        return ", ".join(f"{count} {reason}" for reason, count in sorted(self.skipped.items()))


class MotionSource(Protocol):
    """Where clips come from. ``read`` is a function of the source's arguments and ``seed``."""

    name: str
    weight: float | None
    layout: FeatureLayout

    def read(self, seed: int) -> MotionSet: ...


def usable(features_TF: np.ndarray, layout: FeatureLayout = HUMANML3D) -> str | None:
    """Why a motion cannot be trained on, or None."""
    if features_TF.ndim != 2 or features_TF.shape[1] != layout.size:
        return f"not of {layout.size} features"
    if len(features_TF) < UNIT:
        return f"shorter than {UNIT} frames"
    return None if np.isfinite(features_TF).all() else "not finite"


def save_clips(clips: list[MotionClip], path: Path) -> None:
    """Write clips as an npz without pickled objects; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    held = [c.held if c.held is not None else c.features[:0] for c in clips]
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    np.savez_compressed(
        partial,
        features=np.concatenate([c.features for c in clips]),
        lengths=np.array([len(c) for c in clips]),
        held=np.concatenate(held),
        held_lengths=np.array([len(h) for h in held]),
        words=np.array(json.dumps([[c.name, [[w.text, w.start, w.end] for w in c.captions]] for c in clips])),
    )
    partial.replace(path)


def load_clips(path: Path) -> list[MotionClip]:
    """Read what :func:`save_clips` wrote."""
    try:
        with np.load(path, allow_pickle=False) as data:
            rows = np.split(data["features"], np.cumsum(data["lengths"])[:-1])
            held = np.split(data["held"], np.cumsum(data["held_lengths"])[:-1])
            words = json.loads(str(data["words"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise PosesynError(f"{path} cannot be read as motion clips: delete it, it is made again") from error
    return [
        MotionClip(name, features, tuple(Caption(*said) for said in captions), alone if len(alone) else None)
        for (name, captions), features, alone in zip(words, rows, held, strict=True)
    ]


def feature_statistics(
    clips: list[MotionClip], layout: FeatureLayout = HUMANML3D, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (F,) and standard deviation (F,); the latter is one number for each kind of feature, as in HumanML3D's
    cal_mean_variance.ipynb: its mean over the kind (turn, step, height, positions, rotations, velocities, contacts).

    Args:
        weights: of the clips' frames; default: all frames alike.
    """
    count = total = square = 0.0
    for clip, weight in zip(clips, np.ones(len(clips)) if weights is None else weights, strict=True):
        rows = clip.features.astype(np.float64)
        count, total, square = (
            count + weight * len(rows),
            total + weight * rows.sum(0),
            square + weight * (rows**2).sum(0),
        )
    mean = np.asarray(total / count)
    std = np.sqrt(np.maximum(square / count - mean**2, 0))
    for part in _kinds(layout):
        std[part] = max(float(std[part].mean()), 1e-4)  # a column that never changes must not be divided by 0
    return mean.astype(np.float32), std.astype(np.float32)


def biased(std_F: np.ndarray, bias: float, layout: FeatureLayout = HUMANML3D) -> np.ndarray:
    """``std`` with that of the root and the contacts divided by ``bias``: they then count for more in the loss.

    The statistics that T2M-GPT trains with have a bias of 5 (EricGuo5513/TM2T:data/dataset.py, class MotionDataset).
    """
    out = std_F.copy()
    for name in ("root", "contacts"):
        out[layout.slices[name]] /= bias
    return out


def _kinds(layout: FeatureLayout) -> list[slice]:
    root = layout.slices["root"].start
    return [
        slice(root, root + 1),
        slice(root + 1, root + 3),
        slice(root + 3, root + 4),
        *(layout.slices[name] for name in ("positions", "rotations", "velocities", "contacts")),
    ]
