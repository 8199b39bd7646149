"""Pictures without labels: a folder of them, the people a detector finds there, and their crops in batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from human.batch import PoseBatch
from human.camera import guess_intrinsics
from human.crop import Array, crop_affine, square_box, transform_intrinsics, warp_image
from human.detectors import PersonDetector, Picture
from human.errors import PosesynError

log = logging.getLogger(__name__)

SUFFIXES = frozenset(
    f".{ending}"
    for ending in ("bmp", "dib", "gif", "jp2", "jpe", "jpeg", "jpg", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp")
)
#: Diagonal of the 36 x 24 mm frame that EXIF's 35 mm equivalents refer to.
FULL_FRAME_MM = 43.2666


@dataclass(frozen=True)
class FoundPerson:
    """Person number ``person`` of ``file``: ``box`` (4,) xyxy px, its ``score``, the crop's ``affine`` (2,3) from
    picture px to crop px, and the picture's ``intrinsics`` (3,3) px."""

    file: str
    person: int
    box: Array
    score: float
    affine: Array
    intrinsics: Array


@dataclass(frozen=True)
class FoundPicture:
    """What came of a picture: its size in px and people, or the ``error`` why it could not be read. ``stamp`` (bytes,
    ns of the last change) tells a file from one that replaces it."""

    file: str
    stamp: tuple[int, int]
    height: int = 0
    width: int = 0
    people: tuple[FoundPerson, ...] = ()
    error: str = ""
    crops: Picture = field(default_factory=lambda: np.zeros((0, 1, 1, 3), np.uint8), repr=False, compare=False)


def list_pictures(folder: str | Path) -> list[str]:
    """Pictures in ``folder`` and below it, by their names' endings: relative, with /, sorted."""
    root = Path(folder)
    if not root.is_dir():
        raise PosesynError(f"no folder of pictures at {root.absolute()}: check data.images")
    files = sorted(
        p.relative_to(root).as_posix() for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()
    )
    if not files:
        raise PosesynError(f"no pictures in {root.absolute()} or below it: they end in {', '.join(sorted(SUFFIXES))}")
    return files


def stamp_of(path: Path) -> tuple[int, int]:
    """(bytes, ns of the last change); zeros for a file that is gone."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def read_picture(path: Path) -> tuple[Picture, float | None]:
    """(H,W,3) RGB, upright as EXIF says, and the focal length in px where EXIF has one.

    Raises:
        PosesynError: the file is no picture, damaged or cut short.
    """
    try:
        with Image.open(path) as picture:
            focal = _exif_focal(picture)
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I;16"):
                high = (np.asarray(upright, np.uint32) / 257).round().astype(np.uint8)
                return np.repeat(high[..., None], 3, 2), focal
            return np.array(upright.convert("RGB")), focal
    # Pillow raises whatever its decoders raise: OSError, SyntaxError, ValueError, DecompressionBombError, struct.error.
    except Exception as error:
        raise PosesynError(f"{path} cannot be read as a picture ({type(error).__name__}: {error})") from error


def _exif_focal(picture: Image.Image) -> float | None:
    """Pixels, from the 35 mm equivalent; None where EXIF does not have it."""
    try:
        millimetres = float(picture.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.FocalLengthIn35mmFilm, 0))
    except Exception:  # EXIF blocks are often broken; the picture is not
        return None
    return millimetres / FULL_FRAME_MM * float(np.hypot(*picture.size)) if millimetres > 0 else None


def picture_camera(height: int, width: int, focal: float | None = None) -> Array:
    """(3,3) px of a picture with this focal length; CLIFF's guess where it is not known."""
    camera = guess_intrinsics(height, width).double().numpy()
    if focal is not None:
        camera[0, 0] = camera[1, 1] = focal
    return camera


