"""ViTPose (Xu et al., NeurIPS 2022) as transformers has it: `VitPoseForPoseEstimation`."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch

from human.assets import get_asset
from human.blazepose import Picture
from human.crop import Array
from human.errors import PosesynError
from human.keypoints.base import COUNT, KEYPOINT_DETECTORS, KeypointDetector, People
from human.skeleton import COCO17

RECOMMENDED = "usyd-community/vitpose-base-simple"


@KEYPOINT_DETECTORS.register("vitpose")
class VitPoseKeypoints(KeypointDetector):
    """A vision transformer that looks at the box of each person.

    Args:
        checkpoint: a folder of transformers files, or a hub id; only safetensors are read.
        revision: of the hub id; pin it where results must be the same for ever.
        local_files_only: never download; otherwise transformers gets the files into its own cache.
        expert: of a ViTPose+ checkpoint (mixture of experts): which data set's; 0 is COCO's.
        dtype, device: "float32" and "auto" (a GPU where there is one) by default.
        batch_size: people per forward pass.
    """

    name: ClassVar[str] = "vitpose"

    def __init__(
        self,
        checkpoint: str = RECOMMENDED,
        revision: str | None = None,
        local_files_only: bool = True,
        expert: int = 0,
        dtype: str = "float32",
        device: str = "auto",
        batch_size: int = 32,
    ) -> None:
        if batch_size < 1 or not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise PosesynError(f"vitpose needs batch_size >= 1 and a dtype of torch, got {batch_size} and {dtype!r}")
        self.checkpoint, self.revision, self.local_files_only = checkpoint, revision, local_files_only
        self.expert, self.dtype, self.batch_size = expert, dtype, batch_size
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)

    def config(self) -> dict[str, Any]:
        where = {"checkpoint": self.checkpoint, "revision": self.revision, "expert": self.expert}
        return {"name": self.name, "version": 1, **where, "dtype": self.dtype}

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import transformers

        where: dict[str, Any] = {"local_files_only": self.local_files_only, "revision": self.revision}
        try:
            processor = transformers.VitPoseImageProcessor.from_pretrained(self.checkpoint, **where)
            model: Any = transformers.VitPoseForPoseEstimation.from_pretrained(
                self.checkpoint, dtype=getattr(torch, self.dtype), use_safetensors=True, **where
            )
        except (OSError, ValueError) as error:
            raise PosesynError(
                f"ViTPose {self.checkpoint!r} cannot be loaded ({str(error).splitlines()[0][:200]}): "
                f"{get_asset('vitpose_base').message}"
            ) from error
        if model.config.num_labels != COUNT:
            raise PosesynError(f"ViTPose {self.checkpoint!r} has {model.config.num_labels} points, COCO has {COUNT}")
        return processor, model.to(self.device).eval()

    @torch.inference_mode()
    def _look(self, pictures: list[Picture], boxes: list[Array], hints: list[Array]) -> list[People]:
        processor, model = self._loaded
        out = []
        step = max(1, self.batch_size // max(len(t) for t in boxes)) if boxes else 1
        for start in range(0, len(pictures), step):
            tables = [_corner_boxes(t) for t in boxes[start : start + step]]
            inputs = processor(pictures[start : start + step], boxes=tables, return_tensors="pt").to(self.device)
            pixels = inputs["pixel_values"].to(model.dtype)
            experts = torch.full((len(pixels),), self.expert, device=self.device)
            moe = getattr(model.config.backbone_config, "num_experts", 1) > 1
            told = model(pixels, dataset_index=experts) if moe else model(pixels)
            told.heatmaps = told.heatmaps.float().cpu()
            for people in processor.post_process_pose_estimation(told, boxes=tables):
                points = np.stack([p["keypoints"].numpy() for p in people])
                conf = np.stack([p["scores"].numpy() for p in people])
                out.append(People.named(points, conf, conf.mean(1), COCO17.joints))
        return out


def _corner_boxes(table: Array) -> list[list[float]]:
    """COCO's x, y, width, height; the processor's own coordinates are those of pixel centres."""
    return np.concatenate([table[:, :2], table[:, 2:] - table[:, :2]], 1).tolist()
