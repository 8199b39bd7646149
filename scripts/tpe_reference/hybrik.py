"""Outputs of the original HybrIK (github.com/Jeff-sjtu/HybrIK, 9b8681d) for tests/lightning_modules/test_hybrik.py.

    git clone https://github.com/Jeff-sjtu/HybrIK && python scripts/tpe_reference/hybrik.py HybrIK

Runs the original's own ``Simple3DPoseBaseSMPLCam``, ``HRNetSMPLCam``, ``SMPL_layer``, losses and camera fit on seeded
weights and pictures, at reduced size, and writes tests/lightning_modules/reference/hybrik.npz. ``--count`` prints the
parameters of the full-size models instead.

Needs posesyn's own environment. The package's ``__init__`` is passed over (it imports SMPL-X too); ``easydict`` is a
small class below; torchvision's ResNet is built without its ImageNet weights, which seeded ones overwrite. The SMPL
file is the free body in SMPL's format, its vertices in an order in which the five that the original calls by number
(411, ...) are posesyn's leaves. The heat maps' last layer gets a person's heat maps added
(``hybrik_reference.person_volumes``), in the test as here.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pickle
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
import torchvision
import yaml
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from human.body import BodyModel, load_body  # noqa: E402
from human.lbs import SMPL_PARENTS  # noqa: E402
from lightning_modules.hybrik_kinematics import leaf_vertices  # noqa: E402
from lightning_modules.normalisation import HYBRIK  # noqa: E402
from tests.lightning_modules import hybrik_reference as ref  # noqa: E402
from tests.lightning_modules.seeded import (  # noqa: E402
    save_reference,
    seeded_images,
    seeded_state,
    seeded_tensor,
    shapes_of,
)

UPSTREAM_LEAVES = (411, 2445, 5905, 3216, 6617)
OUTPUTS = ("pred_uvd_jts", "pred_shape", "pred_phi", "pred_theta_mats", "pred_xyz_jts_24_struct", "transl", "cam_root",
           "cam_scale", "pred_sigma")  # fmt: skip


class EasyDict(dict):  # type: ignore[type-arg]
    """Keys as attributes, also of dictionaries within."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        for key, value in dict(*args, **kwargs).items():
            self[key] = EasyDict(value) if isinstance(value, dict) else value

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__  # type: ignore[assignment]


def prepare(upstream: Path) -> None:
    """Make the original's modules importable one by one."""
    easydict = ModuleType("easydict")
    easydict.EasyDict = EasyDict  # type: ignore[attr-defined]
    sys.modules["easydict"] = easydict
    for name in ("hybrik", "hybrik.models", "hybrik.utils.presets"):
        package = ModuleType(name)
        package.__path__ = [str(upstream / name.replace(".", "/"))]
        sys.modules[name] = package
    for name in ("resnet18", "resnet34", "resnet50"):
        build = getattr(torchvision.models, name)
        setattr(torchvision.models, name, lambda pretrained, build=build: build(weights=None))


def upstream_order(body: BodyModel) -> np.ndarray:
    """The free body's vertices in an order that has its leaves where the original looks for them."""
    order = list(range(len(body.v_template)))
    for place, leaf in zip(UPSTREAM_LEAVES, leaf_vertices(body), strict=True):
        at = order.index(leaf)
        order[place], order[at] = order[at], order[place]
    return np.array(order)


def write_model_files(folder: Path, body: BodyModel) -> None:
    """SMPL's pickle, the mean shape, a Human3.6M regressor (of which no output is kept) and a small HRNet's layout."""
    order = upstream_order(body)
    files = folder / "model_files"
    files.mkdir()
    content = {
        "f": body.faces.numpy(),
        "v_template": body.v_template.numpy()[order],
        "shapedirs": body.shapedirs.numpy()[order],
        "posedirs": np.zeros((len(order), 3, 207), np.float32),
        "J_regressor": body.J_regressor.numpy()[:, order],
        "weights": body.weights.numpy()[order],
        "kintree_table": np.array([SMPL_PARENTS, range(24)]),
    }
    (files / "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl").write_bytes(pickle.dumps(content))
    np.save(files / "h36m_mean_beta.npy", np.zeros(10))
    np.save(files / "J_regressor_h36m.npy", np.full((17, len(order)), 1 / len(order)))
    extra: dict[str, Any] = {"PRETRAINED_LAYERS": ["*"], "FINAL_CONV_KERNEL": 1}
    for stage, (modules, blocks, channels) in zip((2, 3, 4), ref.hrnet_stages(), strict=True):
        extra[f"STAGE{stage}"] = {
            "NUM_MODULES": modules, "NUM_BRANCHES": len(blocks), "BLOCK": "BASIC", "NUM_BLOCKS": blocks,
            "NUM_CHANNELS": channels, "FUSE_METHOD": "SUM",
        }  # fmt: skip
    layout = folder / "hybrik/models/layers/hrnet"
    layout.mkdir(parents=True)
    (layout / "wtiny.yaml").write_text(yaml.safe_dump({"MODEL": {"EXTRA": extra}}))


