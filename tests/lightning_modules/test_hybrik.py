"""HybrIK against the original's outputs (scripts/tpe_reference/hybrik.py), and what its kinematics promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from human.batch import PoseBatch
from human.body import load_body
from human.errors import PosesynError
from human.motion import load_motion_bank
from human.rotations import geodesic_degrees, rotvec_to_matrix
from lightning_modules.heatmaps3d import expected_coordinates, probabilities
from lightning_modules.hybrik import HybrIK
from lightning_modules.hybrik_camera import back_project, fit_camera, pixels_to_uv, uv_to_pixels
from lightning_modules.hybrik_kinematics import (
    JOINTS29,
    PARENTS29,
    SWAP29,
    RestSkeleton,
    inverse_kinematics,
    leaf_vertices,
    pose29,
    swing_to,
    twists_of,
)
from lightning_modules.hybrik_losses import HybrIKLoss, Labels, hybrik_losses, make_labels
from tests.lightning_modules import hybrik_reference as ref
from tests.lightning_modules.learning import learns_by_heart
from tests.lightning_modules.seeded import Reference, assert_parity, load_reference, seeded_images
from tests.lightning_modules.tiny_estimators import make
from tests.tiny import rendered_people

FOCAL = 1000 / 256


@pytest.fixture(scope="module")
def original() -> Reference:
    return load_reference("hybrik")


@pytest.fixture(scope="module")
def skeleton() -> RestSkeleton:
    return RestSkeleton(load_body())


def small(kind: str, **changes: Any) -> HybrIK:
    options: dict[str, Any] = {"image_size": ref.SIZE, "dropout": 0.5}
    if kind == "resnet":
        options |= {"backbone": f"resnet{ref.RESNET['layers']}", "deconv": ref.RESNET["deconv"]}
    else:
        stages = {
            f"stage{k}": {
                "num_modules": modules, "num_branches": len(blocks), "block_type": "BASIC", "num_blocks": blocks,
                "num_channels": channels, "fuse_method": "SUM",
            }
            for k, (modules, blocks, channels) in zip((2, 3, 4), ref.hrnet_stages(), strict=True)
        }  # fmt: skip
        options |= {"backbone": "hrnet_w18", "backbone_options": stages}
    return HybrIK(**(options | changes))


def boxed() -> PoseBatch:
    """The reference's pictures; the principal points are the middles of the pictures that the boxes were cut from."""
    centre, middle = ref.centres()
    batch = PoseBatch.blank(ref.BATCH, ref.SIZE).replace(image=seeded_images(ref.BATCH, ref.SIZE, ref.SEED))
    intrinsics = batch.intrinsics.clone()
    intrinsics[:, :2, 2] = uv_to_pixels((middle - centre) / 200, ref.SIZE)
    return batch.replace(intrinsics=intrinsics)


