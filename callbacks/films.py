"""Film strips of every refresh: the motion that was made for each of its first challenges."""

from __future__ import annotations

import cv2
import lightning as L
from lightning.pytorch.callbacks import Callback

from callbacks.refresh import Refresh, data_of
from human.body import load_body
from synth.msm.film import film_strip


class Films(Callback):
    """Writes ``films/refresh_NNN_KKK.png`` in the run folder, one per challenge that the synthesiser filmed.

    Args:
        count: at most so many a refresh.

    List it after ``Refresh``. Synthesisers without motion leave no films.
    """

    def __init__(self, count: int = 24) -> None:
        self.count = count
        self._drawn = -1

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._draw(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._draw(trainer)

    def _draw(self, trainer: L.Trainer) -> None:
        refresh = next((c for c in trainer.callbacks if isinstance(c, Refresh)), None)  # type: ignore[attr-defined]
        if refresh is None or refresh.last is None or refresh.count - 1 == self._drawn or not trainer.is_global_zero:
            return
        self._drawn = refresh.count - 1
        done = refresh.last
        mined = done.mined
        if not done.films or mined.crops is None or mined.predictions is None:
            return
        folder, body = data_of(trainer).run_dir / "films", load_body("free")
        folder.mkdir(parents=True, exist_ok=True)
        for film in sorted(done.films, key=lambda f: f.challenge)[: self.count]:
            k = film.challenge
            crops = mined.crops
            picture = film_strip(
                film, crops.image[k], crops.joints2d[k], crops.joints2d_conf[k], mined.predictions[[k]], body
            )
            cv2.imwrite(str(folder / f"refresh_{self._drawn:03d}_{k:03d}.png"), picture[..., ::-1])
