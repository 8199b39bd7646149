"""The original networks of the estimators, from checkouts of their code, beside ours of the same size.

Only the original's own classes run; what they import and never use here is left out or stands empty. Sizes: "full" as
published; "small" fits a CPU. Functions of scripts/tpe_reference, which make the reference outputs of the tests,
prepare the checkouts.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from human.batch import PoseBatch
from human.body import load_body
from human.camera import cliff_box_info

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass
class Pair:
    """One estimator's network, ours and the original's.

    ``options``: ours is made with. ``upstream``: a function from a batch to tensors, over the modules ``networks``.
    ``whole``: the original's forward goes on to joints and pixels (ours: ``solve``), else it ends with the regression.
    """

    options: dict[str, Any]
    networks: list[nn.Module] = field(default_factory=list)
    upstream: Callable[[PoseBatch], list[Tensor]] | None = None
    whole: bool = False
    half: torch.dtype | None = None  # what the original trains in on a GPU, where that is not float32


def normalised(batch: PoseBatch) -> Tensor:
    """Pictures as the originals' loaders give them."""
    mean, std = (torch.tensor(v, device=batch.image.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (batch.image.float() / 255 - mean) / std


def packages(root: Path, *names: str) -> None:
    """Packages without their ``__init__``, which would import renderers, loggers and data sets."""
    for name in names:
        package = ModuleType(name)
        package.__path__ = [str(root / name.replace(".", "/"))]
        sys.modules[name] = package


class Options(dict):  # type: ignore[type-arg]
    """A dictionary whose keys are attributes too: what the originals take as configuration."""

    __getattr__ = dict.__getitem__


def spin(checkout: Path | None, small: bool) -> Pair:
    pair = Pair({"backbone": "resnet50", "image_size": 224})
    if checkout is not None:
        reference = importlib.import_module("scripts.tpe_reference.spin")
        sys.path.insert(0, str(checkout))
        reference.stand_in("pyrender", "torchgeometry", "torch.utils.tensorboard", "scipy.misc")
        hmr = importlib.import_module("models.hmr")
        with tempfile.TemporaryDirectory() as folder:
            model = hmr.HMR(hmr.Bottleneck, [3, 4, 6, 3], reference.mean_parameters(Path(folder)))
        pair.networks, pair.upstream = [model], lambda batch: list(model(normalised(batch)))
    return pair


def cliff(checkout: Path | None, small: bool) -> Pair:
    pair = Pair({"backbone": "resnet50" if small else "hrnet_w48"})
    if checkout is not None:
        reference = importlib.import_module("scripts.tpe_reference.spin")
        sys.path.insert(0, str(checkout))
        module = importlib.import_module(f"models.cliff_{'res50' if small else 'hr48'}.cliff")
        with tempfile.TemporaryDirectory() as folder:
            model = module.CLIFF(reference.mean_parameters(Path(folder)))

        def run(batch: PoseBatch) -> list[Tensor]:
            return list(model(normalised(batch)[..., 32:224], cliff_box_info(batch.intrinsics, 256)))

        pair.networks, pair.upstream = [model], run
    return pair


def hmr2(checkout: Path | None, small: bool) -> Pair:
    from lightning_modules.vit import ViTConfig

    size = ViTConfig(384, 4, 6, 0.1) if small else ViTConfig()
    pair = Pair({"backbone": size}, half=torch.float16)
    if checkout is not None:
        reference = importlib.import_module("scripts.tpe_reference.spin")
        names = ("", ".models", ".models.heads", ".models.components", ".models.backbones", ".utils")
        packages(checkout, *(f"hmr2{n}" for n in names))
        vit = importlib.import_module("hmr2.models.backbones.vit").ViT(
            img_size=(256, 192), patch_size=16, embed_dim=size.width, depth=size.depth, num_heads=size.heads,
            mlp_ratio=4, qkv_bias=True, drop_path_rate=size.drop_path,
        )  # fmt: skip
        decoder = {"depth": 6, "heads": 8, "mlp_dim": 1024, "dim_head": 64, "dropout": 0.0, "emb_dropout": 0.0,
                   "norm": "layer", "context_dim": size.width}  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            cfg = Options(
                SMPL=Options(NUM_BODY_JOINTS=23, MEAN_PARAMS=str(reference.mean_parameters(Path(folder)))),
                MODEL=Options(SMPL_HEAD=Options(TYPE="transformer_decoder", TRANSFORMER_DECODER=decoder)),
            )
            head = importlib.import_module("hmr2.models.heads.smpl_head").SMPLTransformerDecoderHead(cfg)

        def run(batch: PoseBatch) -> list[Tensor]:
            parameters, weak, _ = head(vit(normalised(batch)[..., 32:224]))
            return [*parameters.values(), weak]

        pair.networks, pair.upstream = [vit, head], run
    return pair


def hybrik(checkout: Path | None, small: bool) -> Pair:
    size, cells = (128, 32) if small else (256, 64)
    pair = Pair({"backbone": "resnet18" if small else "resnet34", "image_size": size, "ik": "naive"}, whole=True)
    if checkout is not None:
        reference = importlib.import_module("scripts.tpe_reference.hybrik")
        reference.prepare(checkout)
        here = Path.cwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                reference.write_model_files(Path(folder), load_body("free"))
                layers = 18 if small else 34
                model = reference.resnet(NUM_LAYERS=layers, NUM_DECONV_FILTERS=[256] * 3, cells=cells)
            finally:
                os.chdir(here)
        names = ("pred_uvd_jts", "pred_shape", "pred_theta_mats", "pred_xyz_jts_24_struct", "pred_phi", "cam_scale")

        def run(batch: PoseBatch) -> list[Tensor]:
            said = model(normalised(batch))
            return [said[name] for name in names]

        pair.networks, pair.upstream = [model], run
    return pair


def crowdnet3d(checkout: Path | None, small: bool) -> Pair:
    """Ours says all rotations itself; the original ends with VPoser's code here, before VPoser and SMPL."""
    from lightning_modules.crowdnet_conventions import GUIDE_STRIDE, IN_POSE32

    size = 128 if small else 256
    pair = Pair({"image_size": size, "pose2d": "labels", "depth": size // 32})
    if checkout is not None:
        reference = importlib.import_module("scripts.tpe_reference.crowdnet3d")
        here = Path.cwd()
        try:
            reference.prepare(checkout, None, size, cpu=small or not torch.cuda.is_available())
            backbone = importlib.import_module("nets.resnet").ResNetBackbone(50)
            nets = importlib.import_module("nets.module")
            pose2feat, position, rotation = nets.Pose2Feat(30), nets.PositionNet(), nets.RotationNet()
            heat_maps = importlib.import_module("model").Model.make_2d_gaussian_heatmap
        finally:
            os.chdir(here)

        def run(batch: PoseBatch) -> list[Tensor]:
            seen = batch.joints2d_conf[:, IN_POSE32, None, None] > 0
            heat = heat_maps(None, batch.joints2d[:, IN_POSE32] / GUIDE_STRIDE) * seen
            maps = backbone(pose2feat(backbone(batch.image.float() / 255), heat), skip_early=True)
            joints, score = position(maps)
            return [joints, score, *rotation(maps, joints.detach(), score.detach())]

        pair.networks, pair.upstream = [backbone, pose2feat, position, rotation], run
    return pair


def alone(**options: Any) -> Callable[[Path | None, bool], Pair]:
    """An estimator whose original is no PyTorch code."""
    return lambda checkout, small: Pair(options)


PAIRS: dict[str, Callable[[Path | None, bool], Pair]] = {
    "hmr": alone(backbone="tf_efficientnet_lite0"),
    "jointreg": lambda checkout, small: Pair({"backbone": "alexnet" if small else "vgg16"}),  # Caffe's
    "spin": spin,
    "cliff": cliff,
    "hmr2": hmr2,
    "hybrik": hybrik,
    "crowdnet3d": crowdnet3d,
}
