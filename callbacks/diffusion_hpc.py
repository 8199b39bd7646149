"""Diffusion-HPC in training: the refresh callback with its planner instead of mining, motions and references."""

from __future__ import annotations

from typing import Any

from callbacks.refresh import Refresh
from synth.engines.build import make_image_engine
from synth.hpc.refresher import HPCRefresher, HPCSettings
from synth.refresh import Refresher


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

    @property
    def slots(self) -> int:
        """Which of them have a sample is known only when their meshes are."""
        return self.hpc.per_picture * max(self.eem.challenges, self.samples)

    def refresher(self, image_size: int) -> Refresher:
        if self._refresher is None:
            self._refresher = HPCRefresher(
                engine=make_image_engine(self.engine, image_size, self.backgrounds, self.engine_options),
                samples=self.samples,
                eem=self.eem,
                filter=self.filter,
                checks=self.checks,
                render_batch=self.render_batch,
                hpc=self.hpc,
                run_name=self.run_name,
                miner=self.miner,
            )
        return self._refresher