def options(**changes: Any) -> dict[str, Any]:
    cells = changes.pop("cells", ref.CELLS)
    return {
        "NUM_JOINTS": 29, "POST": {"NORM_TYPE": "softmax"}, "EXTRA": {"DEPTH_DIM": cells}, "FOCAL_LENGTH": 1000,
        "HEATMAP_SIZE": [cells, cells], "BBOX_3D_SHAPE": [2200, 2200, 2200], **changes,
    }  # fmt: skip


def resnet(**changes: Any) -> nn.Module:
    module = importlib.import_module("hybrik.models.simple3dposeSMPLWithCam")
    return module.Simple3DPoseBaseSMPLCam(**options(**changes))  # type: ignore[no-any-return]


def hrnet(**changes: Any) -> nn.Module:
    module = importlib.import_module("hybrik.models.HRNetWithCam")
    return module.HRNetSMPLCam(**options(HR_PRETRAINED="", **changes))  # type: ignore[no-any-return]


def unaliased(model: nn.Module) -> None:
    """Give the mirrored heat maps' shift by one column a copy to read from.

    The original assigns overlapping parts of a tensor to each other, of which the result is undefined: on the CPU most
    columns come out equal.
    """
    flip = model.flip_heatmap

    def shifted(heatmaps: Tensor) -> Tensor:
        before = flip(heatmaps, shift=False)
        after = before.clone()
        after[..., 1:] = before[..., :-1]
        return after

    model.flip_heatmap = shifted  # type: ignore[assignment]


@torch.no_grad()
def outputs(model: nn.Module, prefix: str, **call: Any) -> dict[str, Tensor]:
    images = seeded_images(ref.BATCH, ref.SIZE, ref.SEED).float()
    layer = model.get_submodule("preact.final_layer" if prefix.startswith("hrnet") else "final_layer")
    smpl = model.smpl
    rest = torch.cat([smpl.J_regressor @ smpl.v_template, smpl.v_template[list(UPSTREAM_LEAVES)]])
    person = ref.person_volumes(rest)
    hook = layer.register_forward_hook(lambda module, inputs, out: out + person)
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) / 255 for x in HYBRIK)
    said = model.eval()((images / 255 - mean) / std, **call)
    hook.remove()
    return {f"{prefix}/{name}": said[name] for name in OUTPUTS}


def load(model: nn.Module, prefix: str) -> dict[str, list[int]]:
    """Fill the network with seeded weights; returns their names (``prefix``/name) and shapes."""
    body = {k: v for k, v in model.state_dict().items() if k.startswith("smpl.")}
    shapes = shapes_of({f"{prefix}/{k}": v for k, v in model.state_dict().items() if k not in body})
    model.load_state_dict(body | ref.adjusted(seeded_state(shapes, ref.SEED), prefix))
    return shapes


def kinematics(smpl: nn.Module) -> dict[str, Tensor]:
    """The original's three ways of inverse kinematics on noisy joints of random poses."""
    lbs = importlib.import_module("hybrik.models.layers.smpl.lbs")
    rest, pose, noise, twist = (v for k, v in ref.skeletons().items())
    rotations = lbs.batch_rodrigues(pose.flatten(0, 1)).view(8, 24, 3, 3)
    chain = torch.cat([rotations, torch.eye(3).expand(8, 5, 3, 3)], 1)
    joints, _ = lbs.batch_rigid_transform(chain, rest, smpl.parents)
    found = {"ik/joints": joints}
    adaptive, naive = lbs.batch_inverse_kinematics_transform, lbs.batch_inverse_kinematics_transform_naive
    for name, solve, train in (("adaptive", adaptive, False), ("naive", naive, False), ("train", naive, True)):
        noisy = joints + ref.NOISE[name] * noise
        found[f"ik/{name}"], _ = solve(noisy, None, twist, rest.clone(), smpl.children_map, smpl.parents, train=train)
    return found


