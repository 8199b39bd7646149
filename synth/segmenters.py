"""Which pixels of a picture are people, and which are other things: instance segmenters by name.

Diffusion-HPC (Weng et al., 3DV 2024) runs Mask R-CNN on its initial picture: people are painted anew, and what stands
before them (a pole, a beam, a horse) stays. "mask_rcnn" (torchvision) and "transformers" (Mask2Former and its kin) do
that on weights that the user has. "body" and "blazepose" need no files of the user's and know people only.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from human.errors import PosesynError
from human.registry import Registry, make
from human.skeleton import COCO17
from synth.inpaint import person_mask

Mask = npt.NDArray[np.bool_]
Picture = npt.NDArray[np.uint8]
PERSON = "person"
#: BlazePose's numbers of COCO's joints, in COCO's order.
_COCO_OF_BLAZEPOSE = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)


@dataclass(frozen=True)
class Instances:
    """N things in a picture: ``masks`` (N,H,W) bool, ``labels`` their names ("person", "horse", ...), ``scores`` (N,)
    in 0..1. People come first, larger ones before smaller ones.
    """

    masks: Mask
    labels: tuple[str, ...]
    scores: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.masks.ndim != 3 or not len(self.masks) == len(self.labels) == len(self.scores):
            raise PosesynError(
                f"instances need as many masks, labels and scores, got {self.masks.shape}, {len(self.labels)} and "
                f"{len(self.scores)}"
            )

    @classmethod
    def of(cls, masks: npt.ArrayLike, labels: list[str], scores: npt.ArrayLike, size: tuple[int, int]) -> Instances:
        """Sorted; instances without a pixel are dropped."""
        stack = np.asarray(masks, bool).reshape(-1, *size)
        area = stack.sum((1, 2))
        order = [int(i) for i in np.lexsort((-area, [label != PERSON for label in labels])) if area[i] > 0]
        score = np.asarray(scores, np.float64).reshape(-1)[order]
        return cls(stack[order], tuple(labels[i] for i in order), score)

    @property
    def people(self) -> int:
        return sum(label == PERSON for label in self.labels)

    @property
    def person(self) -> Mask:
        """(H,W) everything that is a person."""
        return np.asarray(self.masks[: self.people].any(0))

    @property
    def objects(self) -> Mask:
        """(H,W) everything found that is not a person. A pixel that is both belongs to the person."""
        return self.masks[self.people :].any(0) & ~self.person


class InstanceSegmenter(ABC):
    """A pure function of the picture, of the body that is known to be in it, and of :meth:`config`."""

    @abstractmethod
    def __call__(self, image_HWC: Picture, body_HW: Mask | None = None) -> Instances:
        """What is in an RGB picture; ``body_HW`` where a fitted body projects to, if one is known."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything that decides the masks, as JSON-ready values."""

    def release(self) -> None:  # noqa: B027
        """Give back the network's memory; the next call loads it again."""


SEGMENTERS: Registry[Callable[..., InstanceSegmenter]] = Registry("segmenter")


def make_segmenter(name: str, options: dict[str, Any] | None = None) -> InstanceSegmenter:
    """The segmenter ``name`` with arguments from a config; :class:`PosesynError` names what is wrong."""
    return make(SEGMENTERS, name, options)


@SEGMENTERS.register("body")
class BodyMask(InstanceSegmenter):
    """The fitted body itself, grown for clothes and hair; without a body, nobody. It never finds an object.

    Args:
        margin: by how much it is grown, as a share of the picture's longer side.
    """

    def __init__(self, margin: float = 0.02) -> None:
        if not 0 <= margin < 0.5:
            raise PosesynError(f"segmenter 'body': margin is a share of the picture, 0 to 0.5, got {margin}")
        self.margin = margin

    def config(self) -> dict[str, Any]:
        return {"segmenter": "body", "margin": self.margin}

    def __call__(self, image_HWC: Picture, body_HW: Mask | None = None) -> Instances:
        size = image_HWC.shape[:2]
        if body_HW is None or not body_HW.any():
            return Instances.of([], [], [], size)
        return Instances.of(grow(body_HW, self.margin * max(size))[None], [PERSON], [1.0], size)


