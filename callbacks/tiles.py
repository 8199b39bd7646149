"""Small pictures of a refresh: challenges with true and predicted joints, samples with their labels."""

from __future__ import annotations

import cv2
import numpy as np

from callbacks.drawing import RIGHT, TRUTH, draw_skeleton, frame
from human.batch import PoseBatch
from human.prediction import Prediction
from human.skeleton import POSE32
from synth.eem import Mined
from synth.refresh import Refreshed


def overlay(person: PoseBatch, said_J2: np.ndarray) -> np.ndarray:
    """One person's crop, (H,W,3) enlarged: labels in green, what is said of the left in blue, of the right in orange.

    Args:
        person: a batch of one.
        said_J2: predicted joints, pixels of the crop.
    """
    image = person.image[0].permute(1, 2, 0).contiguous().numpy()
    picture = draw_skeleton(image, person.joints2d[0].numpy(), person.joints2d_conf[0].numpy(), TRUTH)
    zoom = picture.shape[0] // image.shape[0]
    return draw_skeleton(picture, (said_J2 + 0.5) * zoom - 0.5, np.ones(len(POSE32)), zoom=1)


def challenge_tiles(mined: Mined, count: int) -> list[np.ndarray]:
    """The worst challenges, at most ``count``, worst first."""
    crops: PoseBatch | None = mined.crops
    said: Prediction | None = mined.predictions
    if crops is None or said is None:
        return []
    return [overlay(crops[k : k + 1], said.joints2d[k].numpy()) for k in range(min(count, len(mined.challenges)))]


def sample_tiles(done: Refreshed, count: int) -> list[np.ndarray]:
    """The first samples, at most ``count``; an orange frame means filtered out."""
    if done.samples is None:
        return []
    tiles = labelled_tiles(done.samples[:count])
    return [t if passed else frame(t, RIGHT) for t, passed in zip(tiles, done.sample_passed, strict=False)]


def labelled_tiles(batch: PoseBatch) -> list[np.ndarray]:
    """Pictures with their labels: the left in blue, the right in orange."""
    return [
        draw_skeleton(image.permute(1, 2, 0).contiguous().numpy(), joints.numpy(), conf.numpy())
        for image, joints, conf in zip(batch.image, batch.joints2d, batch.joints2d_conf, strict=True)
    ]


def resized(picture: np.ndarray, side: int) -> np.ndarray:
    """A square picture of another side."""
    shrinks = side < picture.shape[0]
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def titled(picture: np.ndarray, text: str) -> np.ndarray:
    """A picture under a line of text, which is made smaller until it fits."""
    width = picture.shape[1]
    band = np.full((26, width, 3), 24, np.uint8)
    scale = 0.5
    while scale > 0.28 and cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] > width - 12:
        scale -= 0.02
    cv2.putText(band, text, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate([band, picture])
