"""HybrIK: 3D joints from volumetric heat maps, twist angles and shape from a regressor, the pose by inverse kinematics.

Li et al., "HybrIK: A Hybrid Analytical-Neural Inverse Kinematics Solution for 3D Human Pose and Shape Estimation",
CVPR 2021, §3.2 (inverse kinematics) and §3.3 (network), in the released code's form with a predicted camera: a ResNet
with transposed convolutions (``Simple3DPoseBaseSMPLCam``), or an HRNet (``HRNetSMPLCam``), which also refines its
camera. Checkpoints of both load as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

from human.batch import PoseBatch
from human.camera import weak_to_translation
from human.errors import PosesynError
from lightning_modules.base import ESTIMATORS, PoseEstimator, Regression, Solution
from lightning_modules.heatmaps3d import Heatmaps3d, HRNetMaps, expected_coordinates, mirrored, probabilities
from lightning_modules.hybrik_camera import (
    DEPTH_EXTENT,
    back_project,
    depth_of,
    pixels_to_uv,
    refine_scale,
    uv_to_pixels,
)
from lightning_modules.hybrik_kinematics import SWAP23, SWAP29, RestSkeleton, inverse_kinematics, pose29
from lightning_modules.hybrik_losses import HybrIKLoss, hybrik_losses, make_labels
from lightning_modules.losses import LossWeights
from lightning_modules.normalisation import HYBRIK, Normalisation, Normalise

#: Terms on the solved body, which the original does not use.
NO_BODY_LOSS = LossWeights(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
#: Names of the original's modules and ours; the first that fits. Its body model (``smpl.``) comes from our own file.
_RENAMED = (
    ("preact.final_layer.", "heat.final_layer."),
    ("preact.final_feat_layer.", "backbone.final_layer."),
    ("preact.", "backbone."),
    ("deconv_layers.", "heat.deconv_layers."),
    ("final_layer.", "heat.final_layer."),
    ("", "head."),
)


class Found(NamedTuple):
    """What the network sees: ``uvd`` (B,29,3), ``sigma`` (B,29,1) in 0..1, ``betas`` (B,10), ``twist`` (B,23,2) not
    normalised, ``camera`` (B,1 or 3), ``features`` (B,F); float32."""

    uvd: Tensor
    sigma: Tensor
    betas: Tensor
    twist: Tensor
    camera: Tensor
    features: Tensor


class HybrIKHead(nn.Module):
    """Pooled features to shape, twist, camera and the width of each joint's distribution.

    ``hidden``: of the two linear layers (without an activation between them, as the original has it); 0: none.
    """

    init_shape: Tensor
    init_cam: Tensor

    def __init__(self, features: int, hidden: int, dropout: float, camera: tuple[float, ...]) -> None:
        super().__init__()
        self.hidden = hidden
        if hidden:
            self.fc1, self.drop1 = nn.Linear(features, hidden), nn.Dropout(dropout)
            self.fc2, self.drop2 = nn.Linear(hidden, hidden), nn.Dropout(dropout)
        width = hidden or features
        self.decshape = nn.Linear(width, 10)
        self.decphi = nn.Linear(width, 23 * 2)
        self.deccam = nn.Linear(width, len(camera))
        self.decsigma = nn.Linear(width, 29)
        self.register_buffer("init_shape", torch.zeros(10))
        self.register_buffer("init_cam", torch.tensor(camera))
        for layer in (self.decshape, self.decphi, self.deccam):  # start from the mean body, untwisted
            nn.init.xavier_uniform_(layer.weight, gain=0.01)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.decphi.bias[0::2] = 1

    def forward(self, x_BF: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if self.hidden:
            x_BF = self.drop2(self.fc2(self.drop1(self.fc1(x_BF))))
        betas, camera = self.decshape(x_BF).float() + self.init_shape, self.deccam(x_BF).float() + self.init_cam
        return betas, self.decphi(x_BF).float().unflatten(1, (23, 2)), camera, self.decsigma(x_BF).float().sigmoid()


@ESTIMATORS.register("hybrik")
class HybrIK(PoseEstimator):
    """HybrIK on any timm backbone.

    Args:
        backbone: a timm model; an "hrnet_*" gives maps at a quarter of the resolution itself and has no layers between
            its features and the outputs, any other gets ``deconv`` and ``hidden``.
        backbone_options: arguments for ``timm.create_model``.
        deconv: widths of the transposed convolutions; there must be as many as bring the maps to a quarter.
        hidden, dropout: the regressor's.
        depth_bins: cells of the heat maps in depth; default: as many as in width.
        depth_extent: metres that the heat maps span in depth.
        ik: "adaptive" or "naive" inverse kinematics at prediction; training is always naive, as the original's.
        camera: "crop": a camera that looks at the middle of the crop; "picture": the principal point of the sample's
            own camera (``batch.intrinsics``), as the original evaluates. The focal length is ``focal``'s for both.
        refine_camera: at prediction, fit the scale to the solved body; default: with an HRNet, as the original.
        flip_test: at prediction, average over picture and mirrored picture.
        start_scale: crop widths per metre that the regressor starts from (the original: 0.9).
        terms: weights of HybrIK's own losses; ``loss``: terms on the solved body besides (default: none). Where IK is
            naive the heat maps get no gradient from those.
        mean, std: normalisation of 0..255 pixels.
        **base: see :class:`lightning_modules.base.PoseEstimator`.
    """

    crop_convention = "hybrik"
    upstream_body = True

    def __init__(
        self,
        backbone: str = "resnet34",
        backbone_options: dict[str, Any] | None = None,
        deconv: Sequence[int] = (256, 256, 256),
        hidden: int = 1024,
        dropout: float = 0.5,
        depth_bins: int | None = None,
        depth_extent: float = DEPTH_EXTENT,
        ik: str = "adaptive",
        camera: str = "crop",
        refine_camera: bool | None = None,
        flip_test: bool = False,
        start_scale: float = 0.45,
        terms: HybrIKLoss | None = None,
        loss: LossWeights | None = None,
        image_size: int = 256,
        focal: str = "hybrik",
        mean: tuple[float, float, float] = HYBRIK.mean,
        std: tuple[float, float, float] = HYBRIK.std,
        **base: Any,
    ) -> None:
        super().__init__(loss=loss or NO_BODY_LOSS, image_size=image_size, focal=focal, **base)
        self.terms = terms or HybrIKLoss()
        for name, value, known in (
            ("ik", ik, ("adaptive", "naive")),
            ("camera", camera, ("crop", "picture")),
            ("terms.uvd_kind", self.terms.uvd_kind, (None, "l1", "laplace")),
        ):
            if value not in known:
                raise PosesynError(f"{name}={value!r}: choose one of {', '.join(map(str, known))}")
        if backbone not in timm.list_models():
            close = timm.list_models(f"*{backbone}*")[:5]
            raise PosesynError(
                f"timm has no backbone {backbone!r}" + (f"; did you mean {', '.join(close)}?" if close else "")
            )
        high_resolution = backbone.startswith("hrnet")
        shape: dict[str, Any] = {"num_classes": 0} if high_resolution else {"features_only": True, "out_indices": (-1,)}
        net = timm.create_model(backbone, pretrained=False, **shape, **(backbone_options or {}))
        self.backbone = HRNetMaps(net) if high_resolution else net
        self.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.normalise = Normalise(Normalisation(mean, std))
        with torch.no_grad():
            maps, deep = self.eval()._maps(torch.zeros(1, 3, image_size, image_size))
        deconv = () if high_resolution else tuple(deconv)
        cells = maps.shape[-1] * 2 ** len(deconv)
        self.heat = Heatmaps3d(maps.shape[1], 29, depth_bins or cells, deconv)
        start = (start_scale,) if high_resolution else (start_scale, 0.0, 0.0)
        self.head = HybrIKHead(deep.shape[1], 0 if high_resolution else hidden, dropout, start)
        self.skeleton = RestSkeleton(self.body)
        self.laplace = self.terms.uvd_kind == "laplace" or (self.terms.uvd_kind is None and high_resolution)
        self.head.decsigma.requires_grad_(self.laplace)
        self.refine_camera = high_resolution if refine_camera is None else refine_camera
        self.camera, self.ik, self.depth_extent, self.flip_test = camera, ik, depth_extent, flip_test
        #: focal length in crop widths
        self.focal_widths = self.focal / image_size
        self.load_initial_weights()
        self.train()

    # -- the network -------------------------------------------------------------------------------------------------
    def _maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps for the heat maps, and maps that are pooled."""
        maps = self.backbone(x)
        return (maps[0], maps[1]) if isinstance(self.backbone, HRNetMaps) else (maps[-1], maps[-1])

    def _volumes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B,29,D,H,W) logits, (B,F) features."""
        maps, deep = self._maps(x.contiguous(memory_format=torch.channels_last))
        return self.heat(maps), deep.mean((2, 3))

    def find(self, image_B3HW: Tensor) -> Found:
        """What the network sees in pictures of 0..255."""
        x = self.normalise(image_B3HW)
        logits, features = self._volumes(x)
        heat = probabilities(logits)
        betas, twist, camera, sigma = self.head(features)
        if self.flip_test and not self.training:
            logits2, features2 = self._volumes(x.flip(-1))
            betas2, twist2, camera2, sigma2 = self.head(features2)
            heat = (heat + probabilities(mirrored(logits2, SWAP29))) / 2
            betas, sigma = (betas + betas2) / 2, (sigma + sigma2[:, list(SWAP29)]) / 2
            twist = (twist + twist2[:, list(SWAP23)] * twist.new_tensor([1, -1])) / 2
            if camera.shape[1] == 1:  # depths are averaged, not scales
                camera = 2 / (1 / camera + 1 / camera2)
            else:
                camera = (camera + camera2 * camera.new_tensor([1, -1, 1])) / 2
        return Found(expected_coordinates(heat), sigma[..., None], betas, twist, camera, features)

    # -- to a body ---------------------------------------------------------------------------------------------------
    def regress(self, batch: PoseBatch) -> Regression:
        found = self.find(batch.image)
        with torch.autocast(found.uvd.device.type, enabled=False):
            rest, principal = self.skeleton(found.betas), self._principal(batch)
            scale = found.camera[:, :1]
            if self.refine_camera and not self.training:
                scale = self._refined(found, rest, principal)
            # The heat maps learn from where joints are seen; through bones' directions they would learn noise.
            uvd = found.uvd.detach() if self.training else found.uvd
            joints = back_project(uvd, scale, principal, self.focal_widths, self.depth_extent)
            rotations = inverse_kinematics(rest, joints, found.twist, self.ik == "adaptive" and not self.training)
            root = back_project(found.uvd[:, :1], scale, principal, self.focal_widths, self.depth_extent)[:, 0]
        # The camera's place is the pelvis's; its weak form is what travels (``human.camera.weak_to_translation``).
        weak = torch.cat([2 * self.focal_widths / root[:, 2:].clamp_min(0.1), root[:, :2]], 1)
        extras = {"uvd": found.uvd, "sigma": found.sigma, "twist": found.twist, "camera": found.camera}
        return Regression(rotations, found.betas, weak, features=found.features, extras=extras)

    def _principal(self, batch: PoseBatch) -> Tensor:
        """(B,2) principal point in crop widths from the crop's middle."""
        if self.camera == "crop":
            return torch.zeros(len(batch), 2, device=batch.image.device)
        return pixels_to_uv(batch.intrinsics[:, :2, 2].float(), self.image_size)

    def _refined(self, found: Found, rest_B293: Tensor, principal_B2: Tensor) -> Tensor:
        """The scale at which the body of the naive solution projects onto the joints that the network is sure of."""
        scale = found.camera[:, :1]
        joints = back_project(found.uvd, scale, principal_B2, self.focal_widths, self.depth_extent)
        rotations = inverse_kinematics(rest_B293, joints, found.twist, adaptive=False, blunt=True)
        body = pose29(rotations, rest_B293)[:, :24]
        origin = joints[:, 0] - torch.nn.functional.pad(depth_of(scale, self.focal_widths), (2, 0))
        sure = (1 - 10 * found.sigma[:, :24, 0]).clamp_min(0)
        placed, uv = body - body[:, :1] + origin[:, None], found.uvd[:, :24, :2]
        return refine_scale(placed, uv, sure, principal_B2, scale, self.focal_widths)

    def place(self, weak_B3: Tensor, batch: PoseBatch) -> tuple[Tensor, Tensor]:
        """The pelvis as it was back-projected, under the same camera."""
        focal = weak_B3.new_full((len(weak_B3),), self.focal)
        intrinsics = torch.eye(3, device=weak_B3.device).repeat(len(weak_B3), 1, 1)
        intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = self.focal
        intrinsics[:, :2, 2] = uv_to_pixels(self._principal(batch), self.image_size)
        return weak_to_translation(weak_B3, focal, self.image_size), intrinsics

    # -- losses and weights ------------------------------------------------------------------------------------------
    def losses(self, out: Solution, batch: PoseBatch) -> dict[str, Tensor]:
        said = out.said.extras
        terms = hybrik_losses(
            batch,
            make_labels(batch, self.body, self.skeleton, self.focal_widths, self.depth_extent),
            uvd_BJ3=said["uvd"],
            sigma_BJ1=said["sigma"] if self.laplace else None,
            twist_B232=said["twist"],
            rotations_B2433=out.rotations,
            betas_B10=out.betas,
            camera_BC=said["camera"],
            weights=self.terms,
        )
        if self.loss_weights != NO_BODY_LOSS:
            terms |= {f"body_{name}": term for name, term in super().losses(out, batch).items()}
        return terms

    @classmethod
    def from_upstream(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        state = {name.removeprefix("module."): value for name, value in state.items()}
        if not any(name.startswith("preact.") for name in state):
            return None
        renamed = {}
        for name, value in state.items():
            if not name.startswith("smpl."):
                old, new = next(pair for pair in _RENAMED if name.startswith(pair[0]))
                renamed[new + name.removeprefix(old)] = value
        return renamed
