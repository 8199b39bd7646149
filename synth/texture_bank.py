"""A bank of garment textures made once from a folder of clothing pictures, and kept in the user's cache."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from human.assets import cache_root
from human.body import BodyModel, load_body
from human.errors import PosesynError
from human.rng import generator
from synth.garment_outlines import KINDS, LOWER, UPPER, WHOLE, Outline, garment_outlines
from synth.texture_transfer import cut_out, join_at_waist, match_contour, mirrored, two_views, warp_to_plane

_VERSION = 1  # of what is made from a picture; part of the fingerprint
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
#: Words in a folder's or file's name that tell what its garments are.
_WORDS = {
    UPPER: ("upper", "top", "shirt", "blouse", "sweater", "pullover", "jacket", "coat", "hoodie"),
    LOWER: ("lower", "bottom", "trouser", "pants", "jeans", "shorts", "skirt", "legging"),
    WHOLE: ("whole", "dress", "suit", "overall", "onepiece"),
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextureBank:
    """N garment textures in the planar frame (:mod:`synth.planar`).

    ``textures`` (N, 2, T, T, 3) uint8 sRGB, front and back view; ``kinds`` and ``names`` (N,) str: "upper", "lower" or
    "whole", and the picture's path below its folder. ``skipped``: pictures that gave no texture, as "path: why".
    """

    textures: np.ndarray
    kinds: np.ndarray
    names: np.ndarray
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape, count = self.textures.shape, len(self.textures)
        if len(shape) != 5 or shape[1] != 2 or shape[2] != shape[3] or shape[4] != 3 or self.textures.dtype != np.uint8:
            raise PosesynError(f"garment textures must be (N, 2, T, T, 3) uint8, got {shape} of {self.textures.dtype}")
        if self.kinds.shape != (count,) or self.names.shape != (count,) or set(self.kinds) - set(KINDS):
            raise PosesynError(f"a texture bank needs a kind out of {', '.join(KINDS)} and a name for each texture")

    def __len__(self) -> int:
        return len(self.textures)

    @cached_property
    def digest(self) -> str:
        """Names the bank's contents, for provenance and configuration hashes."""
        total = hashlib.sha256(f"{self.textures.shape} {' '.join(self.kinds)}".encode())
        total.update(self.textures.tobytes())
        return total.hexdigest()[:16]

    def of_kind(self, kind: str) -> np.ndarray:
        """Indices of the textures of a kind."""
        if kind not in KINDS:
            raise PosesynError(f"no garment is of kind {kind!r}; known: {', '.join(KINDS)}")
        return np.flatnonzero(self.kinds == kind)

    def first(self, pictures: int) -> TextureBank:
        """The bank of the first ``pictures`` pictures only (with all that was made of them), as the paper's ablation
        over the number of textures needs."""
        sources = list(dict.fromkeys(name.split("|")[0] for name in self.names))[:pictures]
        keep = np.array([set(_sources(str(name))) <= set(sources) for name in self.names], dtype=bool)
        return TextureBank(self.textures[keep], self.kinds[keep], self.names[keep], self.skipped)


def _sources(name: str) -> list[str]:
    return [part.split("|")[0] for part in name.split(" + ")]


