"""How fast each data set's labels become an index, and its pictures arrays: a part of ``python -m benchmarks.metrics``.

Every registered reader reads an instance that ``tests.datasets.instances`` writes in the official layout, with pictures
of the official size and format (photograph-like noise: they compress about as photographs do). ``benchmarks`` and
``tests`` exist in a checkout only, neither is installed, so one may use the other.

``index_persons_s``: persons indexed per second, from a reader's name to its checked index with an empty cache (the best
of three); with so few persons, what an index costs at all weighs on it: see ``benchmarks.readers`` for 60,000.
``decode_s``: pictures per second through ``read_image``, every picture once, in the index's order, one thread.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.readers import READERS, make_reader
from human.body_folders import VARIABLE
from tests.datasets.instances import INSTANCES, Instance
from tests.datasets.people import People, make_people, write_bodies

FRAMES = 200
#: Fewer frames where there are several pictures, persons or videos a frame, or pictures that are slow to write.
FEWER = {
    "agora": 40, "bedlam": 60, "emdb": 60, "h36m": 15, "humman": 30, "jhmdb": 60, "mpi_inf_3dhp": 15, "muco": 40,
    "panoptic": 60, "pose2sim": 55, "rich": 15, "skipose": 60, "smart": 20, "sports2d": 115, "ssp3d": 60, "3dpw": 60,
}  # fmt: skip
PICTURES = 60  # decoded at most


class Photographed(People):
    """People whose pictures are not drawn: what they show does not matter here, their size and grain do."""

    def picture(self, camera: int, frame: int) -> npt.NDArray[np.uint8]:
        return photograph(self.size, (camera + frame) % 4)


@lru_cache(maxsize=4)
def photograph(size: tuple[int, int], number: int) -> npt.NDArray[np.uint8]:
    """(height, width, 3) smooth colours with grain."""
    rng = np.random.default_rng(number)
    low = rng.integers(0, 256, (34, 60, 3), dtype=np.uint8)
    grain = rng.normal(0, 6, (*size[::-1], 3))
    return np.clip(cv2.resize(low, size, interpolation=cv2.INTER_CUBIC) + grain, 0, 255).astype(np.uint8)


def measure(name: str, instance: Instance, folder: Path, frames: int) -> dict[str, Any]:
    """The rates of one data set, written below ``folder``."""

    def make(*args: Any, **options: Any) -> People:
        return Photographed(**vars(make_people(*args, **{"size": instance.size, **options})))

    cache = folder / "cache"
    options = instance.write(folder / "root", make, frames, cache)
    seconds = []
    for _ in range(3):
        shutil.rmtree(cache, ignore_errors=True)
        start = time.perf_counter()
        reader = make_reader(name, options)
        seconds.append(time.perf_counter() - start)
    persons = len(reader.index)
    firsts = np.sort(np.unique(reader.index.image, return_index=True)[1])[:PICTURES].tolist()
    height, width = reader.read_image(firsts[0]).shape[:2]
    start = time.perf_counter()
    for i in firsts:
        reader.read_image(i)
    decode_s = len(firsts) / (time.perf_counter() - start)
    return {
        "persons": persons,
        "index_persons_s": round(persons / min(seconds)),
        "pictures": len(firsts),
        "size": f"{width}x{height}",
        "decode_s": round(decode_s, 1),
    }


def rates(names: list[str] | None = None, most_frames: int = FRAMES) -> dict[str, dict[str, Any]]:
    """By reader; ``names``: all that are registered by default. Slow sets have fewer frames than ``most_frames``."""
    threads = cv2.getNumThreads()
    out = {}
    before = os.environ.get(VARIABLE)
    with tempfile.TemporaryDirectory(prefix="posesyn-rates-") as folder:
        os.environ[VARIABLE] = str(write_bodies(Path(folder) / "bodies"))
        cv2.setNumThreads(1)
        try:
            for name in names or list(READERS):
                with tempfile.TemporaryDirectory(dir=folder) as own:
                    frames = min(most_frames, FEWER.get(name, FRAMES))
                    out[name] = measure(name, INSTANCES[name], Path(own), frames)
                photograph.cache_clear()
        finally:
            cv2.setNumThreads(threads)
            os.environ.pop(VARIABLE)
            if before is not None:
                os.environ[VARIABLE] = before
    return out
