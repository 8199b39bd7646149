"""What SPIN's own code says: ``python -m scripts.tpe_reference.spin CHECKOUT`` with https://github.com/nkolot/SPIN.

Runs SPIN's classes (``models.hmr.HMR`` at full size, ``utils.geometry``, the loss functions of ``train.trainer``) on
seeded weights and inputs and writes tests/lightning_modules/reference/spin.npz. Needs the packages of posesyn. SPIN's
modules import others for its renderer, its fitting and its logs (pyrender, torchgeometry, tensorboard, smplify's
prior), none of which is called here: empty modules stand in for those that are missing, and a name stands in for the
one that newer smplx packages call otherwise.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import smplx
import torch
from torch import Tensor, nn

from tests.lightning_modules.seeded import save_reference, seeded_images, seeded_state, seeded_tensor, shapes_of

SEED, BATCH, SIZE, FOCAL = 19, 3, 224, 5000.0
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def stand_in(*names: str) -> None:
    """Empty modules for those that cannot be imported."""
    for name in names:
        try:
            __import__(name)
        except ImportError:
            module = ModuleType(name)
            module.__getattr__ = lambda attribute: None  # type: ignore[method-assign]
            module.__path__ = []
            sys.modules[name] = module
    smplx.body_models.ModelOutput = smplx.body_models.SMPLOutput


def mean_parameters(folder: Path) -> Path:
    """A file like ``smpl_mean_params.npz`` with seeded numbers: the licensed one is not needed."""
    path = folder / "mean.npz"
    pose = torch.eye(3)[:, :2].repeat(24, 1, 1).flatten() + 0.1 * seeded_tensor([144], SEED, "mean pose")
    np.savez(path, pose=pose.numpy(), shape=0.3 * seeded_tensor([10], SEED, "mean shape").numpy(),
             cam=np.array([0.9, 0.02, -0.03], np.float32))  # fmt: skip
    return path


def network() -> tuple[dict[str, list[int]], dict[str, Tensor]]:
    from models.hmr import HMR, Bottleneck

    with tempfile.TemporaryDirectory() as folder:
        model = HMR(Bottleneck, [3, 4, 6, 3], mean_parameters(Path(folder))).eval()
    print("SPIN: parameters", sum(p.numel() for p in model.parameters()))
    shapes = shapes_of(model.state_dict())
    starts = {k: v.clone() for k, v in model.state_dict().items() if k.startswith("init_")}
    model.load_state_dict({**seeded_state(shapes, SEED), **starts})
    x = (seeded_images(BATCH, SIZE, SEED).float() / 255 - MEAN[:, None, None]) / STD[:, None, None]
    with torch.no_grad():
        rotations, betas, camera = model(x)
    return shapes, {**starts, "rotations": rotations, "betas": betas, "camera": camera}


def camera() -> dict[str, Tensor]:
    """The camera of ``train_step``: translation from (s, tx, ty), and joints about the crop's middle, of -1 .. 1."""
    from utils.geometry import perspective_projection

    weak = torch.tensor([[0.9, 0.02, -0.1], [0.35, -0.4, 0.2], [1.6, 0.1, 0.3]])
    points = 0.5 * seeded_tensor([BATCH, 32, 3], SEED, "points")
    transl = torch.stack([weak[:, 1], weak[:, 2], 2 * FOCAL / (SIZE * weak[:, 0] + 1e-9)], -1)
    pixels = perspective_projection(points, torch.eye(3).expand(BATCH, 3, 3), transl, FOCAL, torch.zeros(BATCH, 2))
    return {"weak": weak, "points": points, "transl": transl, "projected": pixels / (SIZE / 2)}


