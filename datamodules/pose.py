"""PoseDataModule: the training mixture, what is mined, and what is validated on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from datamodules.benchmark import BenchmarkData
from datamodules.crops import CropSet
from datamodules.images import PeopleLoader, Pictures, list_pictures
from datamodules.mining import JoinedCrops
from datamodules.mixture import MixtureDataset, MixtureLoader
from datamodules.readers import PoseReader, make_reader
from datamodules.recipe import Recipe, as_schedule
from datamodules.sources import SampleSource
from datamodules.staged import Staged
from human.batch import PoseBatch
from human.crop_scale import check_crop_scale
from human.detectors import PersonDetector, make_detector
from human.errors import PosesynError
from synth.pool import Pool


@dataclass
class ReaderConfig:
    """A data set by its reader's name and arguments; ``name`` (default: the reader's) is how tables call it."""

    reader: str
    options: dict[str, Any] = field(default_factory=dict)
    name: str | None = None


class PoseDataModule(L.LightningDataModule):
    """Real and synthetic sources mixed by sample keys.

    Args:
        sources: the sources of the training mixture; their order is part of the keys.
        mine: what the EEM looks at. It may be (and usually is) what is trained on; it must not be what is validated on.
        validate: what ``validate`` measures, each on its own.
        test: what ``test`` measures under the data sets' protocols; default: as ``validate``.
        image_size: side of the crops, pixels.
        batch_size: of the global batch, all ranks together.
        steps_per_epoch: batches per epoch; the mixture has no end of its own.
        workers: loader processes on each rank; 0 loads in the trainer.
        seed: of the mixture and of everything synthesised.
        box_scale: crop side over the longer side of a person's box when mining, validating and predicting, or the
            convention of a paper's estimator: "spin", "cliff", "hmr2", … (:mod:`human.crop_scale`).
        pool: folder of the pool of synthetic samples; default: ``pool`` in the run folder.
        images: what ``predict`` looks at: a folder of pictures. Nothing else of the data is needed for it.
        crops: these are crops of one person each.
        detector: who finds the people otherwise (``human.detectors.DETECTORS``), with its ``detector_options``.
        picture_focal: focal length of the cameras of these pictures, px; default: EXIF's, else the diagonal.
        body: the estimator's body model by name, in which body labels are told (``datamodules.crop_bodies``); the
            commands set it to the model's.
    """

    def __init__(
        self,
        sources: list[SampleSource],
        mine: list[ReaderConfig] | None = None,
        validate: list[ReaderConfig] | None = None,
        test: list[ReaderConfig] | None = None,
        image_size: int = 128,
        batch_size: int = 64,
        steps_per_epoch: int = 100,
        workers: int = 1,
        seed: int = 0,
        box_scale: float | str = 1.25,
        pool: str | None = None,
        images: str | None = None,
        crops: bool = False,
        detector: str = "blazepose",
        detector_options: dict[str, Any] | None = None,
        picture_focal: float | None = None,
        body: str = "free",
    ) -> None:
        super().__init__()
        self.body = body
        if not sources:
            raise PosesynError("data.sources is empty: name at least one source of training samples")
        names = [s.name for s in sources]
        if len(set(names)) < len(names):
            raise PosesynError(f"data.sources: two sources have one name ({', '.join(names)}): set `name`")
        self.sources, self.mine, self.validate, self.test = sources, mine or [], validate or [], test or []
        if len(set(self.validation_names)) < len(self.validate):
            raise PosesynError(
                f"data.validate: two sets have one name ({', '.join(self.validation_names)}): set `name`"
            )
        self.image_size, self.batch_size, self.steps_per_epoch = image_size, batch_size, steps_per_epoch
        self.workers, self.seed, self.box_scale = workers, seed, box_scale
        check_crop_scale(box_scale, "data.box_scale")
        if picture_focal is not None and not picture_focal > 0:
            raise PosesynError(f"data.picture_focal={picture_focal}: give pixels, more than 0")
        self.images, self.picture_focal = images, picture_focal
        self.detector = ("whole", {}) if crops else (detector, detector_options or {})
        #: Told of the loader of pictures, and asked for those that it can leave out.
        self.predicting: Callable[[PeopleLoader], None] | None = None
        self.predicted: Callable[[], Collection[str]] = tuple
        self.pool_given = Path(pool) if pool else None
        self._pool_path = self.pool_given
        self._run_dir: Path | None = None
        self.loader: MixtureLoader | None = None
        self._loader_state: dict[str, int] | None = None
        self._recipe: Recipe | None = None
        self._mining: JoinedCrops | None = None
        self._validation: list[CropSet] | None = None

    # -- what others ask ---------------------------------------------------------------------------------------------
    @property
    def source_names(self) -> list[str]:
        return [s.name for s in self.sources]

    @property
    def synthetic_sources(self) -> list[bool]:
        """Whether the pictures of each source are made, not taken."""
        return [s.synthetic for s in self.sources]

    @property
    def validation_names(self) -> list[str]:
        return [v.name or v.reader for v in self.validate]

    @property
    def test_names(self) -> list[str]:
        return list(self.benchmark.readers) if self.benchmark else []

    @property
    def mining_data(self) -> JoinedCrops:
        if not self.mine:
            raise PosesynError(
                "nothing to mine: name at least one reader under data.mine, or drop the Refresh callback"
            )
        if self._mining is None:
            self._mining = JoinedCrops([self._crops(c) for c in self.mine])
        return self._mining

    @property
    def run_dir(self) -> Path:
        """Where a run's files go: the first logger's folder."""
        if self._run_dir is None:
            trainer = self.trainer
            self._run_dir = Path((trainer.log_dir or trainer.default_root_dir) if trainer is not None else "runs")
        return self._run_dir

    def setup(self, stage: str) -> None:
        self.run_dir  # noqa: B018 - Lightning asks all ranks for it together; later only one would

    @property
    def pool_path(self) -> Path:
        if self._pool_path is None:
            self._pool_path = self.run_dir / "pool"
        return self._pool_path

    @property
    def pool(self) -> Pool:
        return Pool(self.pool_path)

    @property
    def recipe(self) -> Recipe:
        """What the mixture is made of; the refresh replaces it, a checkpoint keeps it."""
        if self._recipe is None:
            self._recipe = Recipe(
                seed=self.seed,
                schedules=tuple(as_schedule(s.weight) for s in self.sources),
                sizes=tuple(s.size for s in self.sources),
            )
        return self._recipe

    @recipe.setter
    def recipe(self, recipe: Recipe) -> None:
        self._recipe = recipe

    # -- loaders -----------------------------------------------------------------------------------------------------
    def train_dataloader(self) -> MixtureLoader:
        rank, world = self._place()
        limit = self.trainer.limit_train_batches if self.trainer is not None else 1.0
        sizes = tuple(s.size for s in self.sources)
        if sizes != self.recipe.sizes:
            raise PosesynError(
                f"the checkpoint was made when the sources {self.source_names} had {self.recipe.sizes} samples, now "
                f"they have {sizes}: restore the data to resume, or "
                "start a new run from its weights with --model.checkpoint"
            )
        if self.recipe.generations:
            there = {info.generation for info in self.pool.generations() if not info.forgotten}
            if lost := [g for g, _ in self.recipe.generations if g not in there]:
                raise PosesynError(
                    f"the checkpoint draws from the generations {lost} of the pool {self.pool_path}, which has "
                    f"{sorted(there) or 'none'} with pictures: name the run's pool with data.pool, or resume from a "
                    "later checkpoint"
                )
        for source in self.sources:
            source.prepare(self.image_size, self.pool_path, self.body)
        self.loader = MixtureLoader(
            MixtureDataset(self.sources),
            lambda: self.recipe,
            batch_size=self.batch_size,
            steps=self.steps_per_epoch,
            rank=rank,
            world=world,
            workers=self.workers,
            # Lightning's rule: an integer counts batches, a float is a share of them.
            used=limit if isinstance(limit, int) else int(limit * self.steps_per_epoch),
        )
        if self._loader_state is not None:
            self.loader.load_state_dict(self._loader_state)
            self._loader_state = None
        return self.loader

    def val_dataloader(self) -> list[CropLoader]:
        if self._validation is None:
            self._validation = [self._crops(c) for c in self.validate]
        rank, world = self._place()
        return [CropLoader(crops, 128, rank, world) for crops in self._validation]

    @cached_property
    def benchmark(self) -> BenchmarkData | None:
        """What ``test`` looks at where ``data.test`` names data sets."""
        if not self.test:
            return None
        readers: dict[str, PoseReader] = {}
        for config in self.test:
            reader = make_reader(config.reader, config.options)
            name = config.name or "-".join(filter(None, (reader.name, reader.split)))
            if name in readers:
                raise PosesynError(f"data.test: two sets have one name ({name}): set `name`")
            readers[name] = reader
        return BenchmarkData(readers, self.image_size, self.box_scale, self.batch_size, self.workers)

    def test_dataloader(self) -> Any:
        if self.benchmark is None:
            return self.val_dataloader()
        return self.benchmark.loaders(*self._place())

    def _place(self) -> tuple[int, int]:
        """This rank's number and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def predict_dataloader(self) -> list[CropLoader] | PeopleLoader:
        """People in the pictures of ``images``; without it, those of the validation sets."""
        if self.images is None:
            return self.val_dataloader()
        folder = Path(self.images)
        files = list_pictures(folder)
        pictures = Pictures(folder, files, self.person_detector, self.image_size, self.box_scale, self.picture_focal)
        rank, world = self._place()
        loader = PeopleLoader(
            pictures, max(1, self.batch_size // world), self.workers, rank, world, lambda: self.predicted()
        )
        if self.predicting is not None:
            self.predicting(loader)
        return loader

    @cached_property
    def person_detector(self) -> PersonDetector:
        return make_detector(*self.detector)

    def _crops(self, config: ReaderConfig) -> CropSet:
        crops = CropSet(make_reader(config.reader, config.options), self.image_size, self.box_scale, body=self.body)
        if len(crops) == 0:
            raise PosesynError(f"{config.name or config.reader} has no usable person: {crops.reader.describe()}")
        return crops

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Draw, on the training device, what the sources left to be drawn there."""
        if isinstance(batch, Staged):
            return batch.finish(lambda number, shot: self.sources[number].draw(shot))
        return batch

    # -- the checkpoint ----------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        # Lightning keeps the loader's state too, but does not restore it from a checkpoint made at the end of an epoch.
        return {
            "recipe": self.recipe.state(),
            "sources": self.source_names,
            "synthetic": self.synthetic_sources,
            "pool": str(self.pool_path.absolute()),
            "loader": self.loader.state_dict() if self.loader else self._loader_state,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["sources"] != self.source_names:
            raise PosesynError(
                f"the checkpoint was made with the sources {state_dict['sources']}, the config has "
                f"{self.source_names}: resume with the "
                "run's own config.yaml, or start a new run from its weights with --model.checkpoint"
            )
        if state_dict.get("synthetic", self.synthetic_sources) != self.synthetic_sources:
            raise PosesynError(
                f"the checkpoint was made when `synthetic` of the sources {self.source_names} was "
                f"{state_dict['synthetic']}, now it is {self.synthetic_sources}: resume with the run's own config.yaml"
            )
        self.recipe = Recipe.from_state(state_dict["recipe"])
        # A pool that the config names may have moved with the run.
        self._pool_path = self.pool_given or Path(state_dict["pool"])
        self._loader_state = state_dict["loader"]


class CropLoader:
    """A crop set, a batch at a time; every ``world``-th batch on each rank.

    Not a DataLoader: crops come ready from a memory map, and Lightning would give one a sampler that repeats persons,
    which changes the figures. All ranks get equally many batches; one that fills up has a single sample of weight 0.
    """

    def __init__(self, crops: CropSet, batch_size: int, rank: int = 0, world: int = 1) -> None:
        self.crops, self.batch_size, self.rank, self.world = crops, batch_size, rank, world

    def __len__(self) -> int:
        return -(-len(self.crops) // (self.batch_size * self.world))

    def __iter__(self) -> Iterator[PoseBatch]:
        for number in range(len(self)):
            start = (number * self.world + self.rank) * self.batch_size
            rows = np.arange(start, min(start + self.batch_size, len(self.crops)))
            if len(rows):
                yield self.crops.crops(rows)
            else:
                yield self.crops.crops(np.arange(1)).replace(weight=torch.zeros(1))