# -- parity ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", ["resnet", "resnet_box", "hrnet", "hrnet_box", "hrnet_flip"])
def test_equal_to_the_original(original: Reference, case: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = case.split("_")[0]
    torch.save({"model": ref.adjusted(original.state, kind)}, tmp_path / "official.pth")
    camera = "picture" if case.endswith("box") else "crop"
    model = small(
        kind, camera=camera, flip_test=case.endswith("flip"), checkpoint=str(tmp_path / "official.pth"), other_body=True
    )
    batch = boxed()
    person = ref.person_volumes(model.skeleton(torch.zeros(1, 10))[0])
    model.heat.final_layer.register_forward_hook(lambda module, inputs, out: out + person)
    theirs = {k.removeprefix(f"{case}/"): v for k, v in original.arrays.items() if k.startswith(f"{case}/")}
    with torch.inference_mode():
        found = model.eval().find(batch.image)
        assert_parity(found.uvd.flatten(1), theirs["pred_uvd_jts"], "uvd", 2e-6)
        said = model.solve(batch)
    assert_parity(found.sigma, theirs["pred_sigma"], "sigma")
    assert_parity(found.twist, theirs["pred_phi"], "twist")
    assert_parity(said.betas, theirs["pred_shape"], "betas")
    assert_parity(said.rotations.flatten(1), theirs["pred_theta_mats"], "rotations")
    structure = said.joints3d[:, :24].flatten(1) / 2.2
    assert_parity(structure, theirs["pred_xyz_jts_24_struct"], "joints")
    place = theirs["cam_root"].clone()
    if case == "resnet":  # there the original takes the regressed offset from the root's place, and draws nowhere
        place[:, :2] += found.camera[:, 1:]
    assert_parity(said.transl, place, "translation")
    assert_parity(FOCAL / (said.transl[:, 2] - 2.2 * found.uvd[:, 0, 2]), theirs["cam_scale"][:, 0], "scale")


@pytest.mark.parametrize("mode", ["adaptive", "naive", "train"])
def test_inverse_kinematics_equals_the_original(original: Reference, mode: str) -> None:
    rest, pose, noise, twist = ref.skeletons().values()
    joints = pose29(rotvec_to_matrix(pose), rest)
    assert_parity(joints, original.arrays["ik/joints"], "joints")
    found = inverse_kinematics(rest, joints + ref.NOISE[mode] * noise, twist, adaptive=mode == "adaptive")
    assert_parity(found, original.arrays[f"ik/{mode}"], mode)


@pytest.mark.parametrize("kind", ["l1", "laplace"])
def test_losses_equal_the_original(original: Reference, kind: str) -> None:
    x = ref.loss_inputs()
    b = len(x["uvd"])
    yes = torch.ones(b, dtype=torch.bool)
    labels = Labels(
        x["label_uvd"], torch.ones(b, 29, 3), x["label_twist"], torch.ones(b, 23), x["label_rotations"],
        x["label_betas"], x["label_camera"], yes, ~yes,
    )  # fmt: skip
    camera = x["camera"] if kind == "l1" else x["camera"][:, :1]
    terms = hybrik_losses(
        PoseBatch.blank(b, 8).replace(has_pose=yes, has_betas=yes), labels, uvd_BJ3=x["uvd"],
        sigma_BJ1=x["sigma"] if kind == "laplace" else None, twist_B232=x["twist"], rotations_B2433=x["rotations"],
        betas_B10=x["betas"], camera_BC=camera, weights=HybrIKLoss(),
    )  # fmt: skip
    assert_parity(torch.stack(list(terms.values())).sum(), original.arrays[f"loss/{kind}"], kind)


def test_fitted_camera_equals_the_original(original: Reference) -> None:
    joints = 0.4 * ref.seeded_tensor((4, 24, 3), ref.SEED, "fit")
    weight = torch.ones(4, 24)
    weight[:, ::5] = 0
    camera, fits = fit_camera(joints, joints[..., :2] / 2.2 + 0.02, weight, FOCAL)
    assert fits.all()
    assert_parity(camera, original.arrays["fit/camera"], "camera")


# Counted by `python scripts/tpe_reference/hybrik.py HybrIK --count`.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "parameters"), [("resnet34", 27622616), ("resnet50", 37710296), ("hrnet_w48", 75688022)]
)
def test_full_size(backbone: str, parameters: int) -> None:
    model = HybrIK(backbone=backbone).eval()
    with torch.inference_mode():
        said = model.predict(PoseBatch.blank(1, 256))
    assert said.finite.all()
    assert model.heat.depth == 64
    assert sum(p.numel() for p in model.parameters()) == parameters


# -- inverse kinematics ----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def poses() -> tuple[Tensor, Tensor]:
    """Rotations (B,24,3,3) of real motions, and shapes (B,10)."""
    bank = load_motion_bank()
    body, orient = (torch.from_numpy(x) for x in bank.sample(np.linspace(0, len(bank) - 1, 64).astype(int)))
    generator = torch.Generator().manual_seed(0)
    return rotvec_to_matrix(torch.cat([orient[:, None], body], 1)), torch.randn(64, 10, generator=generator)


@pytest.mark.parametrize("adaptive", [False, True])
def test_rotations_come_back(poses: tuple[Tensor, Tensor], skeleton: RestSkeleton, adaptive: bool) -> None:
    """From a body's own joints and twists: every rotation, wherever the body stands."""
    rotations, betas = poses
    rest = skeleton(betas)
    twist, defined = twists_of(rotations, rest)
    assert defined.all()
    joints = pose29(rotations, rest) + torch.tensor([0.3, -1.0, 5.0])
    found = inverse_kinematics(rest, joints, 3 * twist, adaptive)
    assert geodesic_degrees(found, rotations).max() < 0.1
    torch.testing.assert_close(found @ found.mT, torch.eye(3).expand_as(found), rtol=0, atol=1e-5)


