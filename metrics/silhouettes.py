"""How far a predicted body covers the person in the picture, and nothing else."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from human.raster import rasterise
from metrics.case import Case, NotMeasured
from metrics.measures import measure, per_person


def silhouette_iou(predicted_BHW: Tensor, true_BHW: Tensor) -> Tensor:
    """(B,) float64 intersection over union of two masks (bool); NaN where both are empty.

    Examples:
        >>> import torch
        >>> one, two = torch.zeros(1, 4, 4, dtype=torch.bool), torch.zeros(1, 4, 4, dtype=torch.bool)
        >>> one[:, :2], two[:, 1:3] = True, True
        >>> silhouette_iou(one, two).item() == 4 / 12
        True
    """
    both, either = (
        (f(predicted_BHW, true_BHW)).flatten(1).sum(1).double() for f in (torch.logical_and, torch.logical_or)
    )
    return torch.where(either > 0, both / either, torch.nan)


@measure("iou", "%")
def _iou(case: Case, _: float) -> tuple[Tensor, Tensor]:
    """Of the predicted mesh, drawn where it stands by the picture's own camera, and the truth's "silhouette"."""
    if case.predicted.transl is None:
        raise NotMeasured("the predictions do not say where their bodies stand")
    packed = np.asarray(case.truth["silhouette"])
    true = torch.from_numpy(np.unpackbits(packed, axis=-1).astype(bool))
    body = case.predicted_body
    cameras = torch.as_tensor(np.asarray(case.truth["intrinsics"], np.float32))
    drawn = rasterise(body.vertices.float(), body.mesh_body.faces, cameras, (true.shape[1], true.shape[2])).mask
    share = torch.where(case.missing, torch.nan, silhouette_iou(drawn, true))
    return per_person(100 * share, torch.ones(len(share), dtype=torch.bool))
