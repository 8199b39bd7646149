"""Pictures of every refresh: the hardest challenges with predicted and true joints, and the samples made for them."""

from __future__ import annotations

from pathlib import Path

import cv2
import lightning as L
import numpy as np
from lightning.pytorch.loggers import WandbLogger

from callbacks.after_refresh import AfterRefresh
from callbacks.drawing import RIGHT, TRUTH, caption, draw_skeleton, frame, grid
from synth.refresh import Refreshed


class Gallery(AfterRefresh):
    """Writes ``pictures/refresh_NNN_{challenges,samples}.png`` in the run folder, and sends them to W&B where it logs.

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
            for logger in trainer.loggers:
                if isinstance(logger, WandbLogger):
                    logger.log_image(f"refresh/{name}", [picture], caption=[f"refresh {number}"])

    def challenges(self, done: Refreshed) -> np.ndarray | None:
        """Green: labels. Blue and orange: the prediction's left and right. The number is Err, pixels of the crop."""
        mined = done.mined
        if mined.crops is None or mined.predictions is None:
            return None
        tiles = []
        for k in range(min(self.count, len(mined.crops))):
            image = mined.crops.image[k].permute(1, 2, 0).contiguous().numpy()
            labelled = mined.crops.joints2d_conf[k].numpy()
            tile = draw_skeleton(image, mined.crops.joints2d[k].numpy(), labelled, TRUTH)
            tile = draw_skeleton(tile, mined.predictions.joints2d[k].numpy() * 2 + 0.5, np.ones_like(labelled), zoom=1)
            tiles.append(caption(tile, f"Err {mined.errors[mined.challenges[k]]:.0f}"))
        return grid(tiles, self.columns)

    def samples(self, done: Refreshed) -> np.ndarray | None:
        """Synthetic samples with their labels; the number is Err3D in mm, an orange frame means filtered out."""
        if done.samples is None:
            return None
        tiles = []
        for k in range(min(self.count, len(done.samples))):
            image = done.samples.image[k].permute(1, 2, 0).contiguous().numpy()
            tile = draw_skeleton(image, done.samples.joints2d[k].numpy(), done.samples.joints2d_conf[k].numpy())
            tile = caption(tile, f"{done.sample_errors[k]:.0f} mm")
            tiles.append(tile if done.sample_passed[k] else frame(tile, RIGHT))
        return grid(tiles, self.columns)
