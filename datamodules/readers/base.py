"""What every dataset reader offers: one table of labelled persons in POSE32 order, and their pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from human.errors import PosesynError
from human.registry import Registry, make
from human.skeleton import POSE32, convert, get_skeleton

if TYPE_CHECKING:
    from metrics.truth import Truth

READERS: Registry[type[PoseReader]] = Registry("reader")

FloatArray = npt.NDArray[np.float32]

#: Columns that a data set may have besides: type and shape of a row (J native joints, K bones, S shape numbers).
EXTRAS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "native2d": ("float32", "(J,3) px of the picture, confidence; in the reader's `skeleton`"),
        "native3d": ("float32", "(J,4) metres, camera frame (absolute where the set has that), confidence"),
        "universal3d": ("float32", "(J,4) as native3d, of a skeleton scaled to one height for all (MPI-INF-3DHP)"),
        "state": ("int8", "(J,) the set's own visibility flag, as written"),
        "pose": (
            "float32",
            "(K,3) rotation vectors in the body file's order (24, 52, 55), the root first, turned into the "
            "camera frame; hands whole, the mean hand in them",
        ),
        "betas": ("float32", "(S,)"),
        "transl": ("float32", "(3,) metres, camera frame: what `body` takes"),
        "gender": ("int8", "() 0 neutral, 1 male, 2 female: whose `betas` these are"),
        "silhouette": ("uint8", "(H,W/8) where the person is in the picture, 8 pixels a byte (numpy.packbits)"),
        "parts": (
            "uint8",
            "(H,W) the part that each pixel shows, from the picture's top left corner: 0 none, else 1 + the place in "
            "human.part_labels.PARTS, 255 not to be counted",
        ),
        "size": ("int32", "(2,) px: width and height of the picture"),
        "head_box": ("float32", "(4,) px xyxy"),
        "head_size": ("float32", "() px: PCKh's unit, 0.6 of the head box's diagonal"),
        "area": ("float32", "() px^2 of the person's segment"),
        "crop": ("float32", "(3,) px: centre x, centre y, side of the set's own square"),
        "sequence": ("int32", "() number of the sequence, video or subset the person is of"),
        "frame": ("int32", "() number of the frame in it"),
        "person": ("int32", "() number of the person in the picture, or track in the sequence"),
        "camera": ("float32", "(4,4) world to camera, metres"),
        "distortion": ("float32", "(5,) k1 k2 p1 p2 k3 of OpenCV"),
        "score": ("float32", "() a detector's confidence in the box"),
        "crowd": ("int8", "() 1: not a single person, ignored by COCO's evaluator"),
        "detected": ("int16", "() 2D joints that the set's own detector found"),
        "subjects": ("int16", "() persons that the sequence was recorded with, in the picture or not"),
        "occlusion": ("float32", "() % of the person that is hidden, by others or the picture's border (AGORA)"),
        "valid": ("int8", "() 1: counted by the set's own evaluation (AGORA)"),
        "kid": ("int8", "() 1: a child (AGORA)"),
        "activity": (
            "uint8",
            "(64,) what the person does, in the set's words (MPII, SMART, skipose): UTF-8, zeros behind",
        ),
        "kid_betas": (
            "float32",
            "(11,) shape of a child and weight of the children's template, NaN for others (AGORA)",
        ),
        "group": ("int32", "() what the protocols of a set split it by: activity, action, camera"),
    }
)


def coded(names: Sequence[str], width: int = 64) -> npt.NDArray[np.uint8]:
    """(N, width) UTF-8 of short names, cut at a letter's end, zeros behind: the form of the column "activity"."""
    cut = [name.encode()[:width].decode(errors="ignore").encode() for name in names]
    rows = [np.frombuffer(text.ljust(width, b"\0"), np.uint8) for text in cut]
    return np.stack(rows) if rows else np.zeros((0, width), np.uint8)