def test_without_its_twists_a_body_still_has_its_joints(poses: tuple[Tensor, Tensor], skeleton: RestSkeleton) -> None:
    """Limbs without branches; where bones branch off, the twist decides."""
    rotations, betas = poses
    rest = skeleton(betas)
    twist, _ = twists_of(rotations, rest)
    arms = [j - 1 for j in range(1, 24) if j not in (3, 6, 9)]
    twist[:, arms] = torch.tensor([1.0, 0.0])
    joints = pose29(rotations, rest)
    found = pose29(inverse_kinematics(rest, joints, twist, adaptive=False), rest)
    torch.testing.assert_close(found - found[:, :1], joints - joints[:, :1], rtol=0, atol=1e-4)


def test_adaptive_errs_less_than_naive(poses: tuple[Tensor, Tensor], skeleton: RestSkeleton) -> None:
    """The paper's reason for it (Table 4): on noisy joints it stays nearer to them."""
    rotations, betas = poses
    rest = skeleton(betas)
    twist, _ = twists_of(rotations, rest)
    noise = 0.01 * torch.randn(64, 29, 3, generator=torch.Generator().manual_seed(1))
    joints = pose29(rotations, rest) + noise

    def error(adaptive: bool) -> Tensor:
        solved = pose29(inverse_kinematics(rest, joints, twist, adaptive), rest)
        return ((solved - solved[:, :1]) - (joints - joints[:, :1])).norm(dim=-1).mean()

    assert error(True) < 0.95 * error(False)


