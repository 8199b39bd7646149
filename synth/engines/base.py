"""The contract of an image engine.

Any engine *makes jobs* (:mod:`synth.jobs`): pictures with labels, a pure function of the job and of the engine's
configuration. Slow ones do nothing else and are fed by a refresh or a fleet.

An engine cheap enough to run at every training step renders scenes, in two halves. ``stage`` decides everything
(clothes, light, camera noise, ...) with numpy's counter-based generators, on the CPU, from the scene's seed; ``draw``
makes the pictures from those decisions and nothing else, on whatever device they lie. So a loader's worker may do both,
or stage only and leave drawing to the training device.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from human.batch import PoseBatch
from human.record import Record
from human.registry import Registry
from synth.jobs import Job
from synth.scene import SceneSpec


class ImageEngine(ABC):
    """Makes jobs."""

    name: ClassVar[str]
    size: int  # side of the pictures that are handed over, pixels
    at_once: int = 1  # jobs that one call of :meth:`make` serves best
    wants_clips: ClassVar[bool] = False  # whether a job is a clip (``Job.scene`` has many rows)
    wants_references: ClassVar[bool] = False  # whether it looks at ``Job.reference``
    wants_prompts: ClassVar[bool] = False  # whether it looks at ``Job.prompt``

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything that decides what is made, as JSON-ready values."""

    @abstractmethod
    def make(self, jobs: Sequence[Job]) -> list[PoseBatch]:
        """The kept samples of each job, labelled by :func:`synth.labels.label_scenes`, on the CPU.

        Of ``key`` only the seed is filled: the caller knows source, generation and index.

        Raises:
            PosesynError: naming the job that cannot be made.
        """

    def config_hash(self) -> str:
        """sha256 (hex) of name and configuration: equal hashes and equal jobs mean equal bytes."""
        text = json.dumps({"engine": self.name, **self.config()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def release(self) -> None:  # noqa: B027
        """Give back memory held between calls (networks on a device); the next call loads again."""


class Engine(ImageEngine):
    """Renders scenes; a pure function of the scenes and of :meth:`config`."""

    at_once = 32

    @abstractmethod
    def stage(self, spec: SceneSpec) -> Record:
        """Every decision about every scene, as CPU tensors with a row per scene.

        Raises :class:`human.errors.PosesynError` naming the scene that cannot be drawn.
        """

    @abstractmethod
    def draw(self, shot: Record) -> PoseBatch:
        """One fully labelled picture per row of what :meth:`stage` returned, on the device the tensors lie on.

        The same shot gives the same pixels within 1/255 on any device, and the same bytes on the CPU in any batch.
        Labels are exact. Of ``key`` only the seed is filled: the caller knows source, generation and index.
        """

    def render(self, spec: SceneSpec) -> PoseBatch:
        """Stage and draw."""
        return self.draw(self.stage(spec))

    def make(self, jobs: Sequence[Job]) -> list[PoseBatch]:
        """Scenes that bring the same things along are rendered together."""
        out: list[PoseBatch | None] = [None] * len(jobs)
        groups: dict[tuple[bool, ...], list[int]] = {}
        for number, job in enumerate(jobs):
            groups.setdefault(tuple(v is None for v in job.scene.values()), []).append(number)
        for numbers in groups.values():
            batch = self.render(SceneSpec.cat([jobs[n].kept for n in numbers]))
            start = 0
            for n in numbers:
                count = len(jobs[n].keep)
                out[n] = batch[start : start + count]
                start += count
        return [part for part in out if part is not None]


ENGINES: Registry[type[ImageEngine]] = Registry("engine")