def losses() -> dict[str, Tensor]:
    """Each term of ``Trainer`` on seeded joints (24, hips third and fourth), some without labels."""
    from train.trainer import Trainer

    trainer: Any = SimpleNamespace(
        criterion_keypoints=nn.MSELoss(reduction="none"), criterion_regr=nn.MSELoss(), device=torch.device("cpu")
    )

    def draw(name: str, *shape: int) -> Tensor:
        return 0.3 * seeded_tensor(shape, SEED, name)

    conf2d = (seeded_tensor([BATCH, 24], SEED, "conf2d") > 0).float()
    conf3d = (seeded_tensor([BATCH, 24], SEED, "conf3d") > 0).float()
    conf3d[:, 2:4] = 1
    has = torch.tensor([1, 0, 1], dtype=torch.uint8)
    given = {
        "loss_joints2d": draw("2d", BATCH, 24, 2), "loss_label2d": draw("label 2d", BATCH, 24, 2),
        "loss_joints3d": draw("3d", BATCH, 24, 3), "loss_label3d": draw("label 3d", BATCH, 24, 3),
        "loss_conf2d": conf2d, "loss_conf3d": conf3d,
        "loss_rotations": draw("rotations", BATCH, 24, 3, 3), "loss_betas": draw("betas", BATCH, 10),
        "loss_label_pose": draw("label pose", BATCH, 72), "loss_label_betas": draw("label betas", BATCH, 10),
        "loss_has": has, "loss_scale": torch.tensor([0.1, 0.02, 0.9]),
    }  # fmt: skip
    openpose = torch.zeros(BATCH, 25, 3)
    labels2d = torch.cat([openpose, torch.cat([given["loss_label2d"], conf2d[..., None]], -1)], 1)
    said2d = torch.cat([openpose[..., :2], given["loss_joints2d"]], 1)
    labels3d = torch.cat([given["loss_label3d"], conf3d[..., None]], -1)
    said3d = torch.cat([openpose, given["loss_joints3d"]], 1)
    pose, betas = Trainer.smpl_losses(
        trainer, given["loss_rotations"], given["loss_betas"], given["loss_label_pose"], given["loss_label_betas"], has
    )
    return given | {
        "term_joints2d": Trainer.keypoint_loss(trainer, said2d, labels2d, 0.0, 1.0),
        "term_joints3d": Trainer.keypoint_3d_loss(trainer, said3d, labels3d, has),
        "term_pose": pose,
        "term_betas": betas,
        "term_camera": (torch.exp(-given["loss_scale"] * 10) ** 2).mean(),
    }


def fits() -> dict[str, Tensor]:
    """The error that fits are compared by, and the translation under which bodies are; 24 joints behind 25 empty."""
    from smplify.losses import body_fitting_loss
    from utils.geometry import estimate_translation

    points = 0.4 * seeded_tensor([BATCH, 49, 3], SEED, "fit points")
    transl = torch.tensor([[0.1, -0.2, 40.0], [0.0, 0.1, 55.0], [-0.3, 0.2, 48.0]])
    conf = (seeded_tensor([BATCH, 49], SEED, "fit conf") > -0.5).float() * 0.8
    conf[:, :25] = 0
    middle = torch.full((BATCH, 2), SIZE / 2)
    label = FOCAL * (points + transl[:, None])[..., :2] / (points + transl[:, None])[..., 2:] + SIZE / 2
    label = label + 12 * seeded_tensor([BATCH, 49, 2], SEED, "fit noise")
    error = body_fitting_loss(
        torch.zeros(BATCH, 69), torch.zeros(BATCH, 10), points, transl, middle, label, conf,
        lambda pose, betas: 0.0, focal_length=FOCAL, output="reprojection",
    )  # fmt: skip
    found = estimate_translation(points, torch.cat([label, conf[..., None]], -1), FOCAL, SIZE)
    return {
        "fit_points": points[:, 25:], "fit_transl": transl, "fit_label": label[:, 25:], "fit_conf": conf[:, 25:],
        "fit_error": error.mean(-1), "fit_found": found,
    }  # fmt: skip


def main(checkout: str) -> None:
    sys.path.insert(0, checkout)
    stand_in("pyrender", "torchgeometry", "torch.utils.tensorboard", "scipy.misc", "trimesh")
    package = ModuleType("smplify")  # its losses alone: the rest reads licensed files
    package.__path__ = [f"{checkout}/smplify"]
    sys.modules["smplify"] = package
    package.SMPLify = None  # type: ignore[attr-defined]
    shapes, said = network()
    commit = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    about = f"SPIN {commit or '(no git folder)'}: models.hmr at full size, {BATCH} pictures of {SIZE}"
    path = save_reference("spin", shapes, SEED, about, **said, **camera(), **losses(), **fits())
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main(sys.argv[1])
