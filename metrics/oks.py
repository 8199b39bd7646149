"""OKS averaged over persons, and COCO's average precision over batches and ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from metrics.functional.coco import AP_NAMES, keypoint_ap
from metrics.functional.mpjpe import joint_weights
from metrics.functional.oks import COCO_SIGMAS, oks
from metrics.mean import MeanOverPersons


class OKS(MeanOverPersons):
    """Mean over persons of :func:`metrics.functional.oks`, 0..1.

    Examples:
        >>> import torch
        >>> metric = OKS(sigmas=[0.25])
        >>> metric.update(torch.tensor([[[100.0, 0]]]), torch.zeros(1, 1, 2), torch.tensor([100.0**2]))
        >>> metric.compute().log()
        tensor(-2., dtype=torch.float64)
    """

    higher_is_better = True

    def __init__(self, sigmas: Sequence[float] = COCO_SIGMAS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sigmas = tuple(sigmas)

    def update(self, pred_BJ2: Tensor, target_BJ2: Tensor, area_B: Tensor, weight_BJ: Tensor | None = None) -> None:
        """Add B persons: keypoints in pixels, segment area in square pixels, and the labels' mask."""
        values_B = oks(pred_BJ2, target_BJ2, area_B, weight_BJ, self.sigmas)
        self._add(values_B, (joint_weights(target_BJ2, weight_BJ) > 0).any(-1) & area_B.isfinite() & (area_B > 0))


class KeypointAP(Metric):
    """:func:`metrics.functional.keypoint_ap` over all detections and annotations of all ranks.

    ``compute()`` is a dict of float64 tensors by ``AP_NAMES``; ``invalid`` the number of detections left out because
    they were not finite, over all ranks as of the last ``compute()``. A picture's detections and annotations may come
    in several updates and on several ranks; each only once.

    Examples:
        >>> import torch
        >>> people = 100 * torch.rand(2, 17, 2, generator=torch.Generator().manual_seed(0))
        >>> seen, area, image = torch.full((2, 17), 2), torch.full((2,), 50.0**2), torch.tensor([7, 8])
        >>> metric = KeypointAP()
        >>> metric.update(people, torch.ones(2), image, people, seen, area, image)
        >>> round(metric.compute()["AP"].item(), 4)
        1.0
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    detections: list[Tensor]
    annotations: list[Tensor]

    def __init__(self, sigmas: Sequence[float] = COCO_SIGMAS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sigmas = tuple(sigmas)
        # Flat rows of float64, so that ranks can be joined where one has none; picture numbers below 2^53 survive.
        self.set_dtype(torch.float64)
        self.add_state("detections", [], dist_reduce_fx="cat")
        self.add_state("annotations", [], dist_reduce_fx="cat")
        self.invalid = 0

    def update(
        self,
        pred_DJ2: Tensor,
        score_D: Tensor,
        pred_image_D: Tensor,
        target_GJ2: Tensor,
        visible_GJ: Tensor,
        area_G: Tensor,
        image_G: Tensor,
        box_G4: Tensor | None = None,
        crowd_G: Tensor | None = None,
    ) -> None:
        """Add D detections and G annotations, either may be 0; see :func:`metrics.functional.keypoint_ap`."""
        box = area_G.new_full((len(area_G), 4), torch.nan) if box_G4 is None else box_G4
        crowd = torch.zeros_like(image_G) if crowd_G is None else crowd_G
        self.detections.append(_flat(pred_DJ2, score_D, pred_image_D))
        self.annotations.append(_flat(target_GJ2, visible_GJ, area_G, image_G, box, crowd))

    def compute(self) -> dict[str, Tensor]:
        """``AP_NAMES`` to () float64 in 0..1; -1 where there is nothing to find."""
        if isinstance(self.detections, list) and not self.detections:  # a tensor once ranks are joined
            return {name: torch.tensor(torch.nan, dtype=torch.float64) for name in AP_NAMES}
        joints = len(self.sigmas)
        detection, annotation = (dim_zero_cat(rows) for rows in (self.detections, self.annotations))
        pred, score, pred_image = detection.reshape(-1, 2 * joints + 2).split([2 * joints, 1, 1], 1)
        table = annotation.reshape(-1, 3 * joints + 7)
        target, visible, area, image, box, crowd = table.split([2 * joints, joints, 1, 1, 4, 1], 1)
        pred, target = pred.reshape(-1, joints, 2), target.reshape(-1, joints, 2)
        score, pred_image, area, image, crowd = (c[:, 0] for c in (score, pred_image, area, image, crowd))
        self.invalid = int((~(pred.isfinite().flatten(1).all(-1) & score.isfinite())).sum())
        boxes = None if box.isnan().any() else box
        found = keypoint_ap(pred, score, pred_image, target, visible, area, image, boxes, crowd, self.sigmas)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in found.items()}

    def reset(self) -> None:
        super().reset()
        self.invalid = 0


def _flat(*columns: Tensor) -> Tensor:
    """Tensors (N,...) side by side, as one row after the other."""
    return torch.cat([c.detach().to(torch.float64).reshape(len(c), c.shape[1:].numel()) for c in columns], 1).flatten()
