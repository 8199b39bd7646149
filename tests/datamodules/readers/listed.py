"""A data set of the tests' own: one JSON file of persons per sequence below ``labels``, read by an IndexedReader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from datamodules.readers.files import read_json
from datamodules.readers.indexed import IndexedReader, Persons


class ListedReader(IndexedReader):
    name, licence, skeleton, where = "listed", "none", "coco17", "it is written by the tests"
    splits: ClassVar[tuple[str, ...]] = ("train", "val")
    scans = 0

    def label_files(self) -> list[Path]:
        return sorted((self.root / "labels" / self.split).glob("*.json"))

    def scan(self, path: Path) -> Persons:
        type(self).scans += 1
        listed = read_json(path)
        joints = np.array([p["joints"] for p in listed], np.float64).reshape(-1, 17, 3)
        more = {k: np.array([p[k] for p in listed], np.float64) for k in ("betas",) if listed and k in listed[0]}
        return Persons(
            [p["id"] for p in listed],
            [p["picture"] for p in listed],
            native2d=joints,
            more=more,
        )


def person(name: str, picture: str, seed: int = 0, **more: Any) -> dict[str, Any]:
    xy = np.random.default_rng(seed).uniform(5, 55, (17, 2))
    return {"id": name, "picture": picture, "joints": np.c_[xy, np.ones(17)].tolist(), **more}


def write(root: Path, sequences: dict[str, list[dict[str, Any]]], split: str = "train") -> Path:
    """The labels, and a picture of noise for each that they name and that is a plain name."""
    folder = root / "labels" / split
    folder.mkdir(parents=True, exist_ok=True)
    (root / "images").mkdir(exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    for name, persons in sequences.items():
        (folder / f"{name}.json").write_text(json.dumps(persons))
        for p in persons:
            if p["picture"].startswith("images/"):
                cv2.imwrite(str(root / p["picture"]), noise)
    return root


def two_sequences() -> dict[str, list[dict[str, Any]]]:
    """Five persons in four pictures; one picture's two persons lie in two files."""
    return {
        "a": [person("a/0", "images/0.png", 0), person("a/1", "images/1.png", 1), person("a/2", "images/1.png", 2)],
        "b": [person("b/0", "images/0.png", 3), person("b/1", "images/2.jpg", 4)],
    }
