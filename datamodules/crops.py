"""From persons in pictures to PoseBatches: crops without augmentation (mined, validated) and with it (trained on)."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.progress import track

from datamodules.crop_bodies import fill_body
from datamodules.readers.base import PersonIndex, PoseReader, decoded
from human.assets import cache_root
from human.batch import HIPS, PELVIS, PoseBatch
from human.camera import guess_intrinsics
from human.crop import crop_affine, rotation_of, square_box, transform_intrinsics, transform_points, warp_image
from human.errors import PosesynError
from human.rng import generator
from human.skeleton import POSE32

log = logging.getLogger(__name__)
_FLIP = list(POSE32.flip_permutation)


@dataclass
class Augmentation:
    """Ranges of what is done to a real crop in training; all drawn from the sample's seed.

    Args:
        scale: the box grows by a factor uniform in 1 +- this.
        shift: the box moves by up to this fraction of its side.
        rotation: standard deviation of the in-plane rotation, degrees, clipped to twice that; done to ``rotation_p``
            of samples.
        flip_p: mirrored samples.
        colour: contrast, brightness and tint by up to this fraction.
        low_res_p: samples shrunk and enlarged again, by up to 3.
        erase_p: samples with a random rectangle of noise.
    """

    scale: float = 0.2
    shift: float = 0.06
    rotation: float = 20.0
    rotation_p: float = 0.5
    flip_p: float = 0.5
    colour: float = 0.25
    low_res_p: float = 0.1
    erase_p: float = 0.2


def label_batch(
    index: PersonIndex,
    rows: np.ndarray,
    affines: Sequence[np.ndarray],
    images: Sequence[np.ndarray | None],
    flips: Sequence[bool],
    pictures: Sequence[tuple[int, int]] | None = None,
    kind: str = "",
    own: str = "free",
) -> PoseBatch:
    """One PoseBatch of persons ``rows`` of ``index``, each seen through its (2,3) affine map; None is an unreadable
    picture. Where the index has no camera one is guessed from the whole ``pictures``' (height, width), if given.
    ``kind`` and ``own``: the bodies of the labels and of the estimator (:func:`datamodules.crop_bodies.fill_body`).
    """
    size = next((im.shape[0] for im in images if im is not None), 1)
    batch = PoseBatch.blank(len(rows), size)
    pixels = batch.image.numpy()
    for k, (row, affine, image, flip) in enumerate(zip(rows, affines, images, flips, strict=True)):
        if image is None:
            batch.weight[k] = 0
            continue
        pixels[k] = image.transpose(2, 0, 1)
        j2d, j3d = index.joints2d[row], index.joints3d[row]
        if flip:
            j2d, j3d = j2d[_FLIP], j3d[_FLIP]
        xy = transform_points(affine, j2d[:, :2])
        labelled = (j2d[:, 2] > 0) & np.isfinite(xy).all(1)
        batch.joints2d[k] = torch.from_numpy(np.where(labelled[:, None], xy, 0.0)).float()
        batch.joints2d_conf[k] = torch.from_numpy(np.where(labelled, j2d[:, 2], 0.0)).float()
        conf3d = np.where(np.isfinite(j3d).all(1), j3d[:, 3], 0.0)
        root = j3d[PELVIS, :3] if conf3d[PELVIS] > 0 else j3d[HIPS, :3].mean(0)
        if conf3d[PELVIS] <= 0 and (conf3d[HIPS] <= 0).any():
            conf3d = np.zeros_like(conf3d)  # no root: 3D labels relative to it do not exist
        turned = (j3d[:, :3] - root) @ rotation_of(affine).T
        batch.joints3d[k] = torch.from_numpy(np.where(conf3d[:, None] > 0, turned, 0.0)).float()
        batch.joints3d_conf[k] = torch.from_numpy(conf3d).float()
        camera = index.intrinsics[row]
        if not np.isfinite(camera).all():
            if pictures is None:
                continue
            camera = guess_intrinsics(*pictures[k]).numpy()
        batch.intrinsics[k] = torch.from_numpy(transform_intrinsics(affine, camera)).float()
    fill_body(batch, index, np.asarray(rows), affines, flips, kind, own)
    return batch


def read_crop(reader: PoseReader, row: int, affine: np.ndarray, size: int) -> tuple[np.ndarray | None, tuple[int, int]]:
    """The person's crop and the whole picture's (height, width); or None and (0, 0), logged once per picture, when the
    picture cannot be read.
    """
    try:
        picture = reader.read_image(row)
    except PosesynError as error:
        log.warning("%s: picture of person %s skipped: %s", reader.name, reader.index.ids[row], error)
        return None, (0, 0)
    return warp_image(picture, affine, size), (picture.shape[0], picture.shape[1])


def augmented_crops(
    reader: PoseReader,
    rows: np.ndarray,
    seeds: np.ndarray,
    size: int,
    box_scale: float | str,
    aug: Augmentation,
    body: str = "free",
) -> PoseBatch:
    """Training crops for an estimator of that ``body``; each is a function of its row and seed."""
    affines, images, flips, pictures = [], [], [], []
    for row, seed in zip(rows, seeds, strict=True):
        rng = generator(int(seed), "augment")
        cx, cy, side = square_box(reader.index.bbox_xyxy[row], box_scale)
        shift = rng.uniform(-aug.shift, aug.shift, 2) * side
        side *= rng.uniform(1 - aug.scale, 1 + aug.scale)
        turn = float(np.clip(rng.normal(), -2, 2) * aug.rotation) if rng.random() < aug.rotation_p else 0.0
        flip = bool(rng.random() < aug.flip_p)
        affine = crop_affine((cx + shift[0], cy + shift[1]), side, size, turn, flip)
        image, picture = read_crop(reader, int(row), affine, size)
        images.append(None if image is None else distort(image, rng, aug))
        affines.append(affine)
        flips.append(flip)
        pictures.append(picture)
    return label_batch(reader.index, rows, affines, images, flips, pictures, reader.body, body)


def distort(image: np.ndarray, rng: np.random.Generator, aug: Augmentation) -> np.ndarray:
    """Colour, resolution and occlusion changes that leave labels alone."""
    size = image.shape[0]
    if rng.random() < aug.low_res_p:
        small = max(8, int(size / rng.uniform(1.2, 3.0)))
        image = cv2.resize(cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA), (size, size))
    if aug.colour > 0:
        gain = rng.uniform(1 - aug.colour, 1 + aug.colour) * rng.uniform(1 - aug.colour / 3, 1 + aug.colour / 3, 3)
        offset = rng.uniform(-aug.colour, aug.colour) * 40
        table = np.clip(np.arange(256)[:, None] * gain + offset, 0, 255).astype(np.uint8)
        image = cv2.LUT(image, table[:, None, :])
    if rng.random() < aug.erase_p:
        w, h = rng.integers(size // 12, size // 3, 2)
        x, y = rng.integers(0, size - w), rng.integers(0, size - h)
        image = image.copy()
        image[y : y + h, x : x + w] = (
            rng.integers(0, 256, (h, w, 3), dtype=np.uint8) if rng.random() < 0.5 else rng.integers(0, 256, 3)
        )
    return image


@dataclass
class CropSet:
    """Crops of a reader without augmentation, made once and kept in a memory-mapped file.

    Mining and validation look at the same crops every epoch: after the first time they cost a copy from the page cache.
    The file is named by what it holds (reader, persons, boxes, size), so that it is never stale but when pictures
    change in place. ``body``: the estimator's.
    """

    reader: PoseReader
    size: int = 128
    box_scale: float | str = 1.25
    cache: Path | None = None
    body: str = "free"
    _pixels: np.ndarray | None = field(default=None, repr=False)
    _pictures: np.ndarray | None = field(default=None, repr=False)  # (N,2) height, width; 0: unreadable

    @property
    def name(self) -> str:
        return self.reader.name

    def __len__(self) -> int:
        return len(self.reader.index.ids)

    @property
    def ids(self) -> Sequence[str]:
        return self.reader.index.ids

    @property
    def people(self) -> np.ndarray:
        return self.reader.index.people

    @property
    def labelled(self) -> np.ndarray:
        return self.reader.index.joints2d[:, :, 2] > 0

    @cached_property
    def activities(self) -> list[str]:
        """What each person does, as the data set names it (MPII); "" where it says nothing."""
        column = self.reader.index.extras.get("activity")
        return [""] * len(self) if column is None else decoded(column)

    def affine(self, row: int) -> np.ndarray:
        cx, cy, side = square_box(self.reader.index.bbox_xyxy[row], self.box_scale)
        return crop_affine((cx, cy), side, self.size)

    def crops(self, indices: np.ndarray) -> PoseBatch:
        """See :class:`synth.eem.MiningData`."""
        pixels, pictures = self._open()
        indices = np.asarray(indices)
        images = [np.asarray(pixels[i]) if pictures[i].all() else None for i in indices]
        sizes = [(int(h), int(w)) for h, w in pictures[indices]]
        affines = [self.affine(int(i)) for i in indices]
        upright = [False] * len(indices)
        batch = label_batch(self.reader.index, indices, affines, images, upright, sizes, self.reader.body, self.body)
        if batch.size != self.size:  # every picture of the request is unreadable
            batch = PoseBatch.blank(len(indices), self.size).replace(weight=torch.zeros(len(indices)))
        batch.key[:, 2] = torch.from_numpy(indices.astype(np.int64))
        return batch

    def picture(self, row: int, side: int) -> np.ndarray | None:
        """The same crop at ``side`` pixels, (side,side,3) uint8, for engines that work at another size than the
        estimator; None where the picture cannot be read.
        """
        larger = replace(self, size=side, _pixels=None, _pictures=None)
        return read_crop(self.reader, row, larger.affine(row), side)[0]

    def fingerprint(self) -> str:
        """Names the crops: a hash of the reader, its persons and boxes, and the crop's size and scale."""
        digest = hashlib.sha256(
            f"{self.reader.describe()}|{self.reader.source}|{self.size}|{self.box_scale}|3".encode()
        )
        digest.update("\n".join(self.ids).encode())
        digest.update(np.ascontiguousarray(self.reader.index.bbox_xyxy).tobytes())
        return digest.hexdigest()[:16]

    def _open(self) -> tuple[np.ndarray, np.ndarray]:
        if self._pixels is None or self._pictures is None:
            folder = self.cache or cache_root() / "crops"
            stem = f"{self.name}-{self.fingerprint()}"
            rgb, sizes = folder / f"{stem}.rgb", folder / f"{stem}.pictures.npy"
            shape = (len(self), self.size, self.size, 3)
            if not _whole(rgb, sizes, shape):
                folder.mkdir(parents=True, exist_ok=True)
                with _alone(folder):  # of several ranks one decodes, the others find it done
                    if not _whole(rgb, sizes, shape):
                        self._build(rgb, sizes)
            try:
                self._pictures = np.load(sizes, allow_pickle=False)
                if self._pictures.shape != (len(self), 2) or self._pictures.dtype.kind not in "iu":
                    raise ValueError(f"{self._pictures.dtype} {self._pictures.shape}")
            except (OSError, ValueError, EOFError) as error:
                log.warning("%s: the cache %s is damaged (%s) and is made anew", self.name, sizes, error)
                self._build(rgb, sizes)
                self._pictures = np.load(sizes, allow_pickle=False)
            self._pixels = np.memmap(rgb, np.uint8, "r", shape=shape) if len(self) else np.zeros(shape, np.uint8)
            if missing := int((self._pictures == 0).any(1).sum()):
                log.warning(
                    "%s: %d of %d pictures could not be read and are left out; if you restore them, delete %s",
                    self.name, missing, len(self), rgb,
                )  # fmt: skip
        return self._pixels, self._pictures

    def _build(self, rgb: Path, sizes: Path) -> None:
        pictures = np.zeros((len(self), 2), np.int32)
        # Written under another name and renamed: a run killed here leaves nothing that looks whole. The sizes come
        # last.
        partial = rgb.with_name(f"{rgb.name}.{os.getpid()}.part")
        with partial.open("wb") as file:
            rows = range(len(self))
            for row in track(rows, f"cropping {self.name}", transient=True, disable=len(self) < 500):
                image, pictures[row] = read_crop(self.reader, row, self.affine(row), self.size)
                file.write((np.zeros((self.size, self.size, 3), np.uint8) if image is None else image).tobytes())
        partial.replace(rgb)
        with partial.open("wb") as file:
            np.save(file, pictures)
        partial.replace(sizes)

    def __getstate__(self) -> dict[str, object]:
        # A memory map would be pickled by value.
        return {**self.__dict__, "_pixels": None, "_pictures": None}


def _whole(rgb: Path, sizes: Path, shape: tuple[int, ...]) -> bool:
    return sizes.is_file() and rgb.is_file() and rgb.stat().st_size == np.prod(shape)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process of the machine at a time; where the file system cannot, all of them."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
