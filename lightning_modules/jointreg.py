"""Chen et al.'s estimator: a classification network whose last layer says 15 joints.

"Synthesizing Training Images for Boosting Human 3D Pose Estimation" (3DV 2016), §5: an ImageNet network of the AlexNet
or VGG kind ends in 45 numbers, the joints of a skeleton scaled to a sum of bone lengths of 1, under a squared error.
The authors' Caffe definition (chen1474147/Deep3DPose:5-caffe/myexamples) squashes the 45 by a sigmoid, which ours does
not. Three numbers are added, a weak-perspective camera, without which no error in a picture could be seen and nothing
mined; they have their own weight (``loss.joints2d``; 0 is the paper's training).
"""

from __future__ import annotations

from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from human.batch import PoseBatch
from human.camera import project
from human.errors import PosesynError
from human.fit import fit_joints3d
from human.prediction import Prediction
from human.skeleton import POSE32
from lightning_modules.base import ESTIMATORS, PoseEstimator, Regression, Solution
from lightning_modules.checkpoints import check_state, read_checkpoint
from lightning_modules.losses import labelled, masked_mean
from lightning_modules.normalisation import IMAGENET, Normalise
from lightning_modules.upright import upright_rotations

#: The 15 joints, and the bones whose lengths are summed: (child, parent) by name.
JOINTS15 = (
    "pelvis", "upper_neck", "head_top", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow",
    "right_wrist", "left_hip", "left_knee", "left_ankle", "right_hip", "right_knee", "right_ankle",
)  # fmt: skip
_PARENTS = {"upper_neck": "pelvis", "head_top": "upper_neck"} | {
    f"{side}_{child}": f"{side}_{parent}" if limb else parent
    for side in ("left", "right")
    for child, parent, limb in (
        ("shoulder", "upper_neck", False),
        ("elbow", "shoulder", True),
        ("wrist", "elbow", True),
        ("hip", "pelvis", False),
        ("knee", "hip", True),
        ("ankle", "knee", True),
    )
}
BONES15 = tuple((JOINTS15.index(child), JOINTS15.index(parent)) for child, parent in _PARENTS.items())
IN_POSE32 = POSE32.indices(*JOINTS15)
_CHILD, _PARENT = (list(ends) for ends in zip(*BONES15, strict=True))


def bone_lengths(joints_BN3: Tensor) -> Tensor:
    """(B,14) lengths of the bones of :data:`JOINTS15`, in the joints' unit."""
    return (joints_BN3[:, _CHILD] - joints_BN3[:, _PARENT]).norm(dim=-1)


def sum_of_bones(joints_BN3: Tensor, conf_BN: Tensor, reference_M: Tensor) -> Tensor:
    """(B,) sum of the 14 bone lengths; bones that are not labelled count as long as ``reference_M`` says, scaled to
    those that are. 0 where no bone is labelled."""
    seen = (conf_BN[:, _CHILD] > 0) & (conf_BN[:, _PARENT] > 0)
    known = torch.where(seen, bone_lengths(joints_BN3), joints_BN3.new_zeros(())).sum(1)
    share = (seen * reference_M).sum(1) / reference_M.sum()
    return known / share.clamp_min(1e-6)


