"""The figures of the run's table, from predictions and labelled batches."""

from __future__ import annotations

import torch
from torch import nn

from human.batch import PoseBatch
from human.prediction import Prediction
from human.skeleton import LIMB_JOINTS, LSP14, POSE32, convert
from metrics.functional import box_side, torso_length
from metrics.mpjpe import MPJPE, PAMPJPE
from metrics.pck import PCK

_LIMBS = POSE32.indices(*LIMB_JOINTS)
_ROOT = [LIMB_JOINTS.index("left_hip"), LIMB_JOINTS.index("right_hip")]


class PoseScores(nn.Module):
    """MPJPE, PA-MPJPE, PCK@0.2 of the torso and PCK@0.1 of the box over batches.

    3D: the 12 limb joints that are labelled, root = middle of the hips (every data set has those), mm. 2D: LSP's 14
    joints by name; torso = left shoulder to right hip, box = longer side of the box of labelled joints.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mpjpe, self.pa_mpjpe = MPJPE(root=_ROOT), PAMPJPE()
        self.pck_torso, self.pck_box = PCK(len(LSP14), 0.2), PCK(len(LSP14), 0.1)

    def reset(self) -> None:
        for metric in (self.mpjpe, self.pa_mpjpe, self.pck_torso, self.pck_box):
            metric.reset()

    def update(self, prediction: Prediction, batch: PoseBatch) -> None:
        """Add B persons; unreadable ones (weight 0) are left out."""
        readable = (batch.weight > 0).to(batch.joints3d_conf.dtype)[:, None]
        conf3d = (batch.joints3d_conf * readable)[:, _LIMBS]
        target3d = batch.joints3d[:, _LIMBS]
        for metric in (self.mpjpe, self.pa_mpjpe):
            metric.update(prediction.joints3d[:, _LIMBS], target3d, (conf3d > 0).float())
        target2d, conf2d = convert(batch.joints2d, batch.joints2d_conf * readable, "pose32", "lsp14")
        predicted2d, _ = convert(prediction.joints2d, batch.joints2d_conf, "pose32", "lsp14")
        self.pck_torso.update(predicted2d, target2d, torso_length(target2d, conf2d), conf2d)
        self.pck_box.update(predicted2d, target2d, box_side(target2d, conf2d), conf2d)

    def compute(self) -> dict[str, float]:
        """Figures that have at least one person behind them."""
        values = {name: float(getattr(self, name).compute()) for name in ("mpjpe", "pa_mpjpe", "pck_torso", "pck_box")}
        values["invalid"] = float(max(m.invalid for m in (self.mpjpe, self.pck_torso)))
        return {k: v for k, v in values.items() if not torch.isnan(torch.tensor(v))}
