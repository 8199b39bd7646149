"""What engines that make videos have in common: driving videos in, frames out, labels beside them.

A subclass only turns a reference picture and driving videos into frames. Which frames become samples
(:attr:`synth.jobs.Job.keep`), where they are cut out of the canvas, and what they are labelled with is decided here, by
the job alone.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from human.batch import PoseBatch
from human.errors import PosesynError
from synth.diffusion.loading import Memory, free_memory
from synth.driving import Driving, View, cut_out, drive, view_of
from synth.engines.base import ImageEngine
from synth.jobs import Job
from synth.labels import label_scenes

_log = logging.getLogger(__name__)
VERSION = 1  # of the driving videos and of what is done to the frames: part of every configuration


class VideoEngine(ImageEngine):
    """Makes clips, one by one: a clip fills a device.

    Args:
        size: side of the samples, pixels.
        area: pixels of a video's frame; its sides have the canvas' proportions and are multiples of ``multiple``.
        body: whose labels and drawings (a body model by name).
        memory: how the networks are held.
    """

    wants_clips: ClassVar[bool] = True
    wants_references: ClassVar[bool] = True
    multiple: ClassVar[int] = 16

    def __init__(self, size: int, area: int, body: str, memory: Memory) -> None:
        if size < 1 or area < self.multiple**2:
            raise PosesynError(
                f"engine {self.name!r} needs size >= 1 and an area of {self.multiple**2} pixels or more, got {size} "
                f"and {area}"
            )
        self.size, self.area, self.body, self.memory = size, area, body, memory
        self._pipeline: Any = None

    @abstractmethod
    def _load(self) -> Any:
        """The pipeline, placed; raises :class:`PosesynError` where its weights are not here."""

    @abstractmethod
    def _rows(self, job: Job) -> list[int]:
        """Which rows of the job are shown to the model, in order; the kept ones are among them."""

    @abstractmethod
    def _frames(self, pipeline: Any, job: Job, view: View, driving: Driving) -> np.ndarray:
        """(F,H,W,3) floats in 0 .. 1, at least one for each row of ``driving``."""

    def _check(self, job: Job) -> None:
        """Raise :class:`PosesynError` where the job lacks what the engine needs."""

    def config(self) -> dict[str, Any]:
        return {"version": VERSION, "size": self.size, "area": self.area, "body": self.body, **self.memory.config()}

    @property
    def pipeline(self) -> Any:
        """Loaded when first used."""
        if self._pipeline is None:
            _log.info("engine %s loads %s", self.name, self.config())
            try:
                self._pipeline = self._load()
            except PosesynError as error:
                raise PosesynError(
                    f"engine {self.name!r}: {error}. Without these weights, use the engine 'rendered', which dresses "
                    "the body in the reference's own appearance"
                ) from error
        return self._pipeline

    def make(self, jobs: Sequence[Job]) -> list[PoseBatch]:
        for job in jobs:
            self._check(job)
        return [self._make(job) for job in jobs]

    def _make(self, job: Job) -> PoseBatch:
        rows = self._rows(job)
        view = view_of(job, self.size, self.area, self.multiple)
        driving = drive(job, view, rows, self.body)
        video = self._frames(self.pipeline, job, view, driving)
        kept = video[[rows.index(k) for k in job.keep]]
        if kept.shape[1:] != (view.height, view.width, 3) or not np.isfinite(kept).all():
            raise PosesynError(
                f"job {job.seed}: engine {self.name!r} made frames {kept.shape[1:]} with numbers that are none or of "
                "another size: use a dtype with more range (bf16 or fp32 instead of fp16)"
            )
        frames = (kept * 255 + 0.5).clip(0, 255).astype(np.uint8)
        return label_scenes(job.kept, cut_out(frames, view, job.keep, self.size), self.body)

    def release(self) -> None:
        self._pipeline = None
        free_memory()


def hold_last(frames: np.ndarray, count: int) -> np.ndarray:
    """At least ``count`` frames: the last one stands."""
    missing = max(count - len(frames), 0)
    return np.concatenate([frames, np.repeat(frames[-1:], missing, 0)]) if missing else frames


def pictures(frames: np.ndarray) -> list[Any]:
    """uint8 frames as PIL pictures."""
    from PIL import Image

    return [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