def decoded(column_NW: npt.NDArray[np.uint8]) -> list[str]:
    """The names that :func:`coded` wrote; the same text is one object."""
    known: dict[bytes, str] = {}
    texts = [row.tobytes().rstrip(b"\0") for row in np.asarray(column_NW, np.uint8)]
    return [known.setdefault(text, text.decode(errors="replace")) for text in texts]


@dataclass(frozen=True)
class PersonIndex:
    """N labelled persons, one column per fact.

    ids: unique names, stable between runs. image: (N,) int32 number of the picture. bbox_xyxy: (N,4) px, tight about
    the labelled joints (crops enlarge it). joints2d: (N,32,3) px and confidence. joints3d: (N,32,4) metres in the
    camera frame (absolute where ``intrinsics`` are known) and confidence. intrinsics: (N,3,3) of the picture, NaN when
    unknown. people: (N,) int16 persons known to be in that picture. Values of joints with confidence 0 mean nothing.
    ``extras``: what else the data set says, by the names in :data:`EXTRAS`. Columns may be memory maps.
    """

    ids: Sequence[str]
    image: npt.NDArray[np.int32]
    bbox_xyxy: FloatArray
    joints2d: FloatArray
    joints3d: FloatArray
    intrinsics: FloatArray
    people: npt.NDArray[np.int16]
    extras: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, mask: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> PersonIndex:
        """The persons where a boolean (N,) mask is true, or at integer positions, in that order."""
        rows = np.arange(len(self))[mask]
        arrays = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name not in ("ids", "extras")}
        extras = {name: column[rows] for name, column in self.extras.items()}
        return PersonIndex(ids=[self.ids[i] for i in rows], extras=extras, **arrays)

    def validate(self) -> PersonIndex:
        """Itself, or :class:`PosesynError` that names the first column (and person) that is wrong."""
        n, j = len(self), len(POSE32)
        shapes = {"image": (n,), "people": (n,), "bbox_xyxy": (n, 4), "intrinsics": (n, 3, 3)}
        shapes |= {"joints2d": (n, j, 3), "joints3d": (n, j, 4)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise PosesynError(f"a person index has {name} of shape {getattr(self, name).shape}, expected {shape}.")
        if len(set(self.ids)) != n:
            seen: set[str] = set()
            twice = next(i for i in self.ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
            raise PosesynError(f"a person index names the person {twice!r} twice; ids must be unique.")
        with np.errstate(invalid="ignore"):
            box_size = self.bbox_xyxy[:, 2:] - self.bbox_xyxy[:, :2]
        self._refuse(~(np.isfinite(self.bbox_xyxy).all(1) & (box_size > 0).all(1)), "bbox_xyxy is empty or not finite")
        for name in ("joints2d", "joints3d"):
            values = getattr(self, name)
            conf = values[..., -1]
            self._refuse(~((conf >= 0) & (conf <= 1)).all(1), f"{name} has a confidence outside 0 .. 1")
            bad = (conf > 0) & ~np.isfinite(values).all(-1)
            self._refuse(bad.any(1), f"{name} has a labelled joint that is not finite")
        # Without a camera 3D labels may be relative to a root.
        absolute = np.asarray(np.isfinite(self.intrinsics).all((1, 2)))[:, None]
        behind = (self.joints3d[..., 3] > 0) & (self.joints3d[..., 2] <= 0) & absolute
        self._refuse(behind.any(1), "joints3d has a labelled joint behind the camera")
        self._refuse(self.people < 1, "people is less than the person itself")
        return self

    def _refuse(self, bad_N: npt.ArrayLike, what: str) -> None:
        wrong = np.flatnonzero(bad_N)
        if len(wrong):
            raise PosesynError(f"person {self.ids[wrong[0]]!r} ({len(wrong)} of {len(self)}): {what}.")


class PoseReader(ABC):
    """A dataset on disk.

    Attributes: ``name`` in READERS; ``licence`` in words; ``skeleton`` the native joint set; ``index`` its persons;
    ``source`` tells two folders of pictures with equal labels apart (crops are cached under it). ``body``: which model
    ``extras["pose"]`` is of ("smpl", "smplh", "smplx", "free"; "" for none). ``split`` and ``pictures`` (a name for
    each person's picture) as far as the set has them. ``checked``: the index need not be validated again.
    """

    name: str
    licence: str
    skeleton: str
    index: PersonIndex
    source: str = ""
    body: str = ""
    split: str = ""
    pictures: Sequence[str] = ()
    checked: bool = False

    @abstractmethod
    def read_image(self, i: int) -> npt.NDArray[np.uint8]:
        """(H, W, 3) RGB picture of person ``i``; :class:`PosesynError` names a picture that cannot be read."""

    def truth(self) -> Truth:
        """What an evaluation compares with; columns are not copied."""
        from metrics.truth import Truth  # and torchmetrics, which loader processes do not need

        if not len(self.index):
            raise PosesynError(f"{self.name} has nobody to evaluate on")
        index = self.index
        columns: dict[str, npt.NDArray[Any]] = dict(index.extras)
        columns |= {name: getattr(index, name) for name in ("bbox_xyxy", "intrinsics", "image")}
        skeleton = self.skeleton if "native2d" in columns else "pose32"
        if "native2d" not in columns:
            columns |= {"native2d": index.joints2d, "native3d": index.joints3d}
        pictures = self.pictures or [str(number) for number in index.image]
        return Truth(self.name, self.split, skeleton, self.body, index.ids, pictures, columns)

    def describe(self) -> str:
        """One line: what, how many, which labels, licence."""
        n2d = int((self.index.joints2d[..., 2] > 0).sum())
        n3d = int((self.index.joints3d[..., 3] > 0).sum())
        return (
            f"{self.name}: {len(self.index)} persons in {len(np.unique(self.index.image))} pictures, "
            f"{n2d} 2D and {n3d} 3D joints ({self.skeleton}); {self.licence}"
        )


def make_reader(name: str, options: dict[str, Any]) -> PoseReader:
    """The reader ``name`` with arguments from a config and a valid index; :class:`PosesynError` names what is wrong."""
    made = make(READERS, name, options)
    if not made.checked:
        made.index.validate()
    return made


def build_index(
    ids: list[str],
    image: npt.NDArray[np.int_],
    skeleton: str,
    joints2d: npt.NDArray[np.float64],
    conf2d: npt.NDArray[np.float64],
    joints3d: npt.NDArray[np.float64] | None = None,
    conf3d: npt.NDArray[np.float64] | None = None,
    intrinsics: npt.NDArray[np.float64] | None = None,
    people: npt.NDArray[np.int_] | None = None,
) -> PersonIndex:
    """A validated index from labels in a native skeleton: (N,J,2), (N,J), (N,J,3), (N,J), (N,3,3), (N,).

    Boxes are the tight boxes of joints with confidence; every person needs at least two.
    """
    n = len(ids)
    if joints3d is None or conf3d is None:
        joints3d, conf3d = np.zeros((n, len(get_skeleton(skeleton)), 3)), np.zeros(joints2d.shape[:2])
    seen = conf2d[..., None] > 0
    low = np.where(seen, joints2d, np.inf).min(axis=1)
    high = np.where(seen, joints2d, -np.inf).max(axis=1)
    p2, c2 = convert(np.where(seen, joints2d, 0), conf2d, skeleton, "pose32")
    p3, c3 = convert(joints3d, conf3d, skeleton, "pose32")
    unknown = np.full((n, 3, 3), np.nan)
    return PersonIndex(
        ids=ids,
        image=np.asarray(image, dtype=np.int32),
        bbox_xyxy=np.concatenate([low, high], axis=1).astype(np.float32),
        joints2d=np.concatenate([p2, c2[..., None]], axis=-1).astype(np.float32),
        joints3d=np.concatenate([p3, c3[..., None]], axis=-1).astype(np.float32),
        intrinsics=(unknown if intrinsics is None else intrinsics).astype(np.float32),
        people=(np.ones(n) if people is None else people).astype(np.int16),
    ).validate()
