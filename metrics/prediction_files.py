"""Predictions as files: ours, and those that other people's code made, to be evaluated here.

A file is an ``.npz`` with a row per person. ``joints3d`` (N,J,3) metres in the camera's frame, ``joints2d`` (N,J,2) px
of the whole picture, and ``skeleton`` (a name of ``human.skeleton.SKELETONS``), or parameters: ``pose`` (N,24,3) or
(N,72), or ``global_orient`` and ``body_pose`` as rotation vectors or matrices, ``betas`` (N,S), ``transl`` (N,3), and
``body`` ("smpl"); or both. ``ids`` (N,) names the persons as the data set's reader does; without it the rows are the
reader's, in its order. ``score`` (N,) and ``pictures`` (N,) where a protocol matches people itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from human.body import BODY_MODELS
from human.errors import PosesynError
from human.skeleton import get_skeleton
from metrics.truth import Predictions

_NUMBERS = ("pose", "global_orient", "body_pose", "betas", "transl", "joints3d", "joints2d", "score")
_TEXT = ("ids", "pictures", "skeleton", "body", "maker")


def write_predictions(path: Path, said: Predictions, maker: Mapping[str, Any] | None = None) -> None:
    """Whole or not at all. ``maker``: what the predictions depend on, kept as JSON."""
    arrays: dict[str, Any] = {"ids": np.asarray(list(said.ids), str), "body": said.body, "skeleton": said.skeleton}
    for name in ("pose", "betas", "transl", "joints3d", "joints2d", "score"):
        value = getattr(said, name)
        if value is not None:
            arrays[name] = np.asarray(value, np.float32)
    if len(said.pictures):
        arrays["pictures"] = np.asarray(list(said.pictures), str)
    if maker is not None:
        arrays["maker"] = json.dumps(dict(maker), sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.npz")
    np.savez(partial, **arrays)
    partial.replace(path)


def read_predictions(path: Path, ids: Sequence[str] = (), body: str = "smpl") -> tuple[Predictions, dict[str, Any]]:
    """The predictions in a file, and its maker's facts ({} for other people's files).

    Args:
        ids: of the data set's persons, for a file without them.
        body: what parameters are of where the file does not say.

    Raises:
        PosesynError: the file cannot be read, lacks what is needed, or its numbers do not fit together.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            unknown = sorted(set(archive.files) - {*_NUMBERS, *_TEXT})
            content = {name: archive[name] for name in archive.files if name not in unknown}
    except FileNotFoundError:
        raise PosesynError(f"no predictions at {path}") from None
    except Exception as error:  # zipfile, zlib and numpy raise a different type for each way a file can be broken
        raise PosesynError(
            f"{path} cannot be read as .npz of plain arrays ({type(error).__name__}: {error})"
        ) from error
    numbers = {name: content[name] for name in _NUMBERS if name in content}
    if not ({"joints3d", "joints2d", "pose", "body_pose"} & set(numbers)):
        raise PosesynError(
            f"{path} holds neither joints nor body parameters; it needs joints3d, joints2d, or pose and betas "
            f"(found {', '.join(sorted(content) + unknown) or 'nothing'})"
        )
    lengths = {name: len(value) for name, value in numbers.items() if value.ndim}
    count = max(lengths.values(), default=0)
    if len(set(lengths.values())) != 1:
        raise PosesynError(f"{path}: arrays of different lengths: {lengths}")
    names = [str(i) for i in content["ids"]] if "ids" in content else list(ids)
    if len(names) != count:
        what = "its ids" if "ids" in content else "the data set's persons, in whose order a file without `ids` is"
        raise PosesynError(f"{path} has {count} rows, {what} are {len(names)}")
    skeleton = str(content.get("skeleton", "pose32"))
    joints = len(get_skeleton(skeleton))
    for name, width in (("joints3d", 3), ("joints2d", 2)):
        if name in numbers and numbers[name].shape != (count, joints, width):
            raise PosesynError(
                f"{path}: {name} is {numbers[name].shape}; {skeleton!r} needs {(count, joints, width)} (say which "
                "joints with `skeleton`)"
            )
    said = str(content.get("body", body))
    pose = _pose(numbers, count, path)
    if pose is not None and "betas" not in numbers:
        raise PosesynError(f"{path} has a pose but no betas")
    if pose is not None and said not in BODY_MODELS.names():
        raise PosesynError(f"{path}: no body model is called {said!r}; known: {', '.join(BODY_MODELS.names())}")
    try:
        maker = json.loads(str(content["maker"])) if "maker" in content else {}
    except ValueError:
        maker = {}
    predictions = Predictions(
        ids=names,
        body=said if pose is not None else "",
        skeleton=skeleton,
        pose=pose,
        betas=numbers.get("betas"),
        transl=numbers.get("transl"),
        joints3d=numbers.get("joints3d"),
        joints2d=numbers.get("joints2d"),
        score=numbers.get("score"),
        pictures=[str(p) for p in content["pictures"]] if "pictures" in content else [],
    )
    return predictions, maker


def _pose(numbers: Mapping[str, npt.NDArray[Any]], count: int, path: Path) -> npt.NDArray[Any] | None:
    """(N,24,3) rotation vectors."""
    if "pose" in numbers:
        whole = numbers["pose"]
    elif "body_pose" in numbers:
        if "global_orient" not in numbers:
            raise PosesynError(f"{path} has body_pose but no global_orient")
        parts = [numbers["global_orient"].reshape(count, -1), numbers["body_pose"].reshape(count, -1)]
        whole = np.concatenate(parts, 1)
    else:
        return None
    flat = np.asarray(whole, np.float64).reshape(count, -1)
    if flat.shape[1] in (66, 72):
        vectors = flat.reshape(count, -1, 3)
    elif flat.shape[1] in (198, 216):
        finite = np.asarray(np.isfinite(flat).all(1))
        matrices = np.where(finite[:, None], flat, np.tile(np.eye(3).ravel(), flat.shape[1] // 9)).reshape(-1, 3, 3)
        vectors = Rotation.from_matrix(matrices).as_rotvec().reshape(count, -1, 3)
        vectors[~finite] = np.nan
    else:
        raise PosesynError(f"{path}: a pose of {flat.shape[1]} numbers; 24 joints need 72 (rotation vectors) or 216")
    if vectors.shape[1] == 22:  # SMPL-X's and AMASS' body: hands at rest
        vectors = np.concatenate([vectors, np.zeros((count, 2, 3))], 1)
    return vectors


def join(parts: Sequence[Predictions]) -> Predictions:
    """One after the other; of a person that is in several, the last counts."""
    if not parts:
        return Predictions([])
    last = {name: (k, row) for k, part in enumerate(parts) for row, name in enumerate(part.ids)}
    kept = [part.rows([r for r, n in enumerate(part.ids) if last[n] == (k, r)]) for k, part in enumerate(parts)]

    def column(name: str) -> Any:
        values = [getattr(p, name) for p in kept]
        return None if any(v is None for v in values) else np.concatenate(values)

    numbers = {name: column(name) for name in ("pose", "betas", "transl", "joints3d", "joints2d", "score")}
    return Predictions(
        ids=[i for p in kept for i in p.ids],
        body=parts[0].body,
        skeleton=parts[0].skeleton,
        pictures=[i for p in kept for i in p.pictures],
        **numbers,
    )
