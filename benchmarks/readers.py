"""Rates of reading a data set: ``python -m benchmarks.readers`` prints one line of JSON.

A synthetic set of 3DPW's size and kind (60 sequences of 500 frames with two persons: 60,000 persons, .npz labels of
joints, cameras and SMPL bodies; Full HD pictures and a video of noise over smooth colours) is written to a folder that
is removed again.

``index_persons_s``: persons per second when the index is made; ``open_s``: from a reader's name to its labels the
second time, with ``names_s`` for every id; ``crop_labels_s``: persons per second looked up at random with 64 in a
batch; ``picture_s``: Full HD JPEGs per second; ``video_s``: frames of a Full HD video in order; ``video_random_s``:
at random places.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from datamodules.readers.base import READERS, make_reader
from datamodules.readers.files import read_npz
from datamodules.readers.indexed import IndexedReader, Persons
from datamodules.readers.pictures import read_picture

SIZE = (1920, 1080)


class SyntheticReader(IndexedReader):
    name, licence, skeleton, body = "benchmark", "none", "smpl24", "smpl"
    where, splits = "benchmarks.readers writes it", ("all",)
    keys: ClassVar[tuple[str, ...]] = ("joints", "intrinsics", "pose", "betas", "transl", "camera")

    def label_files(self) -> list[Path]:
        return sorted(self.root.glob("*.npz"))

    def scan(self, path: Path) -> Persons:
        held = read_npz(path, self.keys)
        frames = held["joints"].shape[1]
        count, rows = 2 * frames, range(2 * frames)
        joints = held["joints"].reshape(count, 24, 3)
        return Persons(
            [f"{self.name}/{path.stem}/{r % frames:05d}/{r // frames}" for r in rows],
            [f"pictures/{path.stem}/{r % frames:05d}.jpg" for r in rows],
            native3d=np.concatenate([joints, np.ones((count, 24, 1))], -1),
            intrinsics=held["intrinsics"],
            more={
                "pose": held["pose"].reshape(count, 24, 3),
                "betas": np.repeat(held["betas"], frames, 0),
                "transl": held["transl"].reshape(count, 3),
                "camera": np.tile(held["camera"], (2, 1, 1)),
                "frame": np.tile(np.arange(frames), 2),
                "person": np.repeat(np.arange(2), frames),
            },
        )


def write(root: Path, sequences: int, frames: int) -> None:
    """The labels."""
    rng = np.random.default_rng(0)
    for number in range(sequences):
        np.savez(
            root / f"seq{number:03d}.npz",
            joints=rng.normal(size=(2, frames, 24, 3)) * 0.4 + [0, 0, 5],
            intrinsics=np.array([[1961.0, 0, 540], [0, 1969.0, 960], [0, 0, 1]]),
            pose=rng.normal(size=(2, frames, 72)) * 0.3,
            betas=rng.normal(size=(2, 10)),
            transl=rng.normal(size=(2, frames, 3)),
            camera=np.tile(np.eye(4), (frames, 1, 1)),
        )


def photograph(rng: np.random.Generator) -> np.ndarray:
    """Smooth colours with grain: compresses about as a photograph does."""
    low = rng.integers(0, 256, (34, 60, 3), dtype=np.uint8)
    grain = rng.normal(0, 6, (*SIZE[::-1], 3))
    return np.clip(cv2.resize(low, SIZE, interpolation=cv2.INTER_CUBIC) + grain, 0, 255).astype(np.uint8)


def write_pictures(root: Path, pictures: int, frames: int) -> None:
    """JPEGs ``0.jpg`` ... and ``video.mp4``."""
    rng = np.random.default_rng(1)
    kept = [photograph(rng) for _ in range(8)]
    for number in range(pictures):
        cv2.imwrite(str(root / f"{number}.jpg"), kept[number % 8])
    writer = cv2.VideoWriter(str(root / "video.mp4"), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 30, SIZE)
    for number in range(frames):
        writer.write(np.roll(kept[number // 30 % 8], 8 * number, axis=1))
    writer.release()


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def rate(root: Path, names: Iterator[str] | list[str]) -> float:
    names = list(names)
    return len(names) / seconds(lambda: [read_picture(root, name) for name in names])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=60)
    parser.add_argument("--frames", type=int, default=500, help="of a sequence, two persons in each")
    parser.add_argument("--pictures", type=int, default=100)
    args = parser.parse_args()
    READERS.register(SyntheticReader.name)(SyntheticReader)
    cv2.setNumThreads(1)
    rng = np.random.default_rng(2)
    with tempfile.TemporaryDirectory(prefix="posesyn-readers-") as folder:
        root = Path(folder)
        write(root, args.sequences, args.frames)
        options = {"root": root, "cache": root / "cache"}
        build_s = seconds(lambda: make_reader(SyntheticReader.name, options))
        open_s = seconds(lambda: make_reader(SyntheticReader.name, options))
        index = make_reader(SyntheticReader.name, options).index
        names_s = seconds(lambda: list(index.ids))
        batches = rng.integers(0, len(index), (200, 64))
        lookup_s = seconds(lambda: [(index.joints2d[rows], index.extras["pose"][rows]) for rows in batches])
        write_pictures(root, args.pictures, 2 * args.pictures)
        result = {
            "benchmark": "readers",
            "persons": len(index),
            "index_persons_s": round(len(index) / build_s),
            "open_s": round(open_s, 4),
            "names_s": round(names_s, 4),
            "crop_labels_s": round(batches.size / lookup_s),
            "picture_s": round(rate(root, [f"{k}.jpg" for k in range(args.pictures)]), 1),
            "video_s": round(rate(root, [f"video.mp4#{k}" for k in range(2 * args.pictures)]), 1),
            "video_random_s": round(
                rate(root, [f"video.mp4#{k}" for k in rng.permutation(2 * args.pictures)[: args.pictures // 3]]), 1
            ),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
