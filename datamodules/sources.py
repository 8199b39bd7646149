"""Where training samples come from: real pictures, the pool, or the rasteriser in the step.

A source turns keys into samples and remembers nothing, so it works the same in any worker. Registered in SOURCES, it
can be named in a config.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

import synth.pose_space  # noqa: F401 - registers its motion banks
from datamodules.crops import Augmentation, augmented_crops, distort
from datamodules.readers import PoseReader, make_reader
from human.batch import PoseBatch
from human.body import BodyModel, load_body
from human.crop_scale import check_crop_scale
from human.errors import PosesynError
from human.motion import MotionBank, load_motion_bank
from human.record import Record
from human.registry import Registry
from human.rng import derive_seed, generator
from synth.engines.base import Engine
from synth.engines.build import make_engine
from synth.pool import Pool
from synth.scene import SceneConfig, sample_scene

log = logging.getLogger(__name__)
SOURCES: Registry[type[SampleSource]] = Registry("source")


class SampleSource(ABC):
    """Args:
    name: how the source is called in tables.
    weight: its share of the batches, a number or a schedule (:func:`datamodules.recipe.as_schedule`).

    ``synthetic`` says whether its pictures are made, not taken: domain adaptation tells these apart.
    """

    synthetic = False

    def __init__(self, name: str, weight: float | list[list[float]]) -> None:
        self.name, self.weight = name, weight

    @property
    @abstractmethod
    def size(self) -> int:
        """Samples; 0 = unlimited, -1 = the pool's (it changes with every refresh)."""

    @abstractmethod
    def fetch(self, key_N4: np.ndarray) -> Record:
        """The N samples of these keys, in order, as a PoseBatch (one that cannot be read has weight 0), or as shots
        for :meth:`draw`.
        """

    def draw(self, shot: Record) -> PoseBatch:
        """The samples of the shots that :meth:`fetch` returned, drawn on the device that they were moved to."""
        raise NotImplementedError(f"{type(self).__name__}.fetch gave {type(shot).__name__}: implement draw() for it")

    def prepare(self, image_size: int, pool_path: Path, body: str = "free") -> None:
        """Told once, before anything is drawn, the crop side, where the run's pool lives and the estimator's body."""
        self.image_size, self.pool_path, self.estimator_body = image_size, pool_path, body


@SOURCES.register("real")
class RealSource(SampleSource):
    """Augmented crops of a reader's persons, with whatever labels it has.

    Args:
        reader: a reader's name in READERS.
        options: its arguments.
        use_3d: False hides 3D labels, to train on 2D alone.
        labels: False hides all labels: pictures that only guide domain adaptation (crops still need persons' boxes).
        synthetic: whether this set's pictures are made, not taken.
        box_scale: crop side over the longer side of the person's box, or a convention (:mod:`human.crop_scale`).
    """

    def __init__(
        self,
        reader: str,
        options: dict[str, Any] | None = None,
        name: str | None = None,
        weight: float | list[list[float]] = 1.0,
        use_3d: bool = True,
        box_scale: float | str = 1.25,
        augmentation: Augmentation | None = None,
        labels: bool = True,
        synthetic: bool = False,
    ) -> None:
        super().__init__(name or reader, weight)
        check_crop_scale(box_scale, f"source {self.name!r}: box_scale")
        self.labels, self.synthetic = labels, synthetic
        self.reader_name, self.options = reader, options or {}
        self.use_3d, self.box_scale, self.augmentation = use_3d, box_scale, augmentation or Augmentation()

    @cached_property
    def reader(self) -> PoseReader:
        return make_reader(self.reader_name, self.options)

    @property
    def size(self) -> int:
        n = len(self.reader.index.ids)
        if n == 0:
            raise PosesynError(f"source {self.name!r} has no usable person: {self.reader.describe()}")
        return n

    def fetch(self, key_N4: np.ndarray) -> PoseBatch:
        rows, seeds = key_N4[:, 2], key_N4[:, 3]
        batch = augmented_crops(
            self.reader, rows, seeds, self.image_size, self.box_scale, self.augmentation, self.estimator_body
        )
        if batch.size != self.image_size:
            batch = PoseBatch.blank(len(key_N4), self.image_size).replace(weight=torch.zeros(len(key_N4)))
        if not self.use_3d:
            none = torch.zeros_like(batch.has_pose)
            conf = torch.zeros_like(batch.joints3d_conf)
            batch = batch.replace(joints3d_conf=conf, has_pose=none, has_betas=none, has_transl=none)
        if not self.labels:
            blank = PoseBatch.blank(len(batch), batch.size)
            batch = blank.replace(image=batch.image, weight=batch.weight, key=batch.key)
        return batch