@ESTIMATORS.register("jointreg")
class JointRegressor(PoseEstimator):
    """Joints by classification network. Body parameters are fitted to the joints when it predicts, not in training.

    Args:
        backbone: a torchvision classification network that ends in a ``classifier``: "alexnet", "vgg16", ....
        hidden: width of the two layers before the last one.
        dropout: before each of those.
        backbone_checkpoint: torchvision's ImageNet weights, a file; its last layer is left out.
        fit_iterations: refinement of the fitted body; 0 leaves the closed-form pose.
        **base: see :class:`lightning_modules.base.PoseEstimator`.
    """

    reference: Tensor

    def __init__(
        self,
        backbone: str = "vgg16",
        hidden: int = 4096,
        dropout: float = 0.5,
        backbone_checkpoint: str | None = None,
        fit_iterations: int = 6,
        image_size: int = 224,
        **base: Any,
    ) -> None:
        super().__init__(image_size=image_size, **base)
        self.backbone, width = _features(backbone)
        self.hidden = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, hidden),
            nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(hidden, 3 * len(JOINTS15) + 3)
        self.fit_iterations = fit_iterations
        self.normalise = Normalise(IMAGENET)
        start = self._upright()
        self.register_buffer("reference", bone_lengths(start)[0], persistent=False)
        nn.init.normal_(self.head.weight, std=1e-3)
        with torch.no_grad():
            self.head.bias.copy_(torch.cat([(start[0] / self.reference.sum()).flatten(), torch.tensor([0.9, 0, 0.2])]))
        if backbone_checkpoint is not None:
            self.load_imagenet(backbone_checkpoint)
        self.load_initial_weights()

    def _upright(self) -> Tensor:
        """(1,15,3) the mean body upright before the camera, arms down, metres."""
        turns = upright_rotations()[None]
        joints = self.body.joints(torch.zeros(1, self.body.num_betas), turns[:, 1:], turns[:, 0], None)
        return (joints - joints[:, :1])[:, IN_POSE32]

    def regress(self, batch: PoseBatch) -> Regression:
        x = self.backbone(self.normalise(batch.image))
        features = self.hidden(x.flatten(1))
        said = self.head(features).float()
        joints = said[:, :-3].unflatten(1, (len(JOINTS15), 3))
        unknown = {"rotations": joints.new_zeros(len(said), 24, 3, 3), "betas": joints.new_zeros(len(said), 10)}
        return Regression(**unknown, weak=said[:, -3:], features=features, extras={"normalised": joints})

    def solve(self, batch: PoseBatch) -> Solution:
        """Joints in metres, at the mean body's sum of bone lengths; those of POSE32 that are not regressed stay at the
        pelvis, and rotations and shape at 0: :meth:`predict` fits them."""
        self.check_size(batch)
        said = self.regress(batch)
        metres = said.extras["normalised"] * self.reference.sum()
        joints = metres.new_zeros(len(metres), len(POSE32), 3)
        joints[:, IN_POSE32] = metres - metres[:, :1]
        transl, intrinsics = self.place(said.weak.float(), batch)
        pixels = project(joints + transl[:, None], intrinsics)
        return Solution(said.rotations, said.betas, transl, intrinsics, joints, pixels, said)

    def losses(self, out: Solution, batch: PoseBatch) -> dict[str, Tensor]:
        weight, conf = self.loss_weights, batch.joints3d_conf[:, IN_POSE32]
        labels = labelled(batch.joints3d[:, IN_POSE32], conf)
        total = sum_of_bones(labels, conf, self.reference)
        has = (conf * (total[:, None] > 0)).float()
        target = labels / total.clamp_min(1e-6)[:, None, None]
        squared = (out.said.extras["normalised"] - target).square().sum(-1)
        seen = batch.joints2d_conf[:, IN_POSE32]
        pixels = labelled(batch.joints2d[:, IN_POSE32], seen)
        off = (out.joints2d[:, IN_POSE32] - pixels).abs().sum(-1) / self.image_size
        return {
            # In units of the reference skeleton, squared: normalised coordinates are of the order of 0.1.
            "joints3d": weight.joints3d * masked_mean(squared, has, batch.weight) * self.reference.sum() ** 2,
            "joints2d": weight.joints2d * masked_mean(off, seen, batch.weight),
        }

    def predict(self, batch: PoseBatch) -> Prediction:
        """The regressed joints; body parameters, and the joints that are not regressed, are those of the body fitted
        to them (no gradient goes through the fit)."""
        out = self.solve(batch)
        conf = out.joints3d.new_zeros(out.joints3d.shape[:2])
        conf[:, IN_POSE32] = 1
        with torch.autocast(out.joints3d.device.type, enabled=False):
            fit = fit_joints3d(self.body, out.joints3d.detach(), conf, iterations=self.fit_iterations, on_bad="mask")
            joints = self.body.joints(fit.betas, fit.body_pose, fit.global_orient, fit.transl)
        mine = conf[..., None] > 0
        relative = torch.where(mine, out.joints3d, joints - joints[:, :1])
        return Prediction(
            joints3d=relative,
            joints2d=project(relative + out.transl[:, None], out.intrinsics),
            global_orient=fit.global_orient,
            body_pose=fit.body_pose,
            betas=fit.betas,
            transl=out.transl,
            intrinsics=out.intrinsics,
        )

    # -- weights -----------------------------------------------------------------------------------------------------
    @classmethod
    def from_upstream(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """torchvision's layout: ``features.N``, and a ``classifier`` of three linear layers."""
        if not any(k.startswith("classifier.") for k in state):
            return None
        linear = sorted({int(k.split(".")[1]) for k in state if k.startswith("classifier.")})
        ours = dict(zip(linear, ("hidden.1", "hidden.4", "head"), strict=False))
        return {
            (f"{ours[int(k.split('.')[1])]}.{k.split('.')[2]}" if k.startswith("classifier.") else f"backbone.{k}"): v
            for k, v in state.items()
        }

    def load_imagenet(self, path: str) -> None:
        """All but the last layer of torchvision's classification weights."""
        file, state = read_checkpoint(path)
        state = {k: v for k, v in (self.from_upstream(state) or state).items() if not k.startswith("head.")}
        own = {k: v for k, v in self.trained_state().items() if not k.startswith("head.")}
        check_state(state, own, file, type(self).__name__)
        self.load_state_dict(state, strict=False)


def _features(name: str) -> tuple[nn.Module, int]:
    """Convolutions and the pooling behind them, and how many numbers they give."""
    known = torchvision.models.list_models(include=["alexnet", "vgg*"])
    if name not in known:
        raise PosesynError(f"backbone={name!r} is not one of torchvision's {', '.join(known)}")
    model = torchvision.models.get_model(name, weights=None)
    first = next(m for m in model.classifier if isinstance(m, nn.Linear))
    parts = nn.Sequential()
    parts.add_module("features", model.features)
    parts.add_module("avgpool", model.avgpool)
    return parts, first.in_features
