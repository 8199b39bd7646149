"""A refresh whose samples are Diffusion-HPC's: the mined people are initial pictures, or words are.

What is mined is the few-shot set: ``eem.challenges`` people, the worst first. Their meshes are the current estimator's,
the ones it was mined with, so that a run that refreshes again recovers better ones (the paper's optimisation cycles).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from human.detectors import PersonDetector, make_detector
from human.errors import PosesynError
from human.prediction import Estimator
from synth.eem import Mined, MiningData
from synth.engines.depth2img import Depth2ImgEngine
from synth.hpc.initial import InitialPictures, made_pictures, mined_pictures
from synth.hpc.planner import MeshPlanner, recover
from synth.hpc.prompts import check_prompts, is_pictured
from synth.planning import Clock, Plan
from synth.pose_augmentation import PoseAugmentation
from synth.refresh import Refresher


@dataclass
class HPCSettings:
    """What Diffusion-HPC adds to a refresh.

    Args:
        mode: "T" pictures come from words, "R" from the mined people, "TR" from these, with words. It should be the
            engine's.
        prompts: the words' template by name (:mod:`synth.hpc.prompts`).
        actions: what they are about, where the data do not say: SMART's sports by name, or any words. In mode T they
            come first; without any, what the mined people do.
        per_picture, recovered, hardness, prior, augmentation, inside: see :class:`synth.hpc.planner.MeshPlanner`;
            ``augmentation`` holds arguments of :class:`synth.pose_augmentation.PoseAugmentation`.
        resolution: side of the pictures that the engine is given, pixels.
        detector, detector_options: who finds people in made pictures (:mod:`human.detectors`).
        box_scale: of the crops about them, as the estimator's own.
    """

    mode: str = "TR"
    prompts: str = "smart"
    actions: list[str] = field(default_factory=list)
    per_picture: int = 3
    recovered: bool = True
    hardness: float | None = 30.0
    prior: str = "packaged:pose_prior_free"
    augmentation: dict[str, Any] = field(default_factory=dict)
    inside: float = 0.5
    resolution: int = 512
    detector: str = "blazepose"
    detector_options: dict[str, Any] = field(default_factory=dict)
    box_scale: float | str = 1.25

    def __post_init__(self) -> None:
        if self.mode not in ("T", "R", "TR"):
            raise PosesynError(f"Diffusion-HPC's mode is T, R or TR, got {self.mode!r}")
        check_prompts(self.prompts)


@dataclass
class HPCRefresher(Refresher):
    """``samples`` are the most that are made; in mode T as many pictures are made from words as they need."""

    hpc: HPCSettings = field(default_factory=HPCSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        h = self.hpc
        if isinstance(self.engine, Depth2ImgEngine) and self.engine.mode != h.mode:
            raise PosesynError(
                f"Diffusion-HPC in mode {h.mode} plans for an engine in that mode, the engine's is {self.engine.mode}: "
                "set both to the same"
            )
        if h.mode == "T" and not isinstance(self.engine, Depth2ImgEngine):
            raise PosesynError(
                f"mode T takes its initial pictures from the engine depth2img's words, not from {self.engine.name!r}"
            )
        self.meshes = MeshPlanner(
            self.engine.size,
            h.per_picture,
            h.recovered,
            h.hardness,
            h.prior,
            PoseAugmentation(**h.augmentation),
            h.inside,
        )

    @cached_property
    def detector(self) -> PersonDetector:
        return make_detector(self.hpc.detector, self.hpc.detector_options)

    @property
    def made_by(self) -> str:
        settings: dict[str, Any] = {"planner": self.meshes.config(), "mode": self.hpc.mode, "prompts": self.hpc.prompts}
        settings |= {"actions": self.hpc.actions, "resolution": self.hpc.resolution}
        if self.hpc.mode == "T":
            settings |= {"detector": self.detector.describe(), "box_scale": self.hpc.box_scale}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        return f"diffusion_hpc:{digest}{self._of_run}"

    def plan(
        self,
        estimator: Estimator,
        data: MiningData,
        mined: Mined,
        *,
        number: int,
        seed: int,
        tpe_hash: str,
        clock: Clock | None = None,
    ) -> Plan:
        """Raises :class:`PosesynError` where no picture gives a job: says why, in numbers."""
        timed = clock or Clock()
        assert mined.crops is not None
        with timed("initial"):
            initial = self._initial(data, mined, seed, number)
        with timed("recover"):
            theirs = self.hpc.mode == "T" or mined.predictions is None
            predictions = recover(estimator, initial) if theirs else mined.predictions
            assert predictions is not None
            plan = self.meshes.plan(initial, predictions, seed=seed, number=number, tpe=tpe_hash)
        if not plan.jobs:
            raise PosesynError(f"Diffusion-HPC found no mesh to picture: {plan.report}")
        return Plan(plan.jobs[: self.samples], report=plan.report)

    def _initial(self, data: MiningData, mined: Mined, seed: int, number: int) -> InitialPictures:
        h = self.hpc
        if h.mode != "T":
            prompts = "none" if h.mode == "R" else h.prompts
            return mined_pictures(data, mined, h.resolution, prompts, h.actions, seed, number)
        assert mined.crops is not None
        assert isinstance(self.engine, Depth2ImgEngine)
        count = -(-self.samples // h.per_picture)
        known = getattr(data, "activities", None)
        actions = h.actions or (
            [a for a in (known[int(i)] for i in mined.challenges) if is_pictured(a)] if known else []
        )
        return made_pictures(
            self.engine.text2img,
            self.detector,
            count,
            mined.crops.size,
            h.prompts,
            actions,
            seed,
            number,
            h.box_scale,
        )
