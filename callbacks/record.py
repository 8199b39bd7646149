"""What ``posesyn report`` shows of a refresh: figures and small pictures, in files of the run folder.

    RUN/record/refresh_NNN.json   errors, groups of poses, joints, challenges, samples
    RUN/record/refresh_NNN.jpg    the tiles that the JSON speaks of, one below the other

A refresh's files are written whole or not at all, the JSON last.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import torch

from callbacks.after_refresh import AfterRefresh
from callbacks.refresh import data_of
from callbacks.tiles import challenge_tiles, resized, sample_tiles
from human.batch import root_of
from human.skeleton import POSE32
from metrics.pose_groups import pose_groups
from synth.eem import MiningData
from synth.refresh import Refreshed

#: Raise when files of before would be misread.
FORMAT = 1
_BINS = 40
_CHUNK = 512


class Record(AfterRefresh):
    """Keeps of every refresh what a report needs; list it after ``Refresh``.

    Args:
        challenges, samples: pictures of each that are kept, the worst challenges and the first samples.
        tile: side of a picture, pixels.
    """

    def __init__(self, challenges: int = 12, samples: int = 12, tile: int = 160) -> None:
        super().__init__()
        self.challenges, self.samples, self.tile = challenges, samples, tile
        self.last: dict[str, Any] | None = None  # what was kept of the newest refresh
        self._groups: dict[str, np.ndarray] | None = None

    def draw(self, trainer: L.Trainer, run_dir: Path, number: int, done: Refreshed) -> None:
        folder = run_dir / "record"
        folder.mkdir(parents=True, exist_ok=True)
        data = data_of(trainer).mining_data
        if self._groups is None:
            self._groups = group_people(data)
        tiles: list[np.ndarray] = []
        entry = {
            "format": FORMAT,
            "refresh": number,
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "generation": None if done.info is None else done.info.generation,
            **errors_of(done),
            "groups": group_table(self._groups, done),
            "joints": joint_errors(done),
            "mined": [data.ids[i] for i in done.mined.challenges],
            "challenges": self._challenges(done, data, tiles),
            "samples": self._samples(done, tiles),
        }
        if tiles:
            _write(folder / f"refresh_{number:03d}.jpg", _jpeg(np.concatenate(tiles)))
        _write(folder / f"refresh_{number:03d}.json", json.dumps(entry).encode())
        self.last = entry

    def _challenges(self, done: Refreshed, data: MiningData, tiles: list[np.ndarray]) -> list[dict[str, Any]]:
        mined, out = done.mined, []
        for k, picture in enumerate(challenge_tiles(mined, self.challenges)):
            row = int(mined.challenges[k])
            groups = [name for name, member in (self._groups or {}).items() if member[row] == 1]
            out.append({"id": data.ids[row], "error": _number(mined.errors[row]), "groups": groups, "tile": len(tiles)})
            tiles.append(resized(picture, self.tile))
        return out

    def _samples(self, done: Refreshed, tiles: list[np.ndarray]) -> list[dict[str, Any]]:
        out = []
        for k, picture in enumerate(sample_tiles(done, self.samples)):
            passed = bool(done.sample_passed[k])
            out.append({"err3d": _number(done.sample_errors[k]), "passed": passed, "tile": len(tiles)})
            tiles.append(resized(picture, self.tile))
        return out


def group_people(data: MiningData) -> dict[str, np.ndarray]:
    """(N,) membership of everyone in the mined data; see :func:`metrics.pose_groups.pose_groups`."""
    parts = []
    for start in range(0, len(data), _CHUNK):
        crops = data.crops(np.arange(start, min(start + _CHUNK, len(data))))
        parts.append(pose_groups(crops.joints2d.numpy(), crops.joints2d_conf.numpy()))
    return {name: np.concatenate([p[name] for p in parts]) for name in (parts[0] if parts else {})}


def group_table(groups: dict[str, np.ndarray], done: Refreshed) -> list[dict[str, Any]]:
    """Each group's share among the scored people and among the challenges, and the mean error in and out of it."""
    errors = done.mined.errors
    scored, hard = np.isfinite(errors), np.zeros(len(errors), bool)
    hard[done.mined.challenges] = True
    rows = []
    for name, member in groups.items():
        known = scored & np.isfinite(member)
        inside, outside = known & (member == 1), known & (member == 0)
        rows.append(
            {
                "group": name,
                "people": int(inside.sum()),
                "share": _ratio(inside.sum(), known.sum()),
                "share_of_challenges": _ratio((inside & hard).sum(), (known & hard).sum()),
                "error": _number(errors[inside].mean()) if inside.any() else None,
                "error_elsewhere": _number(errors[outside].mean()) if outside.any() else None,
            }
        )
    return rows


def errors_of(done: Refreshed) -> dict[str, Any]:
    """Histogram and quartiles of the error of everyone who could be scored, pixels."""
    errors = done.mined.errors[np.isfinite(done.mined.errors)]
    if not len(errors):
        return {"histogram": None, "quartiles": None}
    counts, edges = np.histogram(errors, _BINS, (0.0, max(float(errors.max()), 1e-6)))
    return {
        "histogram": {"counts": counts.tolist(), "edges": [round(float(e), 3) for e in edges]},
        "quartiles": [round(float(q), 3) for q in np.quantile(errors, [0.25, 0.5, 0.75])],
    }


def joint_errors(done: Refreshed) -> dict[str, float]:
    """Mean distance of each labelled joint in the challenges, root-relative, as a share of the crop's side."""
    mined = done.mined
    if mined.crops is None or mined.predictions is None:
        return {}
    crops = mined.crops
    conf = crops.joints2d_conf
    said = mined.predictions.joints2d - root_of(mined.predictions.joints2d, conf)[:, None]
    true = crops.joints2d - root_of(crops.joints2d, conf)[:, None]
    off = torch.where(conf > 0, (said - true).norm(dim=-1), torch.nan) / crops.size
    means = off.nanmean(0)
    return {name: round(float(m), 4) for name, m in zip(POSE32.joints, means, strict=True) if bool(m.isfinite())}


def _ratio(part: float, whole: float) -> float | None:
    return round(float(part / whole), 4) if whole else None


def _number(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None


def _jpeg(rgb: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 72])[1])


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)
