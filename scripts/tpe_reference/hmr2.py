"""What 4D-Humans' own code says: ``python -m scripts.tpe_reference.hmr2 CHECKOUT [--count]``.

CHECKOUT holds https://github.com/shubham-goel/4D-Humans. Runs its classes (``models.hmr2.HMR2`` with its backbone and
decoder made small, ``models.heads.smpl_head``, ``models.losses``) on seeded weights and inputs and writes
tests/lightning_modules/reference/{hmr2,hmr2_mean_token,hmr2_discriminator}.npz, and ``hmr2.ckpt``: a Lightning
checkpoint of that model with its OmegaConf configuration, from which all but the smallest weights are left out.
``--count`` also builds the full-size network and prints its number of parameters.

Needs posesyn's packages and ``pip install einops yacs omegaconf pyrender scikit-image`` (of pyrender and scikit-image
nothing is run); the reference was made with torch 2.12.0, timm 1.0.31, omegaconf 2.3.0. Nothing of 4D-Humans is
replaced but the numbers of its sizes. SMPL's files are made up from the free body (tests/licensed_files.py).
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from tests.licensed_files import body_arrays
from tests.lightning_modules.seeded import (
    REFERENCES,
    save_reference,
    seeded_images,
    seeded_state,
    seeded_tensor,
    shapes_of,
)

SEED, BATCH = 4, 2
VIT = {"embed_dim": 64, "depth": 3, "num_heads": 4, "drop_path_rate": 0.1}
DECODER = {"dim": 48, "depth": 2, "heads": 3, "dim_head": 16, "mlp_dim": 40, "context_dim": 64}
GRADIENTS = ("backbone.patch_embed.proj.bias", "backbone.blocks.0.attn.qkv.bias", "backbone.last_norm.weight",
             "smpl_head.transformer.transformer.layers.0.1.norm.weight", "smpl_head.decpose.bias")  # fmt: skip


def made_up_files(folder: Path) -> None:
    """SMPL, its extra joints and mean parameters, where 4D-Humans looks for them."""
    (folder / "smpl").mkdir()
    with (folder / "smpl/SMPL_NEUTRAL.pkl").open("wb") as file:
        pickle.dump(body_arrays("smpl"), file)
    extra = np.zeros((19, 6890))
    extra[np.arange(19), 300 * np.arange(19)] = 1
    with (folder / "SMPL_to_J19.pkl").open("wb") as file:
        pickle.dump(extra, file)
    pose = torch.eye(3)[:2].repeat(24, 1, 1).flatten() + 0.1 * seeded_tensor([144], SEED, "mean pose")
    np.savez(folder / "smpl_mean_params.npz", pose=pose.numpy(), shape=0.3 * seeded_tensor([10], SEED, "shape").numpy(),
             cam=np.array([0.9, 0.02, -0.03], np.float32))  # fmt: skip


def configuration(checkout: Path, folder: Path) -> DictConfig:
    """4D-Humans' experiment, with the decoder made small."""
    experiments = checkout / "hmr2/configs_hydra/experiment"
    parts = [OmegaConf.load(experiments / f"{name}.yaml") for name in ("default", "hmr_vit_transformer")]
    cfg: Any = OmegaConf.merge(*parts)
    cfg.SMPL.DATA_DIR = str(folder)
    cfg.MODEL.BACKBONE.PRETRAINED_WEIGHTS = None
    cfg.MODEL.SMPL_HEAD.TRANSFORMER_DECODER.update(DECODER)
    return cfg


def run_network(cfg: DictConfig, about: str) -> None:
    import hmr2.models.hmr2 as upstream
    from hmr2.models.backbones.vit import ViT

    small = partial(ViT, img_size=(256, 192), patch_size=16, qkv_bias=True, **VIT)
    upstream.create_backbone = lambda _: small()
    model = upstream.HMR2(cfg, init_renderer=False)
    own = model.state_dict()
    shapes = {k: s for k, s in shapes_of(own).items() if k.startswith(("backbone.", "smpl_head."))}
    starts = {k: own[k] for k in own if k.startswith("smpl_head.init_")}
    state = {**seeded_state(shapes, SEED), **starts}
    model.load_state_dict(state, strict=False)
    model.eval()

    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (cfg.MODEL.IMAGE_MEAN, cfg.MODEL.IMAGE_STD))
    said = model.forward_step({"img": (seeded_images(BATCH, 256, SEED).float() / 255 - mean) / std})
    rotations = torch.cat([said["pred_smpl_params"][k] for k in ("global_orient", "body_pose")], 1)
    (rotations * seeded_tensor(rotations.shape, SEED, "upstream gradient")).sum().backward()
    gradients = {f"grad {name}": model.get_parameter(name).grad for name in GRADIENTS}
    save_reference(
        "hmr2", shapes, SEED, about, **gradients, **starts, **losses(), rotations=rotations,
        betas=said["pred_smpl_params"]["betas"], cam=said["pred_cam"], cam_t=said["pred_cam_t"],
        keypoints2d=said["pred_keypoints_2d"][:, :25], keypoints3d=said["pred_keypoints_3d"][:, :25],
    )  # fmt: skip
    save_lightning(model)


