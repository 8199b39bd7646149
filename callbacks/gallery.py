"""Pictures of every refresh: the hardest challenges with predicted and true joints, and the samples made for them."""

from __future__ import annotations

from pathlib import Path

import cv2
import lightning as L
import numpy as np

from callbacks.after_refresh import AfterRefresh
from callbacks.drawing import caption, grid
from callbacks.tiles import challenge_tiles, sample_tiles
from synth.refresh import Refreshed


class Gallery(AfterRefresh):
    """Writes ``pictures/refresh_NNN_{challenges,samples}.png`` in the run folder.

    Args:
        count: pictures in each grid.
        columns: of the grid.

    List it after ``Refresh``.
    """

    def __init__(self, count: int = 24, columns: int = 8) -> None:
        super().__init__()
        self.count, self.columns = count, columns

    def draw(self, trainer: L.Trainer, run_dir: Path, number: int, done: Refreshed) -> None:
        grids = {"challenges": self.challenges(done), "samples": self.samples(done)}
        folder = run_dir / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in grids.items():
            if picture is None:
                continue
            cv2.imwrite(str(folder / f"refresh_{number:03d}_{name}.png"), picture[..., ::-1])

    def challenges(self, done: Refreshed) -> np.ndarray | None:
        """Green: labels. Blue and orange: the prediction's left and right. The number is Err, pixels of the crop."""
        errors = done.mined.errors[done.mined.challenges]
        tiles = challenge_tiles(done.mined, self.count)
        labelled = [caption(t, f"Err {e:.0f}") for t, e in zip(tiles, errors, strict=False)]
        return grid(labelled, self.columns) if tiles else None

    def samples(self, done: Refreshed) -> np.ndarray | None:
        """Synthetic samples with their labels; the number is Err3D in mm, an orange frame means filtered out."""
        tiles = sample_tiles(done, self.count)
        labelled = [caption(t, f"{e:.0f} mm") for t, e in zip(tiles, done.sample_errors, strict=False)]
        return grid(labelled, self.columns) if tiles else None
