"""One row of the pool: a picture, its labels and where it came from; and the same rows as Arrow tables."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
import pyarrow as pa
import torch

from human.batch import NUM_JOINTS, PoseBatch
from human.errors import PosesynError

# Label columns and the shape of one sample's label; units and frames are PoseBatch's.
LABEL_SHAPES: dict[str, tuple[int, ...]] = {
    "joints2d": (NUM_JOINTS, 2),
    "joints2d_conf": (NUM_JOINTS,),
    "joints3d": (NUM_JOINTS, 3),
    "joints3d_conf": (NUM_JOINTS,),
    "global_orient": (3,),
    "body_pose": (23, 3),
    "betas": (10,),
    "transl": (3,),
    "intrinsics": (3, 3),
}
REQUIRED_LABELS = ("joints2d", "joints2d_conf", "joints3d", "joints3d_conf", "intrinsics")
# The mask that says whether an optional label is there -> the labels that must be.
MASKS = {"has_pose": ("global_orient", "body_pose"), "has_betas": ("betas",), "has_transl": ("transl",)}


class Damaged(PosesynError):
    """Rows of a pool that are there no more, or not as they were written."""


@dataclass(frozen=True)
class Sample:
    """A synthetic sample: encoded picture, labels (arrays or CPU tensors) and provenance.

    A sample that ``passed`` the filter needs ``image`` (JPEG or PNG bytes), the joints with their confidences and the
    intrinsics; body labels that are None are masked in the batch. Of one that did not pass only the provenance is kept.
    Shapes are in :data:`LABEL_SHAPES`, units and frames in :class:`human.batch.PoseBatch`.
    """

    image: bytes = b""
    joints2d: Any = None
    joints2d_conf: Any = None
    joints3d: Any = None
    joints3d_conf: Any = None
    global_orient: Any = None
    body_pose: Any = None
    betas: Any = None
    transl: Any = None
    intrinsics: Any = None
    engine: str = ""  # registered name of the image engine
    engine_config: str = ""  # hash of its configuration
    challenge_id: str = ""  # sample of the 2D set whose pose is imitated
    challenge_error: float | None = None  # its error when mined
    reference_id: str = ""  # sample whose appearance is reused
    caption: str = ""
    seed: int = 0  # int64
    tpe: str = ""  # hash of the estimator's checkpoint that mined and filtered
    err3d: float | None = None  # mm, between the estimator on the picture and the label
    passed: bool = True


_PROVENANCE: dict[str, pa.DataType] = {
    "engine": pa.string(),
    "engine_config": pa.string(),
    "challenge_id": pa.string(),
    "challenge_error": pa.float64(),
    "reference_id": pa.string(),
    "caption": pa.string(),
    "seed": pa.int64(),
    "tpe": pa.string(),
    "err3d": pa.float64(),
    "passed": pa.bool_(),
}
SCHEMA = pa.schema(
    [
        pa.field("generation", pa.int64(), nullable=False),
        pa.field("index", pa.int64(), nullable=False),
        *(pa.field(name, kind) for name, kind in _PROVENANCE.items()),
        *(pa.field(name, pa.list_(pa.float32(), int(np.prod(shape)))) for name, shape in LABEL_SHAPES.items()),
        pa.field("image", pa.binary()),
        pa.field("crc32", pa.uint32()),  # of picture, seed and labels
    ]
)
PROVENANCE_COLUMNS = ["generation", "index", *_PROVENANCE]
READ_COLUMNS = ["image", "crc32", "seed", *LABEL_SHAPES]


def encode_image(image: Any, fmt: Literal["jpeg", "png"] = "jpeg", quality: int = 95) -> bytes:
    """Encode an RGB picture, uint8 (H,W,3) array or (3,H,W) tensor; ``quality`` is for JPEG only."""
    rgb = image.permute(1, 2, 0).numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise PosesynError(f"a picture must be uint8 RGB, (H,W,3) or a (3,H,W) tensor; got {rgb.dtype} {rgb.shape}")
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if fmt == "jpeg" else []
    return bytes(cv2.imencode(".jpg" if fmt == "jpeg" else ".png", rgb[..., ::-1], options)[1])


def provenance_only(sample: Sample) -> Sample:
    """``sample`` without picture and labels: what is kept of one that was filtered out."""
    missing: dict[str, Any] = dict.fromkeys(LABEL_SHAPES)
    return replace(sample, image=b"", **missing)


def check_sample(sample: Sample, where: str) -> None:
    """:class:`PosesynError` unless a sample that passed can be trained on; ``where`` names it in the message."""
    if not sample.image.startswith((b"\xff\xd8\xff", b"\x89PNG")):
        raise PosesynError(f"{where} passed the filter but its image is not JPEG or PNG bytes; use encode_image()")
    for name, shape in LABEL_SHAPES.items():
        value = getattr(sample, name)
        if value is None:
            if name in REQUIRED_LABELS:
                raise PosesynError(f"{where} passed the filter but has no {name}")
            continue
        array = np.asarray(value)
        if array.shape != shape or not np.isfinite(array).all():
            raise PosesynError(f"{where}: {name} must be finite with shape {shape}, got shape {array.shape}: {array}")


def to_arrow(samples: Sequence[Sample], generation: int, start: int) -> pa.RecordBatch:
    """Rows ``start``, ``start + 1``, ... of a generation."""
    n = len(samples)
    columns: dict[str, Any] = {
        "generation": np.full(n, generation, np.int64),
        "index": np.arange(start, start + n, dtype=np.int64),
        "image": [s.image for s in samples],
    }
    for name in _PROVENANCE:
        columns[name] = [getattr(s, name) for s in samples]
    labels: list[np.ndarray] = []
    for name, shape in LABEL_SHAPES.items():
        size = int(np.prod(shape))
        values = [getattr(s, name) for s in samples]
        flat = np.zeros((n, size), np.float32)
        labels.append(flat)
        for row, value in zip(flat, values, strict=True):
            if value is not None:
                row[:] = np.asarray(value).reshape(-1)
        columns[name] = pa.FixedSizeListArray.from_arrays(
            pa.array(flat.reshape(-1)), size, mask=pa.array([value is None for value in values])
        )
    columns["crc32"] = _checksums(columns["image"], np.array(columns["seed"], np.int64), labels)
    arrays = [c if isinstance(c, pa.Array) else pa.array(c, type=f.type) for f in SCHEMA for c in (columns[f.name],)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _labels(column: pa.ChunkedArray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Values (B, *shape) with 0 where missing, and presence (B,)."""
    array = column.combine_chunks()
    present = ~array.is_null().to_numpy(zero_copy_only=False)
    width = int(np.prod(shape))
    flat = array.values.to_numpy(zero_copy_only=False)[array.offset * width :][: len(array) * width]
    values = np.where(present[:, None], flat.reshape(len(array), width), np.float32(0))
    return values.reshape(-1, *shape), present