def losses() -> dict[str, Tensor]:
    criterion = importlib.import_module("hybrik.models.criterion")
    weights = {
        "BETA_WEIGHT": 1, "BETA_REG_WEIGHT": 0, "PHI_REG_WEIGHT": 1e-4, "LEAF_REG_WEIGHT": 0, "TWIST_WEIGHT": 1,
        "THETA_WEIGHT": 0.01, "UVD24_WEIGHT": 1, "XYZ24_WEIGHT": 1, "XYZ_SMPL24_WEIGHT": 0, "XYZ_SMPL17_WEIGHT": 0,
        "VERTICE_WEIGHT": 0,
    }  # fmt: skip
    x = ref.loss_inputs()
    b = len(x["uvd"])
    said = EasyDict(
        pred_shape=x["betas"], pred_theta_mats=x["rotations"].flatten(1), pred_phi=x["twist"], pred_sigma=x["sigma"],
        pred_uvd_jts=x["uvd"].flatten(1), pred_xyz_jts_29=x["uvd"].flatten(1), cam_scale=x["camera"][:, :1],
    )  # fmt: skip
    ones = torch.ones
    labels = {
        "target_smpl_weight": ones(b, 1), "target_beta": x["label_betas"], "target_twist": x["label_twist"],
        "target_theta": x["label_rotations"].flatten(1), "target_theta_weight": ones(b, 216),
        "target_twist_weight": ones(b, 23, 2), "target_xyz_24": ones(b, 72), "target_xyz_weight_24": ones(b, 72),
        "target_uvd_29": x["label_uvd"].flatten(1), "target_weight_29": ones(b, 87),
        "camera_scale": x["label_camera"][:, :1], "camera_trans": x["label_camera"][:, 1:],
    }  # fmt: skip
    laplace = criterion.LaplaceLossDimSMPLCam(weights)(said, labels)
    said["cam_trans"] = x["camera"][:, 1:]
    return {"loss/laplace": laplace, "loss/l1": criterion.L1LossDimSMPLCam(weights)(said, labels)}


def camera_fit() -> dict[str, Tensor]:
    """The camera that the original's data loader fits to joints and their pixels."""
    module = importlib.import_module("hybrik.utils.presets.simple_transform_3d_smpl_cam")
    cls = module.SimpleTransform3DSMPLCam
    owner = SimpleNamespace(focal_length=1000, depth_factor2meter=2.2, bbox_3d_shape=(2200, 2200, 2200))
    owner.back_projection = lambda *a: cls.back_projection(owner, *a)
    owner.projection = lambda *a: cls.projection(owner, *a)
    joints, found = 0.4 * seeded_tensor((4, 24, 3), ref.SEED, "fit"), []
    for person in joints:
        uvd = (person / person.new_tensor([2.2, 2.2, 2.2]) + 0.02).numpy()
        weight = np.ones((24, 3), np.float32)
        weight[::5] = 0
        scale, trans, *_ = cls.calc_cam_scale_trans2(owner, person.numpy() / 2.2, uvd, weight)
        found.append([scale, *trans])
    return {"fit/camera": torch.tensor(np.array(found), dtype=torch.float32)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("upstream", type=Path, help="checkout of the original")
    parser.add_argument("--count", action="store_true", help="print the parameters of the full-size models")
    args = parser.parse_args()
    upstream = args.upstream.resolve()
    prepare(upstream)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_model_files(Path(folder), load_body("free"))
        if args.count:
            full = Path(folder) / "hybrik/models/layers/hrnet/w48.yaml"
            full.write_text((upstream / "hybrik/models/layers/hrnet/w48.yaml").read_text())
            for layers in (34, 50):
                model = resnet(NUM_LAYERS=layers, NUM_DECONV_FILTERS=[256] * 3, cells=64)
                print(f"resnet{layers}", sum(p.numel() for p in model.parameters()))
            print("hrnet_w48", sum(p.numel() for p in hrnet(HRNET_TYPE=48, cells=64).parameters()))
            return
        small = resnet(NUM_LAYERS=ref.RESNET["layers"], NUM_DECONV_FILTERS=list(ref.RESNET["deconv"]))
        high = hrnet(HRNET_TYPE="tiny")
        unaliased(high)
        shapes = load(small, "resnet") | load(high, "hrnet")
        centre, middle = ref.centres()
        boxes = {"bboxes": torch.cat([centre - 100, centre + 100], 1), "img_center": middle}
        arrays = outputs(small, "resnet") | outputs(small, "resnet_box", **boxes)
        arrays |= outputs(high, "hrnet") | outputs(high, "hrnet_box", **boxes)
        arrays |= outputs(high, "hrnet_flip", flip_test=True)
        arrays |= kinematics(small.smpl) | losses() | camera_fit()
    about = "Jeff-sjtu/HybrIK 9b8681d, ResNet-18 and a small HRNet at 64 px, on the free body"
    path = save_reference("hybrik", shapes, ref.SEED, about, **arrays)
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
