"""Diffusion-HPC in training: the refresh callback with its planner instead of mining, motions and references."""

from __future__ import annotations

from typing import Any

import lightning as L

from callbacks.refresh import Refresh, _made_by, data_of
from datamodules.pose import PoseDataModule
from lightning_modules.base import PoseEstimator
from synth.engines.build import make_image_engine
from synth.hpc.refresher import HPCRefresher, HPCSettings
from synth.planning import slot_seed
from synth.refresh import Refreshed, Refresher


class DiffusionHPC(Refresh):
    """Makes pictures of the estimator's own meshes, ``hpc.per_picture`` for each initial picture (Weng et al., 3DV
    2024), before the first epoch and after every ``every``-th.

    The estimator that recovers the meshes is the one in training, with the weights of that moment; to use another, name
    its checkpoint as the model's.

    Args:
        hpc: Diffusion-HPC's settings.
        engine: any image engine; "depth2img" is the paper's.
        **base: see :class:`callbacks.refresh.Refresh`. ``eem.challenges`` people are used. What chooses poses and
            references there (synthesiser, variation, scene, reference_p, ...) does nothing here.
    """

    def __init__(self, hpc: HPCSettings | None = None, engine: str = "depth2img", **base: Any) -> None:
        super().__init__(engine=engine, **base)
        self.hpc = hpc or HPCSettings()

    def _refresh_here(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._refresher is None:
            size = data_of(trainer).image_size
            self._refresher = HPCRefresher(
                engine=make_image_engine(self.engine, size, self.backgrounds, self.engine_options),
                samples=self.samples,
                eem=self.eem,
                filter=self.filter,
                checks=self.checks,
                hpc=self.hpc,
            )
        super()._refresh_here(trainer, pl_module)

    def _run(self, refresher: Refresher, estimator: PoseEstimator, data: PoseDataModule, tell: Any) -> Refreshed:
        """As the other refresh; but which slots have a sample is known only when their meshes are."""
        pool, tpe = data.pool, estimator.weights_hash()
        made_by = (tpe, refresher.engine.config_hash(), refresher.made_by)
        most = self.hpc.per_picture * max(self.eem.challenges, self.samples)
        slots = {slot_seed(data.seed, self.count, slot) for slot in range(most)}
        existing = pool.generations()
        made = [(g, _made_by(pool, g)) for g in existing if g.generation >= self.count]
        done = [g for g, by in made if by is not None and by[:3] == made_by and by[3] <= slots]
        return refresher.run(
            estimator,
            data.mining_data,
            pool,
            generation=max([self.count, *(g.generation + 1 for g in existing)]),
            number=self.count,
            seed=data.seed,
            tpe_hash=tpe,
            done=done[0] if done else None,
            progress=tell,
        )
