"""Reference outputs of 3DCrowdNet's own code: ``python -m scripts.tpe_reference.crowdnet3d CROWDNET PRIOR``.

CROWDNET is a checkout of hongsukchoi/3DCrowdNet_RELEASE that may be written to (its config makes folders on import),
PRIOR the unpacked source of human-body-prior 0.8.5.0 (PyPI). Writes tests/lightning_modules/reference/crowdnet3d.npz:
ResNet-50 at 128 px with seeded weights, on the CPU; two minutes, most of them for 9000 poses with errors. CROWDNET_GIT
(environment) names the git directory of the checkout, for the note on which commit it was.

What runs is the original's: its networks, VPoser, SMPL layer, camera, losses and 2D pose errors. Stand-ins: ``cuda()``
does nothing; torchgeometry's rotation matrix to axis-angle is scipy's (0.1.2 does not run on today's torch); the SMPL
layer gets the free body's arrays in place of SMPL's files, so that vertex numbers of the face and the head's regressor
row are arbitrary ones; MANO, easydict, configer, and a table of addresses that torchvision dropped are empty names.
"""

from __future__ import annotations

import importlib
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import scipy.sparse
import torch
import torchvision.models.resnet
from scipy.spatial.transform import Rotation
from torch import nn

from human.body import load_body
from tests.lightning_modules.seeded import save_reference, seeded_images, seeded_state, seeded_tensor, shapes_of

SEED, SIZE, BATCH = 4, 128, 2
TRIALS, QUANTILES = 3000, np.linspace(0.05, 0.95, 19)


def module(name: str, **content: Any) -> ModuleType:
    made = ModuleType(name)
    made.__dict__.update(content)
    sys.modules[name] = made
    return made


