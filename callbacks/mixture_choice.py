"""Which samples of the pool the mixture draws from: a run's generations, its policies, and what turned out damaged."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

import lightning as L
import numpy as np
import torch

from callbacks.ema import averaged_weights
from datamodules.pose import PoseDataModule
from datamodules.recipe import Recipe
from datamodules.sources import PoolSource
from human.batch import PoseBatch
from human.errors import PosesynError
from human.rng import generator
from lightning_modules.base import PoseEstimator
from synth.curriculum import make_policies
from synth.filters import Err3DFilter
from synth.pool import GenerationInfo
from synth.rescoring import Curriculum

log = logging.getLogger("callbacks.refresh")
_LOOK_AFTER = 256  # batches


class MixtureChoice:
    """Keeps a run's recipe: takes generations in, and chooses among their samples at every refresh.

    Args:
        keep: without policies, the mixture draws from the last so many generations.
        policies: as :func:`synth.curriculum.make_policies` takes them.
        most: samples that these may look at again in a refresh.
        measure: how they are measured.
        also: generations of the pool that other runs made and this one may draw from.
        keep_pixels: pictures of so many of the run's last generations, and of those in the mixture, stay in the pool;
            None: all do.

    Attributes:
        entered: samples by generation, of all that were taken in.
        lost: sample numbers by generation that cannot be read.
        skipped: samples by generation that came with weight 0, on this rank.
    """

    def __init__(
        self,
        keep: int,
        policies: Iterable[Mapping[str, Any] | str] | None,
        most: int,
        measure: Err3DFilter,
        also: Iterable[int] = (),
        keep_pixels: int | None = None,
    ) -> None:
        if keep_pixels is not None and keep_pixels <= keep:
            raise PosesynError(
                f"refresh.keep_pixels={keep_pixels}: keep more generations than the mixture draws from (keep={keep}), "
                "so that the checkpoint before the last refresh can be resumed from"
            )
        self.keep_pixels = keep_pixels
        self.keep, self.measure, self.also = keep, measure, list(also)
        made = make_policies(policies)
        self.curriculum = Curriculum(made, most) if made else None
        self.entered: dict[int, int] = {}
        self.lost: dict[int, np.ndarray] = {}
        self._waits = False  # something entered that was not chosen from yet
        self._seen: list[tuple[torch.Tensor, torch.Tensor]] = []  # keys and weights of batches
        self._pools: list[int] = []  # numbers of the sources that read the pool
        self.skipped: dict[int, int] = {}

    # -- a generation enters ------------------------------------------------------------------------------------------
    def begin(self, data: PoseDataModule) -> None:
        """Take in the generations that other runs made and the settings name."""
        if not self.also or self.entered:
            return
        there = {info.generation: info for info in data.pool.generations()}
        for number in self.also:
            if number not in there:
                raise PosesynError(
                    f"refresh.also names generation {number}, the pool {data.pool_path} has {sorted(there) or 'none'}"
                )
            self.take_in(data, there[number])

    def take_in(self, data: PoseDataModule, info: GenerationInfo | None) -> None:
        """The mixture draws from this generation too; which samples stay is chosen afterwards, by :meth:`choose`."""
        rows = used_rows(data.recipe)
        if info is not None and info.forgotten:  # resumed from before what is left
            log.error("the pictures of generation %d were deleted, training goes on without it", info.generation)
        elif info is not None and info.passed:
            self.entered[info.generation] = info.passed
            rows.pop(info.generation, None)
            rows[info.generation] = np.arange(info.passed)
            self._waits = True
        if self.curriculum is None:
            rows = dict(list(rows.items())[-self.keep :])
        data.recipe = with_rows(data.recipe, rows)

    # -- the choice ---------------------------------------------------------------------------------------------------
    def choose(
        self, trainer: L.Trainer, estimator: PoseEstimator, data: PoseDataModule, number: int, due: bool
    ) -> dict[str, Any] | None:
        """Leave out what is damaged, and what the policies leave out under the estimator as it is.

        Returns:
            Figures for the history; None where there was nothing to choose. Whatever goes wrong costs the choice only.
        """
        self._look_at_suspects(data)
        if self.curriculum is None or not (due or self._waits) or not self.entered:
            return None
        start, before = time.perf_counter(), used_rows(data.recipe)
        try:
            with averaged_weights(trainer, estimator):
                rng = generator(data.seed, "pool_policy", number)
                choice = self.curriculum.choose(
                    data.pool, self.entered, before, self.lost, estimator, self.measure, rng
                )
        except (PosesynError, OSError, ValueError) as error:
            log.error("the pool's samples cannot be chosen from, the mixture stays as it is: %s", error)
            return {"failed": str(error), "seconds": time.perf_counter() - start}
        self._waits = False
        report = {**choice.report, "seconds": time.perf_counter() - start}
        if not choice.rows and not _lives_without_pool(data.recipe):
            log.warning("the pool policies leave nothing, and no other source has a weight: the mixture stays")
            return report
        data.recipe = with_rows(data.recipe, choice.rows)
        return report

    def free(self, data: PoseDataModule) -> None:
        """Delete the pictures of generations that are neither in the mixture nor new, where that is asked for."""
        if self.keep_pixels is None:
            return
        used = {generation for generation, _ in data.recipe.generations}
        own = sorted(g for g in self.entered if g not in self.also)
        old = [g for g in own[: -self.keep_pixels] if g not in used]
        try:
            freed = data.pool.forget(old)
        except (PosesynError, OSError, ValueError) as error:
            log.error("old pictures of the pool cannot be deleted: %s", error)
            return
        if freed:
            log.info("the pictures of generations %s were deleted, %d bytes", old, freed)
        for generation in old:
            del self.entered[generation]
            self.lost.pop(generation, None)
            self.skipped.pop(generation, None)

    # -- damage -------------------------------------------------------------------------------------------------------
    def seen(self, data: PoseDataModule, batch: Any) -> None:
        """A batch was trained on. Looked at later: asking a device for its figures now would make it wait."""
        if isinstance(batch, PoseBatch):
            self._pools = [i for i, s in enumerate(data.sources) if isinstance(s, PoolSource)]
            self._seen.append((batch.key, batch.weight))
            if len(self._seen) >= _LOOK_AFTER:
                self.count_skipped()

    def count_skipped(self) -> None:
        """Count the samples of each generation that came with weight 0; the first time a generation has any, say so."""
        if not self._seen:
            return
        key_N4, weight_N = (torch.cat(column).cpu().numpy() for column in zip(*self._seen, strict=True))
        self._seen = []
        bad = np.isin(key_N4[:, 0], self._pools) & (weight_N == 0)
        numbers, counts = np.unique(key_N4[bad, 1], return_counts=True)
        for generation, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            if generation not in self.skipped:
                log.error("samples of generation %d of the pool cannot be read, they are skipped", generation)
            self.skipped[generation] = self.skipped.get(generation, 0) + count

    def _look_at_suspects(self, data: PoseDataModule) -> None:
        """Read all samples of the generations in the mixture of which some were skipped; what is damaged leaves it."""
        rows = used_rows(data.recipe)
        for generation in [g for g in self.skipped if g in rows]:
            used = rows[generation]
            left = _readable(data, generation, used)
            if left.all():
                continue
            log.error(
                "%d of %d samples of generation %d of the pool cannot be read: they leave the mixture",
                int((~left).sum()),
                len(used),
                generation,
            )
            self.lost[generation] = np.union1d(self.lost.get(generation, np.zeros(0, np.int64)), used[~left])
            rows[generation] = used[left]
        rows = {g: r for g, r in rows.items() if len(r)}
        if rows or _lives_without_pool(data.recipe):
            data.recipe = with_rows(data.recipe, rows)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_seen": []}  # to another process: its settings

    # -- the checkpoint -----------------------------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        self.count_skipped()
        return {
            "entered": [list(pair) for pair in self.entered.items()],
            "lost": [[generation, rows.tolist()] for generation, rows in self.lost.items()],
            "skipped": [list(pair) for pair in self.skipped.items()],
        }

    def load(self, state: Mapping[str, Any], history: list[dict[str, Any]]) -> None:
        """Of an earlier run; one from before there were policies knows its generations by their history."""
        taken = [[e["generation"], e["passed"]] for e in history if e.get("generation") is not None and e.get("passed")]
        self.entered = dict(state.get("entered", taken))
        self.lost = {g: np.array(rows, np.int64) for g, rows in state.get("lost", [])}
        self.skipped = dict(state.get("skipped", []))
        self._seen = []


def used_rows(recipe: Recipe) -> dict[int, np.ndarray]:
    """Sample numbers that a recipe draws from, by generation, in its order."""
    return {generation: recipe.rows_of(generation) for generation, _ in recipe.generations}


def with_rows(recipe: Recipe, rows: Mapping[int, np.ndarray]) -> Recipe:
    return recipe.with_generations([(g, len(r)) for g, r in rows.items()], list(rows.values()))


def _lives_without_pool(recipe: Recipe) -> bool:
    """Whether another source has a weight at every step."""
    others = [s for s, size in zip(recipe.schedules, recipe.sizes, strict=True) if size >= 0]
    return any(min(weight for _, weight in schedule) > 0 for schedule in others)


def _readable(data: PoseDataModule, generation: int, rows: np.ndarray) -> np.ndarray:
    left = np.zeros(len(rows), bool)
    for start in range(0, len(rows), 128):
        part = slice(start, start + 128)
        try:
            _, left[part], _ = data.pool.read_what_is_left(generation, rows[part])
        except (PosesynError, OSError, ValueError):
            continue  # the pool itself cannot be read, or lacks the generation
    return left