def _checksums(images: Sequence[bytes], seeds: np.ndarray, labels: Sequence[np.ndarray]) -> np.ndarray:
    """(B,) CRC-32 of picture, seed and labels of each row; Lance itself does not notice a flipped bit."""
    rows = np.concatenate([values.reshape(len(images), -1) for values in labels], axis=1)
    crcs = (
        zlib.crc32(row.tobytes(), zlib.crc32(seed.tobytes(), zlib.crc32(image)))
        for image, seed, row in zip(images, seeds, rows, strict=True)
    )
    return np.fromiter(crcs, np.uint32, len(images))


def _decode(image: bytes, where: str) -> np.ndarray:
    rgb = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR_RGB)
    if rgb is None:
        raise Damaged(f"{where}: the picture cannot be decoded; commit the bytes that encode_image() makes")
    return rgb


def to_batch(table: pa.Table, generation: int, indices_B: np.ndarray, source: int, where: str) -> PoseBatch:
    """Rows read with :data:`READ_COLUMNS` as a batch; ``where`` names the pool and generation in messages."""
    encoded = table["image"].to_pylist()
    labels = {name: _labels(table[name], shape) for name, shape in LABEL_SHAPES.items()}
    seeds = table["seed"].to_numpy()
    damaged = _checksums(encoded, seeds, [values for values, _ in labels.values()]) != table["crc32"].to_numpy()
    if damaged.any():
        bad = indices_B[damaged].tolist()
        raise Damaged(f"{where}: samples {bad} are damaged (checksum); restore the pool's files from a copy")
    images = [_decode(image, f"{where}, sample {i}") for image, i in zip(encoded, indices_B.tolist(), strict=True)]
    if len({image.shape for image in images}) > 1:
        sizes = sorted({f"{image.shape[1]}x{image.shape[0]}" for image in images})
        raise PosesynError(f"{where} mixes pictures of {', '.join(sizes)}; read one size at a time")
    out: dict[str, torch.Tensor] = {name: torch.from_numpy(values) for name, (values, _) in labels.items()}
    for mask, names in MASKS.items():
        out[mask] = torch.from_numpy(np.logical_and.reduce([labels[name][1] for name in names]))
    key = np.empty((len(images), 4), np.int64)
    key[:, 0], key[:, 1], key[:, 2], key[:, 3] = source, generation, indices_B, seeds
    return PoseBatch(
        image=torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
        weight=torch.ones(len(images)),
        key=torch.from_numpy(key),
        **out,
    )