def losses() -> dict[str, Tensor]:
    """4D-Humans' loss functions on 32 joints, the first of which is the root, and on rotation matrices."""
    from hmr2.models.losses import Keypoint2DLoss, Keypoint3DLoss, ParameterLoss

    def said(*shape: int, key: str) -> Tensor:
        return seeded_tensor([BATCH, *shape], SEED, key)

    conf = said(32, 1, key="conf").abs().clamp_max(1.0)
    has = torch.tensor([True, False])
    points2d, label2d = 0.2 * said(32, 2, key="points2d"), 0.2 * said(32, 2, key="label2d")
    points3d, label3d = said(32, 3, key="points3d"), said(32, 3, key="label3d")
    return {
        "loss2d": Keypoint2DLoss("l1")(points2d, torch.cat([label2d, conf], -1)),
        "loss3d": Keypoint3DLoss("l1")(points3d, torch.cat([label3d, conf], -1), pelvis_id=0),
        "loss_betas": ParameterLoss()(said(10, key="betas"), said(10, key="label betas"), has),
    }


def save_lightning(model: Any) -> None:
    """What Lightning and 4D-Humans' configuration put into a checkpoint, with its smallest weights."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, default_root_dir=folder)
        trainer.strategy.connect(model)
        trainer.save_checkpoint(f"{folder}/whole.ckpt")
        content = torch.load(f"{folder}/whole.ckpt", weights_only=False)
    tiny = {k: v.clone() for k, v in content["state_dict"].items() if k.startswith("smpl_head.") and v.numel() <= 48}
    content["state_dict"] = type(content["state_dict"])(tiny)
    torch.save(content, REFERENCES / "hmr2.ckpt")


def run_mean_token(cfg: DictConfig, about: str) -> None:
    """The decoder alone, fed with its own estimate, twice."""
    from hmr2.models.heads.smpl_head import build_smpl_head

    cfg.MODEL.SMPL_HEAD.TRANSFORMER_INPUT, cfg.MODEL.SMPL_HEAD.IEF_ITERS = "mean_shape", 2
    head = build_smpl_head(cfg).eval()
    shapes = shapes_of(head.state_dict())
    starts = {k: v for k, v in head.state_dict().items() if k.startswith("init_")}
    head.load_state_dict({**seeded_state(shapes, SEED), **starts})
    with torch.no_grad():
        said, camera, _ = head(seeded_tensor([BATCH, 64, 4, 3], SEED, "features"))
    rotations = torch.cat([said["global_orient"], said["body_pose"]], 1)
    save_reference(
        "hmr2_mean_token", shapes, SEED, about, rotations=rotations, betas=said["betas"], cam=camera, **starts
    )


def run_discriminator(about: str) -> None:
    """The adversary's scores, both its losses (as ``HMR2.training_step`` has them) and some of their gradients."""
    from hmr2.models.discriminator import Discriminator

    model = Discriminator()
    shapes = shapes_of(model.state_dict())
    model.load_state_dict(seeded_state(shapes, SEED))
    pose, real = (seeded_tensor([4, 23, 3, 3], SEED, name) for name in ("fake pose", "real pose"))
    betas, real_betas = (seeded_tensor([4, 10], SEED, name) for name in ("fake betas", "real betas"))
    pose.requires_grad_(), betas.requires_grad_()
    scores = model(pose.reshape(4, -1), betas)
    loss_gen = ((scores - 1.0) ** 2).sum() / 4
    found = torch.autograd.grad(loss_gen, (pose, betas))
    loss_fake = ((model(pose.detach().reshape(4, -1), betas.detach()) - 0.0) ** 2).sum() / 4
    loss_disc = loss_fake + ((model(real, real_betas) - 1.0) ** 2).sum() / 4
    loss_disc.backward()
    names = ("D_conv1.weight", "pose_out.7.weight", "betas_fc1.weight", "D_alljoints_out.weight")
    save_reference(
        "hmr2_discriminator", shapes, SEED, about, scores=scores, loss_gen=loss_gen, loss_disc=loss_disc,
        grad_pose=found[0], grad_betas=found[1], **{f"grad {n}": model.get_parameter(n).grad for n in names},
    )  # fmt: skip


def count(cfg: DictConfig) -> None:
    from hmr2.models.backbones.vit import vit
    from hmr2.models.heads.smpl_head import build_smpl_head

    parts = {"backbone": vit(cfg), "smpl_head": build_smpl_head(cfg)}
    print({name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--count", action="store_true", help="also build the full-size network")
    options = parser.parse_args()
    sys.path.insert(0, str(options.checkout))
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    git = ["git", "-C", str(options.checkout), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown commit"
    about = f"shubham-goel/4D-Humans {commit}: ViT {VIT}, decoder {DECODER}, torch {torch.__version__}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made_up_files(folder)
        cfg = configuration(options.checkout, folder)
        run_network(cfg, about)
        run_mean_token(cfg, about)
        run_discriminator(about)
        if options.count:
            full = configuration(options.checkout, folder)
            full.MODEL.SMPL_HEAD.TRANSFORMER_DECODER = OmegaConf.load(
                options.checkout / "hmr2/configs_hydra/experiment/hmr_vit_transformer.yaml"
            ).MODEL.SMPL_HEAD.TRANSFORMER_DECODER
            count(full)


if __name__ == "__main__":
    main()
