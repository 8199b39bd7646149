"""Initial pictures: what a mesh is recovered from and the denoising starts from.

Real ones are mined people's crops; made ones come from words, by Stable Diffusion, and a detector looks for somebody in
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch

from human.batch import PoseBatch
from human.camera import guess_intrinsics
from human.crop import crop_affine, square_box, transform_intrinsics, warp_image
from human.detectors import PersonDetector
from human.rng import derive_seed, generator
from synth.diffusion.text2img import TextToImage
from synth.eem import Mined, MiningData
from synth.engines.depth2img import MADE
from synth.hpc.prompts import check_prompts, choose_action
from synth.jobs import Prompt


@dataclass(frozen=True)
class InitialPictures:
    """N people in as many square pictures.

    Attributes:
        ids: their names; made ones begin with :data:`synth.engines.depth2img.MADE`.
        crops: as the estimator takes them; a row of weight 0 cannot be read.
        pictures: the same crops, (P,P,3) uint8, as large as they are to be had.
        prompts: what is said of each.
        errors: pixels, of the error extraction; NaN where there is none.
        report: what was left out on the way.
    """

    ids: list[str]
    crops: PoseBatch
    pictures: list[np.ndarray]
    prompts: list[Prompt]
    errors: np.ndarray
    report: dict[str, float | int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


def mined_pictures(
    data: MiningData, mined: Mined, side: int, prompts: str, actions: Sequence[str], seed: int, number: int
) -> InitialPictures:
    """The challenges' crops, at ``side`` pixels where the data can give them so (``data.picture``)."""
    assert mined.crops is not None
    rows = [int(i) for i in mined.challenges]
    large = getattr(data, "picture", None)
    known = getattr(data, "activities", None)
    pictures, words = [], []
    for k, row in enumerate(rows):
        found = large(row, side) if large is not None else None
        pictures.append(mined.crops.image[k].permute(1, 2, 0).contiguous().numpy() if found is None else found)
        rng = generator("hpc prompt", seed, number, k)
        words.append(check_prompts(prompts)(choose_action(actions, known[row] if known else "", rng), rng))
    ids = [data.ids[i] for i in rows]
    return InitialPictures(ids, mined.crops, pictures, words, mined.errors[mined.challenges].astype(float))


def made_pictures(
    make: TextToImage,
    detector: PersonDetector,
    count: int,
    size: int,
    prompts: str,
    actions: Sequence[str],
    seed: int,
    number: int,
    box_scale: float | str = 1.25,
) -> InitialPictures:
    """``count`` pictures from words, each cropped about the largest person that the detector finds.

    Args:
        size: side of the estimator's crops.
        box_scale: crop side over the longer side of the person's box, or a convention (:mod:`human.crop_scale`).
    """
    ids, words, pictures, crops, cameras = [], [], [], [], []
    report: dict[str, float | int] = {"initial": count, "nobody": 0, "several": 0}
    for k in range(count):
        rng = generator("hpc prompt", seed, number, k)
        prompt = check_prompts(prompts)(choose_action(actions, "", rng), rng)
        whole = make(prompt.caption, derive_seed(seed, "hpc initial", number, k))
        found = detector(whole, f"{k}.png")
        if not len(found):
            report["nobody"] += 1
            continue
        report["several"] += int(len(found) > 1)
        # Not larger than the picture: what lies beyond it would be a black frame that is denoised as such.
        x, y, wanted = square_box(found.boxes[0], box_scale, detected=True)
        side = min(wanted, float(min(whole.shape[:2])))
        centre = [
            float(np.clip(c, (side - 1) / 2, length - (side + 1) / 2))
            for c, length in ((x, whole.shape[1]), (y, whole.shape[0]))
        ]
        small = crop_affine(centre, side, size)
        crops.append(torch.from_numpy(warp_image(whole, small, size)).permute(2, 0, 1))
        cameras.append(torch.from_numpy(transform_intrinsics(small, guess_intrinsics(*whole.shape[:2]).numpy())))
        large = make.side
        pictures.append(warp_image(whole, crop_affine(centre, side, large), large))
        ids.append(f"{MADE}{seed}/{number}/{k}")
        words.append(prompt)
    batch = PoseBatch.blank(len(ids), size)
    if ids:
        batch = batch.replace(image=torch.stack(crops), intrinsics=torch.stack(cameras).float())
    return InitialPictures(ids, batch, pictures, words, np.full(len(ids), np.nan), report)


def resized(image: np.ndarray, side: int) -> np.ndarray:
    """A square picture of ``side`` pixels."""
    how = cv2.INTER_AREA if image.shape[0] > side else cv2.INTER_CUBIC
    return image if image.shape[0] == side else np.asarray(cv2.resize(image, (side, side), interpolation=how), np.uint8)
