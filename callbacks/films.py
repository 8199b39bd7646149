"""Film strips of every refresh: the motion that was made for each of its first challenges."""

from __future__ import annotations

from pathlib import Path

import cv2
import lightning as L

from callbacks.after_refresh import AfterRefresh
from human.body import load_body
from synth.msm.film import film_strip
from synth.refresh import Refreshed


class Films(AfterRefresh):
    """Writes ``films/refresh_NNN_KKK.png`` in the run folder, one per challenge that the synthesiser filmed.

    Args:
        count: at most so many a refresh.

    List it after ``Refresh``. Synthesisers without motion leave no films.
    """

    def __init__(self, count: int = 24) -> None:
        super().__init__()
        self.count = count

    def draw(self, trainer: L.Trainer, run_dir: Path, number: int, done: Refreshed) -> None:
        crops, predictions = done.mined.crops, done.mined.predictions
        if not done.films or crops is None or predictions is None:
            return
        folder, body = run_dir / "films", load_body("free")
        folder.mkdir(parents=True, exist_ok=True)
        for film in sorted(done.films, key=lambda f: f.challenge)[: self.count]:
            k = film.challenge
            picture = film_strip(
                film, crops.image[k], crops.joints2d[k], crops.joints2d_conf[k], predictions[[k]], body
            )
            cv2.imwrite(str(folder / f"refresh_{number:03d}_{k:03d}.png"), picture[..., ::-1])