def build_texture_bank(
    folder: str | Path,
    size: int = 256,
    *,
    mirror: bool = True,
    joined: int = 0,
    body: BodyModel | None = None,
    cache: str | Path | None = None,
) -> TextureBank:
    """All garments in a folder of pictures on plain backgrounds (jpg, png, webp; folders in it are searched too).

    What a garment is is read from its folder's or file's name ("tops", "lower", "dress", ...) and else decided by its
    contour. ``name_back.jpg`` beside ``name.jpg`` is the same garment from behind. Made once per content: the result
    is kept in the cache under a fingerprint of the pictures and the settings.

    Args:
        folder: where the pictures are.
        size: T, texels of each side of a view (256: 7 mm each).
        mirror: add each garment's mirror image.
        joined: textures for the whole body to add, each a random upper and lower garment with a random seam.
        body: the body whose outlines are matched; the free one by default.
        cache: folder for the results.

    Raises:
        PosesynError: no such folder, no picture in it, or none with a garment.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise PosesynError(f"there is no folder of clothing pictures at {root}: give one with jpg, png or webp files")
    if not 16 <= size <= 2048 or joined < 0:
        raise PosesynError(f"a texture bank needs a size from 16 to 2048 and joined >= 0, got {size} and {joined}")
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    if not paths:
        raise PosesynError(f"the folder {root} holds no clothing pictures: put jpg, png or webp files in it")
    body = body if body is not None else load_body()
    print_ = hashlib.sha256(repr((_VERSION, size, mirror, joined, float(body.v_template.double().sum()))).encode())
    for path in paths:
        print_.update(f"{path.relative_to(root)}\0".encode())
        print_.update(hashlib.sha256(path.read_bytes()).digest())
    kept = (Path(cache) if cache else cache_root() / "textures") / f"{print_.hexdigest()[:24]}.npz"
    found = _load(kept)
    if found is None:
        found = _build(root, paths, size, mirror, joined, body)
        _save(kept, found)
    for reason in found.skipped:
        _log.warning("clothing picture skipped: %s", reason)
    if found.skipped:
        _log.warning("%d of %d clothing pictures in %s were skipped", len(found.skipped), len(paths), root)
    if not len(found):
        raise PosesynError(
            f"none of the {len(paths)} pictures in {root} shows a garment on a plain background (the first: "
            f"{found.skipped[0]}): replace them"
        )
    return found


def _build(root: Path, paths: Sequence[Path], size: int, mirror: bool, joined: int, body: BodyModel) -> TextureBank:
    outlines = garment_outlines(body)
    views: dict[str, tuple[np.ndarray, str]] = {}
    skipped = []
    for path in paths:
        name = path.relative_to(root).as_posix()
        try:
            views[name] = _view(path, name, outlines, size)
        except PosesynError as error:
            skipped.append(f"{name}: {error}")
    stems = {str(Path(name).with_suffix("")): name for name in views}
    textures, kinds, names = [], [], []
    for name, (view, kind) in views.items():
        stem = str(Path(name).with_suffix(""))
        if stem.endswith("_back") and (stem[:-5] in stems or f"{stem[:-5]}_front" in stems):
            continue
        behind = stems.get(f"{stem.removesuffix('_front')}_back")
        texture = two_views(view, views[behind][0] if behind else None)
        made = [(texture, name), (mirrored(texture), f"{name}|mirrored")] if mirror else [(texture, name)]
        for one, called in made:
            textures.append(one)
            kinds.append(kind)
            names.append(called)
    uppers, lowers = ([i for i, k in enumerate(kinds) if k == kind] for kind in (UPPER, LOWER))
    for number in range(joined if uppers and lowers else 0):
        rng = generator("joined garments", number)
        top, bottom = int(rng.choice(uppers)), int(rng.choice(lowers))
        textures.append(join_at_waist(textures[top], textures[bottom], rng))
        kinds.append(WHOLE)
        names.append(f"{names[top]} + {names[bottom]}")
    stack = np.stack(textures) if textures else np.zeros((0, 2, size, size, 3), np.uint8)
    return TextureBank(stack, np.array(kinds, dtype=str), np.array(names, dtype=str), tuple(skipped))


def _view(path: Path, name: str, outlines: list[Outline], size: int) -> tuple[np.ndarray, str]:
    read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if read is None:
        raise PosesynError("the file cannot be read as a picture")
    if read.dtype == np.uint16:
        read = (np.asarray(read, np.uint16) >> 8).astype(np.uint8)
    alpha = read[..., 3] if read.ndim == 3 and read.shape[2] == 4 else None
    image = cv2.cvtColor(read, cv2.COLOR_GRAY2RGB) if read.ndim == 2 else np.ascontiguousarray(read[..., 2::-1])
    kinds = _told_by(name)
    garment = cut_out(image, alpha)
    match = match_contour(garment, [o for o in outlines if o.kind in kinds])
    view, _ = warp_to_plane(garment, match, size)
    return view, match.outline.kind


def _told_by(name: str) -> tuple[str, ...]:
    """The kinds that the nearest telling word of a path allows."""
    for part in reversed(Path(name.lower()).parts):
        said = tuple(kind for kind, words in _WORDS.items() if any(word in part for word in words))
        if len(said) == 1:
            return said
    return KINDS


def _load(path: Path) -> TextureBank | None:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return TextureBank(
                archive["textures"], archive["kinds"], archive["names"], tuple(str(s) for s in archive["skipped"])
            )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        _log.warning("%s is broken (%s) and made anew", path, error)
        return None


def _save(path: Path, bank: TextureBank) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, suffix=".draft")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(
                file,
                textures=bank.textures,
                kinds=bank.kinds.astype(str),
                names=bank.names.astype(str),
                skipped=np.array(bank.skipped, dtype=str),
            )
        os.replace(draft, path)
    finally:
        Path(draft).unlink(missing_ok=True)