@SEGMENTERS.register("blazepose")
class BlazePoseMask(InstanceSegmenter):
    """Thick limbs about the points that the packaged person detector finds; it never finds an object.

    Args:
        **options: of :class:`human.detectors.BlazePoseDetector`.
    """

    def __init__(self, **options: Any) -> None:
        from human.detectors import BlazePoseDetector

        self._detector = BlazePoseDetector(**options)

    def config(self) -> dict[str, Any]:
        return {"segmenter": "blazepose", "detector": self._detector.describe()}

    def __call__(self, image_HWC: Picture, body_HW: Mask | None = None) -> Instances:
        size = image_HWC.shape[:2]
        people = self._detector.people(image_HWC)
        everyone = np.ones(len(COCO17.joints))
        masks = [person_mask(p.points[list(_COCO_OF_BLAZEPOSE)], everyone, size, "coco17") for p in people]
        return Instances.of(masks, [PERSON] * len(people), [p.present for p in people], size)


@SEGMENTERS.register("mask_rcnn")
class MaskRCNN(InstanceSegmenter):
    """torchvision's Mask R-CNN on weights of the user's; the paper takes detectron2's with the same backbone.

    Args:
        weights: file of a state dict, .pth or .safetensors; torchvision's own is
            ``maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth`` (177 MB, BSD-3-Clause).
        model: its name in torchvision.
        threshold: of the score (the paper's is 0.5). edge: of a mask's probability.
        device: "cpu", "cuda", "auto" (a GPU where there is one).
        classes: that the weights know, the background included; 91 are COCO's.
        options: further arguments of torchvision's constructor.
    """

    def __init__(
        self,
        weights: str,
        model: str = "maskrcnn_resnet50_fpn_v2",
        threshold: float = 0.5,
        edge: float = 0.5,
        device: str = "auto",
        classes: int = 91,
        options: dict[str, Any] | None = None,
    ) -> None:
        from torchvision.models import detection, list_models

        known = [name for name in list_models(detection) if name.startswith("mask")]
        if model not in known:
            raise PosesynError(f"torchvision has no instance segmenter {model!r}; it has {', '.join(known)}")
        _check_shares("mask_rcnn", threshold=threshold, edge=edge)
        self.weights, self.model, self.threshold, self.edge = Path(weights).expanduser(), model, threshold, edge
        self.classes, self.options = classes, options or {}
        self._device = _device(device)
        if not self.weights.is_file():
            raise PosesynError(
                f"segmenter mask_rcnn: there is no file {self.weights}: get torchvision's "
                "https://download.pytorch.org/models/maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth (177 MB, BSD-3-Clause) "
                "and name it as `weights`, or use the segmenter 'body', which needs no file"
            )

    @cached_property
    def content(self) -> str:
        with self.weights.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def config(self) -> dict[str, Any]:
        return {
            "segmenter": "mask_rcnn",
            "weights": self.content,
            "model": self.model,
            "threshold": self.threshold,
            "edge": self.edge,
            "classes": self.classes,
            "options": self.options,
        }

    @cached_property
    def _network(self) -> torch.nn.Module:
        from torchvision.models import get_model

        try:
            state = self._state()  # first: building the network takes longer
            network = get_model(
                self.model, weights=None, weights_backbone=None, num_classes=self.classes, **self.options
            )
            network.load_state_dict(state)
        except Exception as error:  # torch raises a different type for each way a file can be wrong
            raise PosesynError(
                f"segmenter mask_rcnn: {self.weights} does not hold weights of {self.model} for {self.classes} classes "
                f"({type(error).__name__}: {str(error).splitlines()[0][:200]})"
            ) from error
        return network.eval().to(self._device)

    def _state(self) -> dict[str, torch.Tensor]:
        if self.weights.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(self.weights)
        return torch.load(self.weights, map_location="cpu", weights_only=True)

    def release(self) -> None:
        self.__dict__.pop("_network", None)

    @torch.inference_mode()
    def __call__(self, image_HWC: Picture, body_HW: Mask | None = None) -> Instances:
        pixels = torch.from_numpy(np.ascontiguousarray(image_HWC)).permute(2, 0, 1).to(self._device).float() / 255
        out = self._network([pixels])[0]
        keep = out["scores"] >= self.threshold
        masks = (out["masks"][keep, 0] >= self.edge).cpu().numpy()
        labels = [PERSON if int(label) == 1 else f"class {int(label)}" for label in out["labels"][keep]]
        return Instances.of(masks, labels, out["scores"][keep].cpu().numpy(), image_HWC.shape[:2])


