"""The references of one refresh: the scenes they stand in, and, where the picture allows, what they look like.

References are the people the estimator is right about (PoseSyn, arXiv 2503.13025, §3.1), so its mesh may carry their
appearance over to another pose (:mod:`synth.reprojection`).
"""

from __future__ import annotations

import logging

import cv2
import numpy as np
import torch

from human.batch import PoseBatch
from human.body import BodyModel
from human.errors import PosesynError
from human.fit import fit_joints2d
from human.fit_inputs import FitResult
from human.prediction import Estimator, Prediction
from synth.eem import MiningData, inference, predict_crops
from synth.inpaint import inpaint_person, person_mask
from synth.jobs import Reference
from synth.reprojection import ReferenceAppearance, reproject_reference
from synth.scene import SceneSpec

_log = logging.getLogger(__name__)


class References:
    """Scenes and appearances, each made once, when first used.

    Args:
        data: what was mined; ``indices``: its references, best first.
        estimator: whose predictions are the meshes' first guess; the labelled joints refine them.
        body: the model that the estimator's parameters belong to.
        appearances: so many references, the best ones, may lend their appearance.

    ``refused`` counts those of them whose picture or fit does not give one (each is logged, and lends its scene only).
    """

    def __init__(
        self, data: MiningData, indices: np.ndarray, estimator: Estimator, body: BodyModel, appearances: int
    ) -> None:
        # A copy: best first is a view with a negative stride, which torch does not take (and a length of one hides it).
        self.data, self.indices, self.body = data, indices.copy(), body
        self.refused = 0
        self._scenes: dict[int, np.ndarray] = {}
        self._looks: dict[int, ReferenceAppearance | None] = {}
        self._people: dict[int, Reference] = {}
        self._fits: dict[int, tuple[PoseBatch, FitResult, torch.Tensor]] = {}  # crop, body, camera
        self._estimator = estimator
        self._orients: dict[int, torch.Tensor] = {}
        best = self.indices[:appearances]
        if len(best):
            with inference(estimator):
                parts = list(predict_crops(estimator, data, best, 64))
            crops = PoseBatch.cat([c for c, _ in parts])
            predictions = Prediction.cat([p for _, p in parts])
            fits, cameras = self._fit(crops, predictions), predictions.intrinsics
            self._fits = {int(n): (crops[k : k + 1], fits[k : k + 1], cameras[k]) for k, n in enumerate(best)}

    def choose(self, rng: np.random.Generator) -> int | None:
        """A reference whose scene to use; None without references."""
        return int(self.indices[rng.integers(len(self.indices))]) if len(self.indices) else None

    def choose_look(self, rng: np.random.Generator) -> int | None:
        """A reference who lends the appearance too; None where none can, or the one drawn cannot."""
        names = list(self._fits)
        index = names[rng.integers(len(names))] if names else None
        return index if index is not None and self.appearance(index) is not None else None

    def name(self, index: int | None) -> str:
        return "" if index is None else self.data.ids[index]

    def person(self, index: int) -> Reference:
        """A reference as image engines look at it; its body only where one fits the labelled joints."""
        if index not in self._people:
            crop, fit, camera = self._fits.get(index, (None, None, None))
            if crop is None or fit is None or camera is None:
                crop, body = self.data.crops(np.array([index])), None
            else:
                posed = (fit.betas, fit.body_pose, fit.global_orient, fit.transl)
                body = (
                    SceneSpec(*posed, camera[None], torch.zeros(1, dtype=torch.int64)) if bool(fit.valid[0]) else None
                )
            image = crop.image[0].permute(1, 2, 0).contiguous().numpy()
            self._people[index] = Reference(self.name(index), image, body)
        return self._people[index]

    def orientation(self, index: int) -> torch.Tensor:
        """(3,) rotation vector of the reference's body in its camera, as the estimator sees it; NaN where it fails."""
        if not self._orients:  # all at once: a reference that any slot needs is one of a few hundred
            with inference(self._estimator):
                parts = [p for _, p in predict_crops(self._estimator, self.data, self.indices, 64)]
            found = Prediction.cat(parts).global_orient
            self._orients = {int(n): found[k] for k, n in enumerate(self.indices)}
        return self._orients[index]

    def scene(self, index: int, size: int) -> np.ndarray:
        """(size, size, 3) uint8, the reference's picture without the person."""
        if index not in self._scenes:
            look = self.appearance(index) if index in self._fits else None
            self._scenes[index] = self._emptied(index) if look is None else look.background
        image = self._scenes[index]
        return image if image.shape[0] == size else cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)

    def appearance(self, index: int) -> ReferenceAppearance | None:
        """What the reference looks like; None where it cannot be told."""
        if index not in self._looks:
            crop, fit, camera = self._fits[index]
            try:
                if not bool(fit.valid[0]):
                    raise PosesynError("no body fits its labelled joints")
                self._looks[index] = reproject_reference(
                    crop.image[0].permute(1, 2, 0).contiguous().numpy(),
                    fit,
                    camera,
                    self.body,
                    joints2d=crop.joints2d[0],
                    joints2d_conf=crop.joints2d_conf[0],
                )
            except PosesynError as error:
                self.refused += 1
                _log.info("reference %s lends its scene only: %s", self.name(index), error)
                self._looks[index] = None
        return self._looks[index]

    def _fit(self, crops: PoseBatch, predictions: Prediction) -> FitResult:
        """The predicted bodies, moved onto the labelled joints under the estimator's own cameras."""
        usable = predictions.finite
        zero = torch.zeros(len(crops))
        start = FitResult(
            predictions.betas,
            predictions.body_pose,
            predictions.global_orient,
            predictions.transl,
            zero,
            usable,
        )
        conf = torch.where(usable[:, None], crops.joints2d_conf, torch.zeros_like(crops.joints2d_conf))
        return fit_joints2d(self.body, crops.joints2d, conf, predictions.intrinsics, init=start, on_bad="mask")

    def _emptied(self, index: int) -> np.ndarray:
        crop = self.data.crops(np.array([index]))
        image = crop.image[0].permute(1, 2, 0).contiguous().numpy()
        return inpaint_person(
            image, person_mask(crop.joints2d[0].numpy(), crop.joints2d_conf[0].numpy(), image.shape[:2])
        )
