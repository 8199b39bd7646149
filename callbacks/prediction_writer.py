"""``lightning predict`` on a folder of pictures: what the estimator says of every person, in files.

    FOLDER/predictions.parquet  a row per person (callbacks.prediction_table; docs/predict.md)
    FOLDER/predictions.npz      the same columns as arrays
    FOLDER/pictures.csv         a line per picture: people found, or why it could not be read
    FOLDER/overlays/PICTURE.png and FOLDER/meshes/PICTURE.N.glb (or .ply), where asked for

A killed run goes on where it was: what was done lies in ``FOLDER/parts``.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from torch import Tensor

from callbacks.drawing import draw_skeleton
from callbacks.overlay import check_mesh_format, draw_people, write_mesh
from callbacks.prediction_table import (
    SCHEMA,
    Part,
    PictureLine,
    Row,
    join_parts,
    read_part,
    to_table,
    write_part,
    write_summary,
)
from datamodules.images import FoundPerson, FoundPicture, PeopleLoader, read_picture, stamp_of
from human.batch import PoseBatch
from human.body import BodyModel
from human.errors import PosesynError
from human.full_frame import crop_to_picture, joints_in_picture, transl_in_picture
from human.prediction import Prediction
from lightning_modules.base import PoseEstimator

log = logging.getLogger(__name__)

#: Pictures, and seconds, after which a part is written.
PART_PICTURES, PART_SECONDS = 256, 30.0
FORMAT = 1


class PredictionWriter(Callback):
    """Writes predictions of the people in ``data.images``.

    Args:
        folder: where to; default: ``predictions/NAME`` for pictures in a folder NAME.
        overlays: draw the people over each picture (PNG).
        overlay_size: longer side of these, px, at most.
        meshes: "glb" or "ply": each person's mesh as a file; null: none.
        overwrite: start again, where the folder holds predictions that were made differently.
    """

    def __init__(
        self,
        folder: str | None = None,
        overlays: bool = False,
        overlay_size: int = 1280,
        meshes: str | None = None,
        overwrite: bool = False,
    ) -> None:
        if overlay_size < 16:
            raise PosesynError(f"predictions.overlay_size={overlay_size}: give 16 px or more")
        if meshes is not None:
            check_mesh_format(meshes)
        self.given, self.overlays, self.overlay_size = folder, overlays, overlay_size
        self.meshes, self.overwrite = meshes, overwrite
        self._loader: PeopleLoader | None = None
        self._body: BodyModel | None = None
        self._rows: dict[str, list[tuple[Row, Tensor | None, Tensor]]] = {}
        self._found: dict[str, FoundPicture] = {}
        self._lines: list[PictureLine] = []
        self._ready: list[Row] = []
        self._written = 0.0
        self._parts = 0

    # -- before ------------------------------------------------------------------------------------------------------
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage != "predict":
            return
        data = getattr(trainer, "datamodule", None)
        images = getattr(data, "images", None)
        if data is None or images is None:
            raise PosesynError("nothing to predict: name a folder of pictures with --data.images FOLDER")
        self.folder = Path(self.given) if self.given else Path("predictions") / Path(images).absolute().name
        # Else Lightning keeps every prediction of the run in memory.
        trainer.predict_loop.return_predictions = False
        self._images, self._rank, self._world = Path(images), trainer.global_rank, trainer.world_size
        # Asked when the loader starts: the checkpoint's weights are in the estimator by then.
        data.predicted = lambda: self._begin(pl_module, data)
        data.predicting = self._follow

    def _follow(self, loader: PeopleLoader) -> None:
        self._loader = loader

    def _begin(self, module: L.LightningModule, data: Any) -> set[str]:
        """The pictures that are done already."""
        body = getattr(module, "body", None)
        self._body = body if isinstance(body, BodyModel) else None
        if self.meshes and self._body is None:
            raise PosesynError(f"predictions.meshes: {type(module).__name__} has no body model to make meshes of")
        self._maker = {
            "format": FORMAT,
            "estimator": type(module).__name__,
            "weights": module.weights_hash() if isinstance(module, PoseEstimator) else "",
            "body": _name_of(self._body),
            "image_size": data.image_size,
            "box_scale": data.box_scale,
            "focal": data.picture_focal,
            "detector": data.person_detector.describe(),
        }
        self._written = time.monotonic()
        before = self._load()
        files = set(self._loader.pictures.files) if self._loader else set()
        done = {
            line.file
            for line in before.pictures
            if line.file in files and line.stamp == stamp_of(self._images / line.file) and not self._lacks(line)
        }
        if done:
            log.info("%d of %d pictures are done already", len(done), len(files))
        self._before = len(done)
        return done

    def _load(self) -> Part:
        """What is there already; with ``overwrite``, what fits."""
        parts, others = [], False
        for path in self._part_files():
            try:
                part = read_part(path)
                if differs := [k for k, v in self._maker.items() if part.maker.get(k) != v]:
                    raise PosesynError(
                        f"{self.folder} holds predictions that were made differently ({', '.join(differs)}): choose "
                        "another predictions.folder, or set predictions.overwrite to true"
                    )
                parts.append(part)
            except PosesynError:
                if not self.overwrite:
                    raise
                others = True
        if others and self._rank == 0:
            for name in ("parts", "overlays", "meshes"):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            for name in ("predictions.parquet", "predictions.npz", "pictures.csv"):
                (self.folder / name).unlink(missing_ok=True)
        return Part((), SCHEMA.empty_table(), {}) if others else join_parts(parts)

    def _part_files(self) -> list[Path]:
        """The table of an earlier run, then what came after it, oldest first."""
        parts = sorted((self.folder / "parts").glob("*.parquet"), key=lambda p: (p.stat().st_mtime_ns, p.name))
        whole = self.folder / "predictions.parquet"
        return [whole, *parts] if whole.is_file() else parts

    def _lacks(self, line: PictureLine) -> bool:
        """Whether a file that is asked for was not made in an earlier run."""
        if not line.people:
            return False
        meshes = (self._mesh_path(line.file, k) for k in range(line.people)) if self.meshes else ()
        return (self.overlays and not self._overlay_path(line.file).is_file()) or any(not m.is_file() for m in meshes)

    def _overlay_path(self, file: str) -> Path:
        return self.folder / "overlays" / f"{file}.png"

    def _mesh_path(self, file: str, person: int) -> Path:
        return self.folder / "meshes" / f"{file}.{person}.{self.meshes}"

    # -- during ------------------------------------------------------------------------------------------------------
    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: PoseBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert self._loader is not None
        people = [self._loader.take(int(number)) for number in batch.key[:, 2]]
        vertices = self._vertices(outputs)
        prediction: Prediction = outputs.cpu()
        back = torch.stack([crop_to_picture(p.affine) for p in people])
        cameras = torch.stack([torch.from_numpy(p.intrinsics).float() for p in people])
        transl = transl_in_picture(prediction.transl, prediction.intrinsics, back, cameras)
        pixels = joints_in_picture(prediction.joints2d, back)
        # The camera that the estimator means, in the picture's pixels: under it the body lies where joints2d are.
        own = back @ prediction.intrinsics
        for k, person in enumerate(people):
            row = _row(person, prediction, k, transl[k], pixels[k])
            placed = None if vertices is None else vertices[k]
            self._rows.setdefault(person.file, []).append(
                (row, placed, torch.cat([own[k], prediction.transl[k, :, None]], 1))
            )
        self._settle()
        if len(self._lines) >= PART_PICTURES or time.monotonic() - self._written > PART_SECONDS:
            self._flush()

    def _vertices(self, prediction: Prediction) -> Tensor | None:
        """(B,V,3) metres from the pelvis, where something is drawn or written with them."""
        if self._body is None or not (self.overlays or self.meshes):
            return None
        out = self._body(prediction.betas, prediction.body_pose, prediction.global_orient)
        return (out.vertices - out.joints[:, :1]).float().cpu()

    def _settle(self) -> None:
        """Pictures whose people are all predicted."""
        assert self._loader is not None
        self._found.update((f.file, f) for f in self._loader.take_pictures())
        for file in [f for f, found in self._found.items() if len(self._rows.get(f, ())) == len(found.people)]:
            found, rows = self._found.pop(file), self._rows.pop(file, [])
            if rows:
                self._draw(found, rows)
            self._ready += [row for row, _, _ in rows]
            self._lines.append(
                PictureLine(file, found.stamp, found.height, found.width, len(found.people), found.error)
            )

    def _draw(self, found: FoundPicture, rows: Sequence[tuple[Row, Tensor | None, Tensor]]) -> None:
        if self.meshes and self._body is not None:
            faces = self._body.faces.cpu().numpy()
            for row, vertices, _ in rows:
                assert vertices is not None
                placed = vertices.numpy() + np.asarray(row["transl"], np.float32)
                write_mesh(self._mesh_path(found.file, row["person"]), placed, faces)
        if not self.overlays:
            return
        image, _ = read_picture(self._images / found.file)
        if self._body is not None:
            camera = torch.stack([c for _, _, c in rows])
            bodies = torch.stack([v for _, v, _ in rows if v is not None]) + camera[:, None, :, 3]
            depth = torch.tensor([float(row["transl"][2]) for row, _, _ in rows])
            drawn = draw_people(image, bodies, self._body.faces, camera[:, :, :3], depth, self.overlay_size)
        else:
            drawn = image
            for row, _, _ in rows:
                drawn = draw_skeleton(drawn, np.asarray(row["joints2d"]), np.ones(32), zoom=1)
            zoom = min(1.0, self.overlay_size / max(drawn.shape))
            drawn = cv2.resize(drawn, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA) if zoom < 1 else drawn
        path = self._overlay_path(found.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}")
        partial.write_bytes(cv2.imencode(".png", drawn[..., ::-1])[1].tobytes())
        partial.replace(path)

    def _flush(self) -> None:
        """What is done since the last part, as a part."""
        if self._lines:
            name = f"{time.time_ns()}-{self._rank}-{os.getpid()}-{self._parts}.parquet"
            write_part(self.folder / "parts" / name, Part(tuple(self._lines), to_table(self._ready), self._maker))
            self._lines, self._ready, self._parts = [], [], self._parts + 1
        self._written = time.monotonic()

    # -- after -------------------------------------------------------------------------------------------------------
    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._loader is None:
            return
        self._settle()
        self._flush()
        trainer.strategy.barrier("predictions")
        if trainer.is_global_zero:
            paths = self._part_files()
            whole = join_parts(read_part(p) for p in paths)
            files = set(self._loader.pictures.files)
            gone = len({line.file for line in whole.pictures} - files)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_part(self.folder / "predictions.parquet", whole)
            write_summary(self.folder, whole)
            shutil.rmtree(self.folder / "parts", ignore_errors=True)
            self._tell(whole, gone)
        trainer.strategy.barrier("predictions written")

    def _tell(self, whole: Part, gone: int) -> None:
        bad = sum(bool(line.error) for line in whole.pictures)
        empty = sum(not line.people and not line.error for line in whole.pictures)
        notes = [
            f"{count} {what}"
            for count, what in (
                (self._before, "done in an earlier run"),
                (empty, "without people"),
                (bad, "could not be read (pictures.csv says why)"),
                (gone, "no longer in the folder"),
            )
            if count
        ]
        Console().print(
            f"{whole.table.num_rows} people in {len(whole.pictures)} pictures{''.join(f', {n}' for n in notes)}: "
            f"{self.folder / 'predictions.parquet'}",
            soft_wrap=True,
            highlight=False,
        )


def _row(person: FoundPerson, said: Prediction, k: int, transl: Tensor, pixels: Tensor) -> Row:
    names = ("betas", "global_orient", "body_pose", "joints3d")
    return {
        "picture": person.file,
        "person": person.person,
        "score": person.score,
        "box": person.box,
        "intrinsics": person.intrinsics,
        "transl": transl.numpy(),
        "joints2d": pixels.numpy(),
        **{n: getattr(said, n)[k].numpy() for n in names},
    }


def _name_of(body: BodyModel | None) -> str:
    """Tells bodies apart, whose betas mean different things."""
    if body is None:
        return ""
    return hashlib.sha256(body.v_template.cpu().numpy().tobytes()).hexdigest()[:16]
