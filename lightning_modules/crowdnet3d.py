"""3DCrowdNet: a person among others, told apart by a 2D pose.

Choi et al., "Learning to Estimate Robust 3D Human Mesh from In-the-Wild Crowded Scenes", CVPR 2022, §4; checkpoints of
the released code load as they are (with ``pose_head="vposer"``).
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Literal

import torch
from torch import Tensor

from human.batch import PoseBatch
from human.camera import translation_to_weak
from human.errors import PosesynError
from human.rotations import sixd_to_matrix
from lightning_modules.base import ESTIMATORS, PoseEstimator, Regression, Solution
from lightning_modules.checkpoints import check_state, read_checkpoint
from lightning_modules.crowdnet_conventions import (
    FEATURE_STRIDE,
    camera_to_translation,
    coco_joints,
    crop_intrinsics,
    guiding_joints,
    heat_maps,
    inside,
)
from lightning_modules.crowdnet_losses import PAPER_WEIGHTS, SIXD_WEIGHTS, crowdnet_losses
from lightning_modules.crowdnet_network import GuidedResNet, JointRegressor, PositionNet
from lightning_modules.hmr import HMR
from lightning_modules.losses import LossWeights
from lightning_modules.normalisation import CROWDNET, Normalise
from lightning_modules.pose_errors import Neighbours, detector_errors
from lightning_modules.pose_guide import PoseGuide
from lightning_modules.upright import upright_sixd
from synth.pose_prior import JOINTS
from synth.pose_prior_files import LATENT, VPoserDecoder, decoder_state, find_vposer, missing_vposer

#: A detector's box about labelled joints is this much larger than theirs, in width and height.
BOX_MARGIN = 1.2


@ESTIMATORS.register("crowdnet3d")
class CrowdNet3D(PoseEstimator):
    """3DCrowdNet on a ResNet.

    The 2D pose that tells the network whom to look at is, in training, the labelled one with a detector's errors
    (§5.1); when it predicts, ``pose2d`` finds it.

    Args:
        backbone: a ResNet of timm's; the paper's is "resnet50".
        pose2d: who finds the joints when it predicts. "packaged": posesyn's own small HMR, at 128 px; an estimator with
            a ``checkpoint``; or "labels": the ``joints2d`` of the batch, for data sets that hold detections there, as
            the original's evaluation files do. Nothing else ever predicts from labels.
        pose_head: "vposer", the original's, of which VPoser's latent code says the pose (the hands rest), or "sixd",
            which says all rotations itself, and needs no licensed weights.
        vposer: VPoser's folder or snapshot; default: from the folders of body models, or with ``checkpoint``.
        depth: cells of the 3D heat maps in depth.
        width, residuals: of the graph convolutions.
        sigma: of the guiding heat maps, in cells of 4 pixels.
        errors: whether the labelled pose gets a detector's errors in training.
        neighbours: whether the next sample's pose stands for a person close by, so that errors of the swap kind come
            too. A sample holds one person's labels, so no others are known.
        extremities: whether the pose loss acts on ankles, feet, wrists and hands; False is the paper's, whose pseudo
            ground truth is unreliable there.
        loss: weights of the terms (:mod:`lightning_modules.crowdnet_losses`); default: the paper's, and with "sixd"
            the terms that hold a pose to the joint limits.
        backbone_checkpoint: torchvision's ImageNet weights of the ResNet, or of any network with its names.
        **base: see :class:`lightning_modules.base.PoseEstimator`.
    """

    crop_convention = "3dcrowdnet"
    upstream_body = True

    def __init__(
        self,
        backbone: str = "resnet50",
        pose2d: PoseEstimator | Literal["packaged", "labels"] = "packaged",
        pose_head: Literal["sixd", "vposer"] = "sixd",
        vposer: str | None = None,
        depth: int = 8,
        width: int = 128,
        residuals: int = 4,
        sigma: float = 2.5,
        errors: bool = True,
        neighbours: bool = False,
        extremities: bool = True,
        loss: LossWeights | None = None,
        backbone_checkpoint: str | None = None,
        image_size: int = 256,
        focal: str = "3dcrowdnet",
        **base: Any,
    ) -> None:
        _check_options(image_size, depth, pose2d, pose_head)
        loss = loss or (SIXD_WEIGHTS if pose_head == "sixd" else PAPER_WEIGHTS)
        super().__init__(image_size=image_size, focal=focal, loss=loss, **base)
        self.sigma, self.errors, self.neighbours, self.extremities = sigma, errors, neighbours, extremities
        self.depth, self.pose_head = depth, pose_head
        self.normalise = Normalise(CROWDNET)
        self.backbone = GuidedResNet(backbone)
        self.position_net = PositionNet(self.backbone.channels, depth)
        self.head = JointRegressor(self.backbone.channels, width, 23 * 6 if pose_head == "sixd" else LATENT, residuals)
        self._start()
        self.guide = self._make_guide(pose2d)
        self._training_pose = False  # set within a training step: the labelled pose, with errors
        self._prior_checked = pose_head == "sixd"
        if pose_head == "vposer":
            self.vposer = VPoserDecoder()
            if (file := vposer or find_vposer("v1")) is not None:
                self.vposer.load(file)
        if backbone_checkpoint is not None:
            self.load_backbone(backbone_checkpoint)
        self.load_initial_weights()
        self.train()

    def _start(self) -> None:
        """Upright in the middle of the crop, three quarters of the camera's extent high."""
        upright = upright_sixd()
        with torch.no_grad():
            self.head.root_pose_out.bias.copy_(upright[0])
            if self.pose_head == "sixd":
                self.head.pose_out.bias.copy_(upright[1:].flatten())
            self.head.cam_out.bias.copy_(torch.tensor([0.0, 0.2, 1.0]))
            self.head.cam_out.bias[:2] -= self.body.J_template[0, :2]

    def _make_guide(self, pose2d: PoseEstimator | str) -> PoseGuide | None:
        if pose2d == "labels":
            return None
        if pose2d == "packaged":
            return PoseGuide(HMR(checkpoint="packaged:hmr_free_128"))
        assert isinstance(pose2d, PoseEstimator)
        return PoseGuide(pose2d)

    def train(self, mode: bool = True) -> CrowdNet3D:
        super().train(mode)
        if self.pose_head == "vposer":
            self.vposer.eval()
        return self

    # -- the 2D pose that guides -------------------------------------------------------------------------------------
    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        self._training_pose = True
        try:
            return super().training_step(batch, batch_idx)
        finally:
            self._training_pose = False

    def guiding_pose(self, batch: PoseBatch) -> tuple[Tensor, Tensor]:
        """(B,30,2) pixels and (B,30) bool: whom the network is to look at."""
        if self._training_pose or self.guide is None:
            seen32 = batch.joints2d_conf > 0
            joints, seen = coco_joints(torch.where(seen32[..., None], batch.joints2d, 0.0), seen32)
            seen = seen & inside(joints, self.image_size)
            if self._training_pose and self.errors:
                joints, found = self._with_errors(joints, seen)
                seen = seen & found
        else:
            joints, seen = coco_joints(*self.guide(batch))
        # Errors may carry a joint out of the crop; its heat then fades towards the edge, as in the original.
        if not self._training_pose:
            seen = seen & inside(joints, self.image_size)
        return guiding_joints(joints, seen)

    def _with_errors(self, joints_B17: Tensor, seen_B17: Tensor) -> tuple[Tensor, Tensor]:
        far = torch.where(seen_B17[..., None], joints_B17, -torch.inf).amax(1)
        near = torch.where(seen_B17[..., None], joints_B17, torch.inf).amin(1)
        area = ((far - near).clamp(0, self.image_size) * BOX_MARGIN).prod(-1)
        area = torch.where(seen_B17.any(1), area, 0.0)
        others = None
        if self.neighbours and len(joints_B17) > 1:
            others = Neighbours(
                joints_B17.roll(1, 0)[:, None], seen_B17.roll(1, 0)[:, None], seen_B17.roll(1, 0).any(1).long()
            )
        return detector_errors(joints_B17, seen_B17, area, others)

    # -- what it says ------------------------------------------------------------------------------------------------
    def regress(self, batch: PoseBatch) -> Regression:
        if not self._prior_checked:
            if not self.vposer.loaded:
                raise PosesynError(
                    missing_vposer("pose_head='vposer'", "v1") + "; or load a 3DCrowdNet checkpoint, which holds them "
                    "(`checkpoint`), or use pose_head='sixd'"
                )
            self._prior_checked = True
        joints, seen = self.guiding_pose(batch)
        return self.regress_guided(batch.image, heat_maps(joints, seen, self.image_size, self.sigma))

    def regress_guided(self, image: Tensor, heat_B30HW: Tensor) -> Regression:
        """Network output for uint8 pictures and the heat maps of the 2D pose."""
        if len(image) < 2 and self.head.graph.training:
            raise PosesynError(
                "crowdnet3d normalises each joint's features over the batch, and one sample has no spread: train with "
                "data.batch_size of at least 2 on each device, or with the head frozen (model.frozen: [head])"
            )
        maps = self.backbone(self.normalise(image).to(heat_B30HW.dtype), heat_B30HW)
        at, score = self.position_net(maps)
        said = self.head(maps, at.detach(), score.detach())
        if self.pose_head == "vposer":
            body = self.vposer.decode(said.pose)
            hands = torch.eye(3, device=body.device).expand(len(body), 23 - JOINTS, 3, 3)
            body = torch.cat([body, hands], 1)
        else:
            body = sixd_to_matrix(said.pose.unflatten(1, (23, 6)))
        rotations = torch.cat([sixd_to_matrix(said.root)[:, None], body], 1)
        # The network's camera moves the body's origin; ours says where the pelvis is.
        pelvis = self.body.J_template[0] + (said.betas[:, None] * self.body.J_shapedirs[0]).sum(-1)
        transl = camera_to_translation(said.camera, self.focal, self.image_size) + pelvis
        weak = translation_to_weak(transl, transl.new_full((len(transl),), self.focal), self.image_size)
        extras = {"cells": at, "score": score, "camera": said.camera}
        return Regression(rotations, said.betas, weak, features=said.features, extras=extras)

    def place(self, weak_B3: Tensor, batch: PoseBatch) -> tuple[Tensor, Tensor]:
        """In front of the original's camera, which looks at pixel S / 2."""
        transl, _ = super().place(weak_B3, batch)
        return transl, crop_intrinsics(len(weak_B3), self.focal, self.image_size, weak_B3)

    def losses(self, out: Solution, batch: PoseBatch) -> dict[str, Tensor]:
        return crowdnet_losses(
            batch,
            cells_B153=out.said.extras["cells"],
            feature_cells=self.image_size // FEATURE_STRIDE,
            depth_cells=self.depth,
            joints2d_B32=out.joints2d,
            joints3d_B32=out.joints3d,
            rotations_B24=out.rotations,
            betas=out.betas,
            weights=self.loss_weights,
            extremities=self.extremities,
        )

    # -- weights -----------------------------------------------------------------------------------------------------
    def weights_hash(self) -> str:
        """Of what it predicts with: the guide's weights too."""
        own = super().weights_hash()
        guide = "labels" if self.guide is None else self.guide.weights_hash
        return hashlib.sha256(f"{own} {guide}".encode()).hexdigest()[:16]

    def load_backbone(self, path: str) -> None:
        """A ResNet's weights alone; its classifier is left out."""
        file, state = read_checkpoint(path)
        state = {k.removeprefix("module."): v for k, v in state.items()}
        state = {k.removeprefix("backbone."): v for k, v in state.items() if not k.startswith("fc.")}
        own = {k: v for k, v in self.backbone.state_dict().items() if not k.startswith("pose2feat.")}
        check_state(state, own, file, "ResNet of crowdnet3d")
        self.backbone.load_state_dict(state, strict=False)

    @classmethod
    def from_upstream(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """The released code's snapshots. Its SMPL layer and VPoser's encoder, which predict nothing, are left out."""
        state = {k.removeprefix("module."): v for k, v in state.items()}
        if not any(k.startswith("rotation_net.graph_block.") for k in state):
            return None
        ours: dict[str, Tensor] = {}
        joints: dict[str, dict[int, Tensor]] = {}
        for name, value in state.items():
            if name.startswith(("human_model_layer.", "vposer.")):
                continue
            for pattern, replacement in _RENAMED:
                name = re.sub(pattern, replacement, name)
            if (found := _JOINT.fullmatch(name)) is None:
                ours[name] = value
            else:
                layer = f"{found[1]}{'norm.' if found[3] == '1' else ''}{found[4]}"
                joints.setdefault(layer, {})[int(found[2])] = value
        for name, values in joints.items():
            stack = [values[j] for j in sorted(values)]
            if name.endswith("num_batches_tracked"):
                ours[name] = stack[0]
            else:
                ours[name] = torch.stack(stack) if stack[0].ndim == 2 else torch.cat(stack)
        decoder = {k: v for k, v in state.items() if "bodyprior_dec_" in k}
        return ours | {f"vposer.{k}": v for k, v in decoder_state(decoder).items()}


#: Names of the original's modules, and ours.
_RENAMED = (
    (r"^pose2feat\.conv\.", "backbone.pose2feat."),
    (r"^position_net\.conv\.0\.", "position_net.conv."),
    (r"^rotation_net\.(\w+_out)\.0\.", r"head.\1."),
    (r"^rotation_net\.graph_block\.", "head.graph."),
    (r"\.graph_block1\.", ".first."),
    (r"\.graph_block2\.", ".second."),
)
#: A linear layer (0) or normalisation (1) of one joint within a graph convolution.
_JOINT = re.compile(r"(head\.graph\..*)fcbn_list\.(\d+)\.([01])\.(\w+)")


def _check_options(image_size: int, depth: int, pose2d: object, pose_head: str) -> None:
    if image_size % FEATURE_STRIDE or image_size < 2 * FEATURE_STRIDE or depth < 2:
        raise PosesynError(
            f"crowdnet3d needs an image_size that is a multiple of {FEATURE_STRIDE}, at least {2 * FEATURE_STRIDE}, "
            f"and depth of at least 2; got {image_size} and {depth}"
        )
    if pose_head not in ("sixd", "vposer"):
        raise PosesynError(f"pose_head={pose_head!r}: choose sixd or vposer")
    if not isinstance(pose2d, PoseEstimator) and pose2d not in ("packaged", "labels"):
        raise PosesynError(f"pose2d={pose2d!r}: choose packaged, labels, or give an estimator")