@SOURCES.register("pool")
class PoolSource(SampleSource):
    """Samples that the refreshes committed, with colour and occlusion changes that differ at each use. One that is
    damaged or gone has weight 0.

    Args:
        joints: False hides joints in 2D and 3D: pose and shape alone are learnt from (Diffusion-HPC's loss).
    """

    synthetic = True

    def __init__(
        self,
        name: str = "pool",
        weight: float | list[list[float]] = 1.0,
        augmentation: Augmentation | None = None,
        joints: bool = True,
    ) -> None:
        super().__init__(name, weight)
        self.joints = joints
        self.augmentation = augmentation or Augmentation(erase_p=0.15)
        self._told: set[int] = set()  # generations of which damage was told

    @property
    def size(self) -> int:
        return -1

    @cached_property
    def pool(self) -> Pool:
        return Pool(self.pool_path)

    def fetch(self, key_N4: np.ndarray) -> PoseBatch:
        parts, rows = [], []
        for number in np.unique(key_N4[:, 1]).tolist():
            mine = np.flatnonzero(key_N4[:, 1] == number)
            part, left, why = self._read(number, key_N4[mine, 2])
            if why and number not in self._told:
                self._told.add(number)
                log.error("samples of the pool are skipped: %s", why)
            if part is not None and part.size != self.image_size:
                raise PosesynError(
                    f"generation {number} of the pool at {self.pool_path} holds pictures of {part.size} px, the run "
                    f"uses {self.image_size} px: use another run folder"
                )
            lost = PoseBatch.blank(int((~left).sum()), self.image_size)
            parts += [lost.replace(weight=torch.zeros(len(lost)))] if part is None or len(lost) else []
            parts += [part] if part is not None else []
            rows += [mine[~left], mine[left]]
        batch = PoseBatch.cat(parts)[torch.from_numpy(np.argsort(np.concatenate(rows)))]
        pixels = batch.image.clone()
        for k, seed in enumerate(key_N4[:, 3]):
            image = distort(
                pixels[k].permute(1, 2, 0).contiguous().numpy(), generator(int(seed), "pool"), self.augmentation
            )
            pixels[k] = torch.from_numpy(image).permute(2, 0, 1)
        if not self.joints:
            hidden = {n: torch.zeros_like(getattr(batch, n)) for n in ("joints2d_conf", "joints3d_conf")}
            batch = batch.replace(**hidden)
        return batch.replace(image=pixels)

    def _read(self, generation: int, indices: np.ndarray) -> tuple[PoseBatch | None, np.ndarray, str]:
        """What can be read; what cannot costs these samples and no more."""
        try:
            return self.pool.read_what_is_left(generation, indices)
        except (PosesynError, OSError, ValueError) as error:  # the pool itself is gone, or lacks the generation
            return None, np.zeros(len(indices), bool), str(error)


@SOURCES.register("rendered")
class RenderedSource(SampleSource):
    """A new rendering for every key: unlimited, exactly labelled, poses from the free motion bank.

    Args:
        engine: an engine's name in ENGINES.
        options: its arguments.
        backgrounds: background bank by name; "free" puts photographs behind the people, "procedural" needs no files.
        motion: motion bank by name.
        scene: what varies between scenes.
        place: where pictures are drawn: "worker", in the loader's processes, or "device", on the training device
            after the batch has arrived there. Same keys, same pixels within 1/255.
        limit: distinct samples; 0 is unlimited.
    """

    synthetic = True

    def __init__(
        self,
        engine: str = "rendered",
        options: dict[str, Any] | None = None,
        name: str = "rendered",
        weight: float | list[list[float]] = 1.0,
        backgrounds: str = "free",
        motion: str = "free",
        scene: SceneConfig | None = None,
        place: Literal["worker", "device"] = "worker",
        limit: int = 0,
    ) -> None:
        super().__init__(name, weight)
        if place not in ("worker", "device") or limit < 0:
            raise PosesynError(
                f"source {name!r}: place is {place!r} and limit {limit}; give worker or device, and a limit >= 0"
            )
        self.engine_name, self.options, self.backgrounds = engine, options or {}, backgrounds
        self.motion, self.scene, self.place, self.limit = motion, scene or SceneConfig(), place, limit

    @cached_property
    def engine(self) -> Engine:
        return make_engine(self.engine_name, self.image_size, self.backgrounds, self.options)

    @cached_property
    def bank(self) -> MotionBank:
        return load_motion_bank(self.motion)

    @property
    def size(self) -> int:
        return self.limit

    @cached_property
    def body(self) -> BodyModel:
        return load_body("free")

    def fetch(self, key_N4: np.ndarray) -> Record:
        seeds = [derive_seed("rendered", int(k[2])) if self.limit else int(k[3]) for k in key_N4]
        shot = self.engine.stage(sample_scene(seeds, self.bank, self.body, self.image_size, self.scene))
        return shot if self.place == "device" else self.engine.draw(shot)

    def draw(self, shot: Record) -> PoseBatch:
        return self.engine.draw(shot)