@SEGMENTERS.register("transformers")
class TransformersSegmenter(InstanceSegmenter):
    """Mask2Former, MaskFormer or any other model that transformers post-processes to instances.

    Args:
        checkpoint: a folder of transformers files, or a hub id, such as "facebook/mask2former-swin-tiny-coco-instance".
        revision: of the hub id. local_files_only: never download (the default).
        threshold: of the score. device: as of "mask_rcnn".

    Raises:
        PosesynError: (at the first picture) no such files; says what to download.
    """

    def __init__(
        self,
        checkpoint: str = "facebook/mask2former-swin-tiny-coco-instance",
        revision: str | None = None,
        local_files_only: bool = True,
        threshold: float = 0.5,
        device: str = "auto",
    ) -> None:
        _check_shares("transformers", threshold=threshold)
        self.checkpoint, self.revision, self.local_files_only = checkpoint, revision, local_files_only
        self.threshold, self._device = threshold, _device(device)

    def config(self) -> dict[str, Any]:
        return {
            "segmenter": "transformers",
            "checkpoint": self.checkpoint,
            "revision": self.revision,
            "threshold": self.threshold,
        }

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from synth.captions.text_encoders import first_line

        library: Any = import_module("transformers")
        where: dict[str, Any] = {"local_files_only": self.local_files_only}
        if self.revision:
            where["revision"] = self.revision
        try:
            processor = library.AutoImageProcessor.from_pretrained(self.checkpoint, **where)
            model = library.AutoModelForUniversalSegmentation.from_pretrained(
                self.checkpoint, use_safetensors=True, **where
            )
        except (OSError, ValueError, ImportError) as error:
            raise PosesynError(
                f"the segmenter {self.checkpoint!r} cannot be loaded ({first_line(error)}): run `hf download "
                f"{self.checkpoint}` (about 200 MB for a tiny Mask2Former) or name a folder, or use the segmenter "
                "'body', which needs no file"
            ) from error
        if not hasattr(processor, "post_process_instance_segmentation"):
            raise PosesynError(f"{self.checkpoint!r} does not tell instances apart: choose a Mask2Former or MaskFormer")
        return processor, model.to(self._device).eval()

    def release(self) -> None:
        self.__dict__.pop("_loaded", None)

    @torch.inference_mode()
    def __call__(self, image_HWC: Picture, body_HW: Mask | None = None) -> Instances:
        processor, model = self._loaded
        size = image_HWC.shape[:2]
        inputs = processor(images=np.ascontiguousarray(image_HWC), return_tensors="pt").to(self._device)
        out = processor.post_process_instance_segmentation(
            model(**inputs), threshold=self.threshold, target_sizes=[size]
        )[0]
        number = out["segmentation"].cpu().numpy()
        found = out["segments_info"]
        names = model.config.id2label
        return Instances.of(
            [number == s["id"] for s in found],
            [str(names.get(s["label_id"], s["label_id"])) for s in found],
            [s["score"] for s in found],
            size,
        )


def grow(mask_HW: Mask, pixels: float) -> Mask:
    """A mask with ``pixels`` more on every side."""
    reach = round(pixels)
    if reach < 1:
        return mask_HW
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate(mask_HW.astype(np.uint8), disc).astype(bool)


def _check_shares(name: str, **shares: float) -> None:
    for what, share in shares.items():
        if not 0 < share < 1:
            raise PosesynError(f"segmenter {name}: {what} lies between 0 and 1, got {share}")


def _device(name: str) -> str:
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
