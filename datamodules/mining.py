"""Several crop sets seen as one, for mining."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch

from datamodules.crops import CropSet
from human.batch import PoseBatch
from human.errors import PosesynError
from human.interruption import safe_point


class JoinedCrops:
    """Crop sets one after another; see :class:`synth.eem.MiningData`. Persons keep their readers' ids."""

    def __init__(self, sets: Sequence[CropSet]) -> None:
        self.sets = list(sets)
        self.name = "+".join(s.name for s in self.sets)
        self._starts = np.cumsum([0] + [len(s) for s in self.sets])
        if len(set(self.ids)) < len(self):
            twice = next(i for i, n in Counter(self.ids).items() if n > 1)
            raise PosesynError(f"data.mine names the person {twice!r} twice ({self.name}): drop one of the readers")

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def ids(self) -> list[str]:
        return [i for s in self.sets for i in s.ids]

    @cached_property
    def people(self) -> np.ndarray:
        return np.concatenate([s.people for s in self.sets])

    @cached_property
    def labelled(self) -> np.ndarray:
        return np.concatenate([s.labelled for s in self.sets])

    @cached_property
    def activities(self) -> list[str]:
        """What each person does, as its data set names it (MPII), or ""."""
        return [a for s in self.sets for a in getattr(s, "activities", None) or [""] * len(s)]

    def crops(self, indices: np.ndarray) -> PoseBatch:
        safe_point()
        indices = np.asarray(indices)
        which = np.searchsorted(self._starts, indices, side="right") - 1
        parts, rows = [], []
        for number in np.unique(which):
            mine = np.flatnonzero(which == number)
            parts.append(self.sets[number].crops(indices[mine] - self._starts[number]))
            rows.append(mine)
        batch = PoseBatch.cat(parts)[np.argsort(np.concatenate(rows)).tolist()]
        batch.key[:, 2] = torch.from_numpy(indices.astype(np.int64))
        return batch

    def picture(self, index: int, side: int) -> np.ndarray | None:
        """The crop of one person at ``side`` pixels; None where its picture cannot be read."""
        which = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self.sets[which].picture(index - int(self._starts[which]), side)
