"""The two sides of an evaluation: what a data set knows of its persons, and what somebody predicts of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from human.errors import PosesynError

Array = npt.NDArray[Any]
#: Codes of a truth's column "gender".
GENDERS = ("neutral", "male", "female")


@dataclass(frozen=True)
class Truth:
    """N labelled persons of ``dataset``.

    ``skeleton``: the joint set of the columns "native2d" and "native3d"; ``body``: what "pose" is of ("smpl", "smplh",
    "smplx", "free", or "" for none). ``ids``: unique; ``pictures``: where each person is. ``columns``: arrays with a
    row per person, by the names, units and frames of ``datamodules.readers.base.EXTRAS``; always there are "bbox_xyxy"
    (N,4) and "native2d" (N,J,3) px of the picture, "intrinsics" (N,3,3) px, NaN where unknown.
    """

    dataset: str
    split: str
    skeleton: str
    body: str
    ids: Sequence[str]
    pictures: Sequence[str]
    columns: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, name: str) -> Array:
        """A column; :class:`PosesynError` names the one that the set has not."""
        if name not in self.columns:
            raise PosesynError(f"{self.dataset} ({self.split}) has no {name!r}; it has {', '.join(self.columns)}")
        return self.columns[name]

    def rows(self, rows: Array | Sequence[int]) -> Truth:
        """These persons, in that order."""
        index = np.asarray(rows, np.int64)
        columns = {name: column[index] for name, column in self.columns.items()}
        ids, pictures = [self.ids[int(i)] for i in index], [self.pictures[int(i)] for i in index]
        return Truth(self.dataset, self.split, self.skeleton, self.body, ids, pictures, columns)


@dataclass(frozen=True)
class Predictions:
    """N predicted persons; each belongs to the truth's person of the same id, unless a protocol matches them itself.

    ``body``: name of the body model that ``pose`` is of (``human.body.BODY_MODELS``; "smpl_male" for a gendered one),
    "" without parameters. ``pose`` (N,24,3) rotation vectors, the root first, camera frame; ``betas`` (N,S);
    ``transl`` (N,3) metres, what the body takes. ``skeleton``: of ``joints3d`` (N,J,3), metres in the camera's frame,
    any root, and ``joints2d`` (N,J,2), px of the whole picture. ``score`` (N,): confidence. NaN: not predicted.
    ``pictures``: where each person is.
    """

    ids: Sequence[str]
    body: str = ""
    skeleton: str = "pose32"
    pose: Array | None = None
    betas: Array | None = None
    transl: Array | None = None
    joints3d: Array | None = None
    joints2d: Array | None = None
    score: Array | None = None
    pictures: Sequence[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, rows: Array | Sequence[int]) -> Predictions:
        """These persons, in that order; -1: a person of whom nothing was predicted, all NaN."""
        index = np.asarray(rows, np.int64)
        missing = index < 0
        changed: dict[str, Any] = {"ids": ["" if i < 0 else self.ids[int(i)] for i in index]}
        if len(self.pictures):
            changed["pictures"] = ["" if i < 0 else self.pictures[int(i)] for i in index]
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, np.ndarray):
                if not len(value):
                    value = np.full((1, *value.shape[1:]), np.nan)
                picked = np.array(value[np.where(missing, 0, index)], np.float64)
                picked[missing] = np.nan
                changed[f.name] = picked
            else:
                changed.setdefault(f.name, value)
        return Predictions(**changed)