def axis_angle(matrices: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(Rotation.from_matrix(matrices[:, :3, :3].detach().numpy()).as_rotvec()).float()


def free_body_arrays(*_: Any) -> dict[str, Any]:
    """The free body as the original's reader gives SMPL."""
    body = load_body("free")
    held = {
        "betas": np.zeros(10),
        "shapedirs": body.shapedirs.numpy(),
        "posedirs": np.zeros((len(body.v_template), 3, 207), np.float32),
        "v_template": body.v_template.numpy(),
        "weights": body.weights.numpy(),
    }
    plain = {
        "J_regressor": scipy.sparse.csr_matrix(body.J_regressor.numpy()),
        "f": body.faces.numpy(),
        "kintree_table": np.array([body.parents, range(24)]),
    }
    return {k: SimpleNamespace(r=v) for k, v in held.items()} | plain


def prepare(crowdnet: Path, prior: Path | None, size: int = SIZE, cpu: bool = True) -> None:
    """Stand-ins for what cannot be had, then the original's folders on the path; the working folder is then one of
    them. Without ``prior`` its ``Vposer`` cannot be built.
    """
    if cpu:
        torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[assignment]
        nn.Module.cuda = lambda self, *_, **__: self  # type: ignore[assignment]
    torchvision.models.resnet.model_urls = {}  # type: ignore[attr-defined]
    module("torchgeometry", rotation_matrix_to_angle_axis=axis_angle)
    module("easydict", EasyDict=dict)
    module("configer", Configer=None)
    module("human_body_prior.body_model.body_model", BodyModel=None)
    sys.path[:0] = [str(crowdnet / "main"), str(crowdnet / "common")]
    if prior is not None:
        sys.path.insert(0, str(prior))
    sys.path.insert(0, str(crowdnet / "common/utils/smplpytorch"))
    module("smplpytorch.native.webuser.serialization", ready_arguments=free_body_arrays)
    os.chdir(crowdnet / "main")
    cfg = importlib.import_module("config").cfg
    cfg.set_args("0", is_test=True)
    cfg.input_img_shape, cfg.output_hm_shape, cfg.princpt = (size, size), (size // 4,) * 3, (size / 2, size / 2)
    module("utils.mano", MANO=None)

    if prior is None:
        for name in ("human_body_prior", "human_body_prior.tools"):
            module(name)
        module("human_body_prior.tools.model_loader", load_vposer=None)
    else:
        vposer = importlib.import_module("human_body_prior.train.vposer_smpl").VPoser
        loader = importlib.import_module("human_body_prior.tools.model_loader")
        vars(loader)["load_vposer"] = lambda *_, **__: (vposer(512, 32, [1, 21, 3]), None)
    load = np.load
    regressor = np.zeros((9, len(load_body("free").v_template)))
    regressor[:, 0] = 1
    np.load = lambda path, *a, **k: regressor if "J_regressor_extra" in str(path) else load(path, *a, **k)


def labels() -> dict[str, torch.Tensor]:
    """Joints of the original's 30: pixels, metres about the pelvis; pose and shape."""
    pixels = SIZE / 2 + 40 * seeded_tensor((BATCH, 30, 2), SEED, "pixels")
    metres = (0.4 * seeded_tensor((BATCH, 30, 3), SEED, "metres")).clamp(-0.95, 0.95)
    metres[:, 0] = 0
    pose, betas = 0.4 * seeded_tensor((BATCH, 72), SEED, "pose"), seeded_tensor((BATCH, 10), SEED, "betas")
    return {"pixels": pixels, "metres": metres, "pose": pose, "betas": betas}


def run_losses(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    known = labels()
    image = torch.cat([known["pixels"] / 4, (known["metres"][..., 2:] + 1) / 2 * (SIZE / 4)], -1)
    inside = ((known["pixels"] >= 0) & (known["pixels"] < SIZE)).all(-1, keepdim=True).float()
    valid = np.ones((24, 3), np.float32)
    names = model.human_model.joints_name
    for name in ("L_Ankle", "R_Ankle", "L_Toe", "R_Toe", "L_Wrist", "R_Wrist", "L_Hand", "R_Hand"):
        valid[names.index(name)] = 0
    ones = torch.ones(BATCH)
    targets = {
        "orig_joint_img": image, "fit_joint_img": image, "orig_joint_cam": known["metres"],
        "fit_joint_cam": known["metres"], "pose_param": known["pose"], "shape_param": known["betas"],
    }  # fmt: skip
    meta = {
        "orig_joint_trunc": inside, "fit_joint_trunc": inside, "is_3D": torch.tensor([1.0, 0.0]), "is_valid_fit": ones,
        "fit_param_valid": torch.from_numpy(valid.reshape(1, -1)).repeat(BATCH, 1),
        "orig_joint_valid": torch.ones(BATCH, 30, 1),
    }  # fmt: skip
    found = model(inputs, targets, meta, "train")
    return {f"loss_{k}": v.mean() for k, v in found.items()}


def run_errors() -> dict[str, np.ndarray]:
    """Quantiles of how far joints with errors are from where they were, from the mirrored joint, and from the
    neighbour's: (case, joint, place, quantile); cases: alone, few labelled, and beside another person.
    """
    synthesise = importlib.import_module("utils.posefix").synthesize_pose
    flat = np.array([(64 + 30 * math.sin(3 * k), 20 + 5 * k) for k in range(17)])
    pose = np.concatenate([flat, np.ones((17, 1))], 1)
    few = pose.copy()
    few[8:, 2] = 0
    beside = pose.copy()
    beside[:, :2] += (25, -10)
    nobody = np.zeros((1, 17, 3))
    area, mirror = 80.0 * 100.0, [0, *(k + (1 if k % 2 else -1) for k in range(1, 17))]
    cases = [(pose, nobody, 0), (few, nobody, 0), (pose, beside[None], 3)]
    table = []
    for own, near, overlaps in cases:
        found = np.stack([synthesise(own, near, area, overlaps)[:, :2] for _ in range(TRIALS)])
        places = np.stack([pose[:, :2], pose[mirror, :2], beside[:, :2]], 1)  # (17, 3, 2)
        distance = np.linalg.norm(found[:, :, None] - places, axis=-1)
        table.append(np.quantile(distance, QUANTILES, axis=0).transpose(1, 2, 0))
    return {
        "error_pose": pose,
        "error_beside": beside,
        "error_area": np.array(area),
        "error_quantiles": np.stack(table),
    }


def main(crowdnet: Path, prior: Path) -> None:
    prepare(crowdnet, prior)
    get_model = importlib.import_module("model").get_model
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    model = get_model(0, 30, "test").eval()
    state = model.state_dict()
    shapes = shapes_of({k: v for k, v in state.items() if not k.startswith("human_model_layer.")})
    model.load_state_dict(seeded_state(shapes, SEED), strict=False)
    image = seeded_images(BATCH, SIZE, SEED).float() / 255
    joints = SIZE / 8 + 8 * seeded_tensor((BATCH, 30, 2), SEED, "guide")
    seen = (seeded_tensor((BATCH, 30, 1), SEED, "seen") > -0.5).float()
    inputs = {"img": image, "joints": joints, "joints_mask": seen}
    with torch.no_grad():
        heat = model.make_2d_gaussian_heatmap(joints) * seen[..., None]
        said = model(inputs, {}, {}, "test")
        maps = model.backbone(model.pose2feat(model.backbone(image), heat), skip_early=True)
        trans = model.get_camera_trans(said["cam_param"], {}, False)
        proj, joint_cam, _, mesh = model.get_coord(said["smpl_pose"], said["smpl_shape"], trans)
        losses = run_losses(model, inputs)
    counts = {
        n: sum(p.numel() for p in getattr(model, n).parameters())
        for n in ("backbone", "pose2feat", "position_net", "rotation_net", "vposer")
    }
    git = os.environ.get("CROWDNET_GIT")
    head = ["git", f"--git-dir={git}", "rev-parse", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip() if git else "unknown"
    print(
        save_reference(
            "crowdnet3d",
            shapes,
            SEED,
            f"hongsukchoi/3DCrowdNet_RELEASE at {commit}, ResNet-50, {SIZE} px",
            maps=maps.mean((2, 3)),
            cells=said["joint_img"] / 8,
            score=said["joint_score"],
            camera=said["cam_param"],
            pose=said["smpl_pose"],
            betas=said["smpl_shape"],
            translation=trans,
            joint_proj=proj,
            joint_cam=joint_cam,
            vertices=mesh[:, ::211],
            heat=heat[:, ::7],
            adjacency=model.human_model.graph_adj,
            counts=np.array(list(counts.values())),
            **losses,
            **run_errors(),
        )
    )
    print(counts, sum(counts.values()))
    print({k: float(v) for k, v in losses.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
