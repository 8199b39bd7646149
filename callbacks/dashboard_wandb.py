"""What W&B gets beside numbers: pictures, histograms, and artifacts that name their ancestors."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet
from lightning.pytorch.loggers import WandbLogger

from callbacks.drawing import grid
from callbacks.tiles import labelled_tiles, resized, titled
from synth.pool import Pool

STEP = "trainer/global_step"
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 82]


class Artifacts:
    """Names of a run's artifacts, and the versions that were logged.

    A generation's artifact holds its provenance table, a few pictures and the words that say which weights mined it;
    a checkpoint's says where the file lies and which generations its weights were trained on. Their aliases are made
    of step and number, so each can name the other before W&B has given it a version.
    """

    def __init__(self, logger: WandbLogger, whole: tuple[str, ...]) -> None:
        self.logger, self.whole = logger, whole
        self.id = str(logger.version)

    def checkpoint_name(self, step: int) -> str:
        return checkpoint_name(self.id, step)

    def generation_name(self, generation: int) -> str:
        return f"generation-{self.id}:generation-{generation}"

    def log_generation(self, pool: Pool, generation: int, facts: dict[str, Any], pictures: int, side: int) -> None:
        name, alias = self.generation_name(generation).split(":")
        made_by = pool.provenance(generation)
        facts = {**facts, "engines": sorted(set(made_by["engine"].to_pylist()))}
        facts["mined_by"] = {**facts["mined_by"], "weights": str(made_by["tpe"][0])}
        artifact = self._artifact(name, "generation", facts)
        with tempfile.TemporaryDirectory() as folder:
            whole = "generations" in self.whole
            rows = Path(folder, "samples.parquet" if whole else "provenance.parquet")
            pyarrow.parquet.write_table(pool.rows(generation) if whole else made_by, rows)
            artifact.add_file(str(rows))
            if pictures:
                batch = pool.read(generation, range(min(pictures, facts["passed"])))
                tiles = [resized(t, side) for t in labelled_tiles(batch)]
                words = f"Generation {generation}. Blue, orange: label, left, right."
                _write(Path(folder, "samples.jpg"), titled(grid(tiles, min(4, len(tiles))), words))
                artifact.add_file(str(Path(folder, "samples.jpg")))
        self.logger.experiment.log_artifact(artifact, aliases=["latest", alias])

    def log_checkpoint(self, path: Path, facts: dict[str, Any]) -> None:
        name, alias = self.checkpoint_name(facts["step"]).split(":")
        artifact = self._artifact(name, "checkpoint", facts)
        if "checkpoints" in self.whole:
            artifact.add_file(str(path), name=path.name)
        else:
            artifact.add_reference(path.absolute().as_uri(), name=path.name, checksum=False)
        self.logger.experiment.log_artifact(artifact, aliases=["latest", alias])

    @staticmethod
    def _artifact(name: str, kind: str, facts: dict[str, Any]) -> Any:
        import wandb

        artifact = wandb.Artifact(name, kind, metadata=facts)
        with artifact.new_file(f"{kind}.json") as file:
            json.dump(facts, file, indent=1)
        return artifact


def checkpoint_name(run: str, step: int) -> str:
    """The artifact of a W&B run's checkpoint of a step."""
    return f"checkpoint-{run}:step-{step}"


def log_pictures(logger: WandbLogger, pictures: dict[str, np.ndarray], words: str, step: int) -> None:
    """JPEGs: W&B itself would write PNGs of ten times the size."""
    import wandb

    with tempfile.TemporaryDirectory() as folder:
        values: dict[str, Any] = {}
        for number, (name, picture) in enumerate(pictures.items()):
            path = Path(folder, f"{number}.jpg")
            _write(path, picture)
            values[name] = wandb.Image(str(path), caption=words)
        logger.experiment.log({**values, STEP: step})


def log_histogram(logger: WandbLogger, name: str, counts: list[int], edges: list[float], step: int) -> None:
    import wandb

    histogram = wandb.Histogram(np_histogram=(np.asarray(counts), np.asarray(edges)))
    logger.experiment.log({name: histogram, STEP: step})


def _write(path: Path, rgb: np.ndarray) -> None:
    path.write_bytes(bytes(cv2.imencode(".jpg", rgb[..., ::-1], _JPEG)[1]))
