"""PCK averaged over persons, batches and ranks."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from metrics.functional.pck import correct_joints


class PCK(Metric):
    """Share of joints within ``threshold`` times each person's normaliser, in 0..1.

    Args:
        num_joints: J.
        threshold: of the normaliser, which :meth:`update` takes per person (:func:`~metrics.functional.torso_length`,
            :func:`~metrics.functional.box_side`, :func:`~metrics.functional.head_size`).
        average: ``"joint"`` is the mean over joints of each joint's share (JHMDB, HMR2's LSP); ``"label"`` the share of
            all labels (MPII's mean, which weighs joints by how often they are labelled); ``"person"`` the mean over
            persons of :func:`metrics.functional.pck` (SMART).

    ``compute()`` is NaN when nothing was counted; joints never labelled are left out. ``invalid`` is the number of
    persons left out because a prediction of a labelled joint was not finite, over all ranks as of the last
    ``compute()``.

    Examples:
        >>> import torch
        >>> metric = PCK(num_joints=3, threshold=0.5)
        >>> target = torch.zeros(2, 3, 2)
        >>> pred = torch.tensor([[[4.0, 0], [6, 0], [0, 0]], [[0, 0], [0, 0], [9, 9]]])
        >>> metric.update(pred, target, normaliser_B=torch.tensor([10.0, 10.0]))
        >>> metric.compute(), metric.per_joint()
        (tensor(0.6667, dtype=torch.float64), tensor([1.0000, 0.5000, 0.5000], dtype=torch.float64))
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    n_correct: Tensor
    n_counted: Tensor
    share_sum: Tensor
    n_persons: Tensor
    n_invalid: Tensor

    def __init__(
        self,
        num_joints: int,
        threshold: float = 0.2,
        average: Literal["joint", "label", "person"] = "joint",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.threshold, self.average = threshold, average
        self.add_state("n_correct", torch.zeros(num_joints, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("n_counted", torch.zeros(num_joints, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("share_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("n_persons", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("n_invalid", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.invalid = 0

    def update(
        self,
        pred_BJ2: Tensor,
        target_BJ2: Tensor,
        normaliser_B: Tensor | None = None,
        weight_BJ: Tensor | None = None,
    ) -> None:
        """Add B persons: joints and normaliser in pixels (None: the threshold is), and the labels' mask or confidence
        (None: all labelled)."""
        correct_BJ, counted_BJ = correct_joints(pred_BJ2, target_BJ2, normaliser_B, self.threshold, weight_BJ)
        invalid_B = (counted_BJ & ~pred_BJ2.isfinite().all(-1)).any(-1)
        correct_BJ, counted_BJ = correct_BJ & ~invalid_B[:, None], counted_BJ & ~invalid_B[:, None]
        n_counted_B = counted_BJ.sum(1)
        self.n_correct += correct_BJ.sum(0)
        self.n_counted += counted_BJ.sum(0)
        self.share_sum += (correct_BJ.sum(1).double() / n_counted_B.clamp_min(1)).sum()
        self.n_persons += (n_counted_B > 0).sum()
        self.n_invalid += invalid_B.sum()

    def per_joint(self) -> Tensor:
        """(J,) float64 share of each joint on this rank, NaN for joints never labelled."""
        return self.n_correct.double() / self.n_counted

    def compute(self) -> Tensor:
        """() float64 in 0..1."""
        self.invalid = int(self.n_invalid)
        if self.average == "label":
            return self.n_correct.sum().double() / self.n_counted.sum()
        if self.average == "person":
            return self.share_sum / self.n_persons
        return self.per_joint().nanmean()

    def reset(self) -> None:
        super().reset()
        self.invalid = 0