class Pictures(Dataset[FoundPicture]):
    """People in pictures, one picture at a time.

    Args:
        folder: of the pictures.
        files: which ones.
        detector: says where people are.
        size: side of the crops, px.
        box_scale: crop side over the longer side of a person's box, or a convention (:mod:`human.crop_scale`).
        focal: px, of all pictures' cameras; None: EXIF's, else the diagonal.
    """

    def __init__(
        self,
        folder: Path,
        files: Sequence[str],
        detector: PersonDetector,
        size: int,
        box_scale: float | str,
        focal: float | None = None,
    ) -> None:
        self.folder, self.files, self.detector = folder, list(files), detector
        self.size, self.focal = size, focal
        self.box_scale = 1.0 if detector.crops_as_they_are else box_scale

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> FoundPicture:
        file = self.files[number]
        path = self.folder / file
        stamp = stamp_of(path)
        try:
            image, exif = read_picture(path)
        except PosesynError as error:
            return FoundPicture(file, stamp, error=str(error))
        height, width = image.shape[:2]
        camera = picture_camera(height, width, self.focal or exif)
        found = self.detector(image, file)
        people, crops = [], np.zeros((len(found), self.size, self.size, 3), np.uint8)
        for k, (box, score) in enumerate(zip(found.boxes, found.score, strict=True)):
            cx, cy, side = square_box(box, self.box_scale, detected=True)
            affine = crop_affine((cx, cy), side, self.size)
            crops[k] = warp_image(image, affine, self.size)
            people.append(FoundPerson(file, k, box, float(score), affine, camera))
        return FoundPicture(file, stamp, height, width, tuple(people), crops=crops)


class PeopleLoader:
    """Batches of people's crops, picture after picture, and word of every picture.

    Not a DataLoader: how many people there are is known when the last picture has been looked at. Column 2 of a
    batch's keys is the number of a person in :attr:`people`; whoever has dealt with one takes it out (:meth:`take`).

    Args:
        pictures: what is looked at.
        batch_size: people per batch, at most.
        workers: processes that read and detect; 0: this one.
        rank, world: this process looks at every ``world``-th picture.
        done: asked when looping starts, for the files that need not be looked at.
    """

    def __init__(
        self,
        pictures: Pictures,
        batch_size: int,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        done: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self.pictures, self.batch_size, self.workers, self.done = pictures, batch_size, workers, done
        self.mine = pictures.files[rank::world]
        self.people: dict[int, FoundPerson] = {}
        self.seen: list[FoundPicture] = []

    def take(self, number: int) -> FoundPerson:
        return self.people.pop(number)

    def take_pictures(self) -> list[FoundPicture]:
        """The pictures that were looked at since the last call, without their crops."""
        seen, self.seen = self.seen, []
        return seen

    def __iter__(self) -> Iterator[PoseBatch]:
        done = set(self.done())
        todo = Pictures.__new__(Pictures)
        todo.__dict__.update(self.pictures.__dict__, files=[f for f in self.mine if f not in done])
        loader: DataLoader[FoundPicture] = DataLoader(
            todo,
            batch_size=None,
            num_workers=min(self.workers, len(todo)),
            multiprocessing_context="forkserver" if self.workers and len(todo) else None,
        )
        waiting: list[tuple[FoundPerson, Picture]] = []
        number = 0
        for found in loader:
            if found.error:
                log.warning("picture skipped: %s", found.error)
            crops = found.crops
            object.__setattr__(found, "crops", crops[:0])
            self.seen.append(found)
            waiting += zip(found.people, crops, strict=True)
            while len(waiting) >= self.batch_size:
                yield self._batch(waiting[: self.batch_size], number)
                number, waiting = number + self.batch_size, waiting[self.batch_size :]
        if waiting:
            yield self._batch(waiting, number)

    def _batch(self, people: Sequence[tuple[FoundPerson, Picture]], number: int) -> PoseBatch:
        batch = PoseBatch.blank(len(people), self.pictures.size)
        pixels = batch.image.numpy()
        for k, (person, crop) in enumerate(people):
            pixels[k] = crop.transpose(2, 0, 1)
            batch.intrinsics[k] = torch.from_numpy(transform_intrinsics(person.affine, person.intrinsics)).float()
            batch.key[k, 2] = number + k
            self.people[number + k] = person
        return batch