def test_collapsed_joints_give_an_upright_person(skeleton: RestSkeleton) -> None:
    rest = skeleton(torch.zeros(2, 10))
    twist = torch.tensor([1.0, 0.0]).expand(2, 23, 2)
    for adaptive in (False, True):
        found = inverse_kinematics(rest, torch.zeros(2, 29, 3), twist, adaptive)
        upright = torch.eye(3).repeat(2, 24, 1, 1)
        upright[:, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
        torch.testing.assert_close(found, upright, rtol=0, atol=1e-4)


def test_gradients_of_collapsed_and_opposite_bones_are_finite(skeleton: RestSkeleton) -> None:
    betas = torch.zeros(2, 10, requires_grad=True)
    rest = skeleton(betas)
    joints = torch.stack([torch.zeros(29, 3), -rest[1].detach()]).requires_grad_()
    twist = torch.ones(2, 23, 2, requires_grad=True)
    inverse_kinematics(rest, joints, twist, adaptive=False).square().sum().backward()
    for x in (betas, joints, twist):
        assert x.grad is not None
        assert x.grad.isfinite().all()


@pytest.mark.parametrize("angle", [0.0, 1e-4, 1.0, 3.1, torch.pi])
def test_swing(angle: float) -> None:
    a = torch.nn.functional.normalize(torch.tensor([[1.0, 2.0, -0.5], [0.0, 0.0, 1.0]]), dim=-1)
    across = torch.nn.functional.normalize(torch.linalg.cross(a, torch.tensor([[1.0, 0, 0]]).expand(2, 3)), dim=-1)
    b = rotvec_to_matrix(angle * across) @ a[..., None]
    found = swing_to(a, b[..., 0])
    torch.testing.assert_close(found @ a[..., None], b, rtol=0, atol=2e-4)
    torch.testing.assert_close(torch.linalg.det(found), torch.ones(2), rtol=0, atol=1e-3)
    angles = geodesic_degrees(found, torch.eye(3).expand(2, 3, 3))
    torch.testing.assert_close(angles, torch.full((2,), angle).rad2deg(), rtol=0, atol=0.1)


def test_leaves_lie_where_their_names_say() -> None:
    body = load_body()
    at = dict(zip(JOINTS29[24:], body.v_template[leaf_vertices(body)], strict=True))
    assert at["crown"][1] > body.v_template[:, 1].max() - 0.02
    for side, sign in (("left", 1), ("right", -1)):
        assert sign * at[f"{side}_middle_tip"][0] == (sign * body.v_template[:, 0]).max()
        assert at[f"{side}_big_toe"][2] > body.J_template[10, 2] + 0.03
        assert sign * at[f"{side}_big_toe"][0] > 0
    assert [JOINTS29[p] for p in PARENTS29[24:]] == ["head", "left_hand", "right_hand", "left_foot", "right_foot"]
    swapped = [JOINTS29[j] for j in SWAP29]
    exchange = {"left": "right", "right": "left"}
    assert swapped == ["_".join(exchange.get(w, w) for w in name.split("_")) for name in JOINTS29]


# -- heat maps and cameras -------------------------------------------------------------------------------------------
def test_expected_coordinates_of_a_peak() -> None:
    logits = torch.zeros(1, 2, 8, 4, 16)
    logits[0, 0, 6, 1, 3] = logits[0, 1, 0, 3, 15] = 50
    found = expected_coordinates(probabilities(logits))
    want = torch.tensor([[[3 / 16, 1 / 4, 6 / 8], [15 / 16, 3 / 4, 0]]]) - 0.5
    torch.testing.assert_close(found, want, rtol=0, atol=1e-5)


def test_labels_say_what_the_picture_shows() -> None:
    """Rendered people: back-projecting the label under the sample's own depth gives the label's joints."""
    people = rendered_people(range(3))
    model = make("hybrik")
    assert isinstance(model, HybrIK)
    labels = make_labels(people, model.body, model.skeleton, model.focal_widths, 2.2)
    focal = people.intrinsics[:, 0, 0] / people.size
    principal = pixels_to_uv(people.intrinsics[:, :2, 2], people.size)
    for i in range(3):
        depth = people.transl[i : i + 1, 2:]
        camera = principal[i : i + 1], float(focal[i]), 2.2
        found = back_project(labels.uvd[i : i + 1], focal[i] / depth, *camera)
        found = found - found[:, :1]
        seen = people.joints2d_conf[i, :24] > 0
        torch.testing.assert_close(found[0, :24][seen], people.joints3d[i, :24][seen], rtol=0, atol=2e-3)
        posed = pose29(labels.rotations, model.skeleton(labels.betas))[i : i + 1]
        torch.testing.assert_close(found[0, 24:], (posed - posed[:, :1])[0, 24:], rtol=0, atol=2e-3)
    assert labels.has_camera.all()
    middle = fit_camera(people.joints3d[:, :24], labels.uvd[:, :24, :2], labels.uvd_weight[:, :24, 0], FOCAL)[0]
    torch.testing.assert_close(middle, labels.camera)


def test_depths_of_a_set_without_a_pelvis_count_from_the_hips() -> None:
    people = rendered_people(range(2))
    conf = people.joints3d_conf.clone()
    conf[:, 0] = 0
    hips = people.joints3d[:, 1:3].mean(1, keepdim=True)
    other = people.replace(joints3d_conf=conf, joints3d=people.joints3d - hips)
    model = make("hybrik")
    assert isinstance(model, HybrIK)
    labels = [make_labels(b, model.body, model.skeleton, model.focal_widths, 2.2) for b in (people, other)]
    perfect: dict[str, Any] = {
        "uvd_BJ3": labels[0].uvd, "sigma_BJ1": None, "twist_B232": labels[0].twist,
        "rotations_B2433": labels[0].rotations, "betas_B10": labels[0].betas, "camera_BC": labels[0].camera,
        "weights": HybrIKLoss(),
    }  # fmt: skip
    for batch, label in zip((people, other), labels, strict=True):
        for name, term in hybrik_losses(batch, label, **perfect).items():
            assert term.item() == pytest.approx(0, abs=1e-4), name


@pytest.mark.slow
def test_a_batch_is_learnt_by_heart() -> None:
    # Gradients through expected coordinates are large: clipped at 1 nothing is learnt in so few steps.
    learns_by_heart(make("hybrik", dropout=0.0, hidden=64, deconv=[32, 32, 32]), steps=180, lr=2e-2, clip=50.0)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"ik": "numeric"}, "adaptive, naive"),
        ({"camera": "weak"}, "crop, picture"),
        ({"terms": HybrIKLoss(uvd_kind="l2")}, "laplace"),
        ({"backbone": "hrnet_48"}, "hrnet_48"),
    ],
)
def test_settings_that_are_mistyped(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(PosesynError, match=says):
        make("hybrik", **wrong)
