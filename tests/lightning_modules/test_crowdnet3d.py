"""3DCrowdNet against its released code (scripts/tpe_reference/crowdnet3d.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from human.batch import PoseBatch
from human.errors import PosesynError
from human.rotations import geodesic_degrees, matrix_to_rotvec, rotation_about, rotvec_to_matrix
from lightning_modules.crowdnet3d import CrowdNet3D
from lightning_modules.crowdnet_conventions import (
    GRAPH_EDGES,
    IN_POSE32,
    JOINTS15,
    camera_to_translation,
    heat_maps,
    label_cells,
)
from lightning_modules.crowdnet_losses import PAPER_WEIGHTS, crowdnet_losses, nearest_rotvec
from lightning_modules.crowdnet_network import tents
from lightning_modules.graph import GraphConv, normalised_adjacency
from tests.lightning_modules.seeded import (
    Reference,
    assert_parity,
    load_reference,
    seeded_images,
    seeded_state,
    seeded_tensor,
    shapes_of,
)
from tests.lightning_modules.tiny_estimators import TINY, crowd
from tests.tiny import rendered_people

CROP = 128


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load_reference("crowdnet3d")


def snapshot(reference: Reference, path: Path, **more: Tensor) -> Path:
    """A checkpoint as the original's trainer writes it, from several devices, with its SMPL layer."""
    state = {f"module.{k}": v for k, v in {**reference.state, **more}.items()}
    torch.save({"epoch": 6, "network": state, "optimizer": {"state": {}, "param_groups": []}}, path)
    return path


@pytest.fixture(scope="module")
def original(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> CrowdNet3D:
    """Ours, with the weights of a checkpoint of the original."""
    path = snapshot(
        reference,
        tmp_path_factory.mktemp("crowdnet") / "snapshot_6.pth.tar",
        **{"human_model_layer.th_v_template": torch.zeros(1, 6890, 3)},
    )
    model = CrowdNet3D(
        image_size=CROP, depth=4, pose_head="vposer", pose2d="labels", checkpoint=str(path), other_body=True
    )
    return model.eval()


@pytest.fixture(scope="module")
def inputs(reference: Reference) -> tuple[PoseBatch, Tensor, Tensor]:
    """Pictures, and the guiding joints (pixels, seen) of the reference."""
    seed = reference.seed
    batch = PoseBatch.blank(2, CROP).replace(image=seeded_images(2, CROP, seed))
    joints = 4 * (CROP / 8 + 8 * seeded_tensor((2, 30, 2), seed, "guide"))
    return batch, joints, seeded_tensor((2, 30, 1), seed, "seen")[..., 0] > -0.5


# -- parity ----------------------------------------------------------------------------------------------------------
def test_outputs_are_the_originals(
    original: CrowdNet3D, reference: Reference, inputs: tuple[PoseBatch, Tensor, Tensor]
) -> None:
    theirs, (batch, joints, seen) = reference.arrays, inputs
    with torch.inference_mode():
        heat = heat_maps(joints, seen, CROP, original.sigma)
        assert_parity(heat[:, ::7], theirs["heat"], "guiding heat maps")
        maps = original.backbone(batch.image.float() / 255, heat)
        said = original.regress_guided(batch.image, heat)
    assert_parity(maps.mean((2, 3)), theirs["maps"], "pose-guided features")
    assert_parity(said.extras["cells"], theirs["cells"], "joints in the heat maps")
    assert_parity(said.extras["score"], theirs["score"], "joint confidences")
    assert_parity(said.extras["camera"], theirs["camera"], "camera")
    assert_parity(said.betas, theirs["betas"], "shape")
    assert_parity(said.rotations, rotvec_to_matrix(theirs["pose"].view(-1, 24, 3)), "rotations")
    # The seeded network answers to its picture, a hundred times the error allowed.
    assert (theirs["cells"][0] - theirs["cells"][1]).abs().max() > 1e-2 * theirs["cells"].abs().max()


def test_camera_and_mesh_are_the_originals(
    original: CrowdNet3D,
    reference: Reference,
    inputs: tuple[PoseBatch, Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs, (batch, joints, seen) = reference.arrays, inputs
    ours = camera_to_translation(theirs["camera"], 5000.0, CROP)
    assert_parity(ours, theirs["translation"], "translation of the body's origin")
    monkeypatch.setattr(original, "guiding_pose", lambda batch: (joints, seen))
    with torch.inference_mode():
        out = original.solve(batch)
        mesh = original.body(out.betas, out.rotations[:, 1:], out.rotations[:, 0]).vertices
        pelvis = original.body.joints(out.betas, out.rotations[:, 1:], out.rotations[:, 0])[:, :1]
    placed = mesh - pelvis + out.transl[:, None]
    assert_parity(placed[:, ::211], theirs["vertices"], "vertices before the camera")
    # The original regresses joints from the posed mesh. Ours are kinematic: the free body's regressor, exact
    # on the mesh at rest, is centimetres off on a posed one.
    regressed = original.body.J_regressor @ placed
    k = out.intrinsics
    pixels = regressed[..., :2] / (regressed[..., 2:] + 1e-4) * k[:, :1, :1] + k[:, None, :2, 2]
    assert_parity(pixels / 4, theirs["joint_proj"][:, :24], "joints in the picture")


def labels_of(reference: Reference) -> PoseBatch:
    """The labels that the script gives the original's losses; the second person has none in 3D."""
    seed = reference.seed
    batch = PoseBatch.blank(2, CROP)
    conf = torch.zeros(2, 32)
    conf[:, IN_POSE32] = 1
    joints2d, joints3d = torch.zeros(2, 32, 2), torch.zeros(2, 32, 3)
    joints2d[:, IN_POSE32] = CROP / 2 + 40 * seeded_tensor((2, 30, 2), seed, "pixels")
    metres = (0.4 * seeded_tensor((2, 30, 3), seed, "metres")).clamp(-0.95, 0.95)
    metres[:, 0] = 0
    joints3d[:, IN_POSE32] = metres
    pose = (0.4 * seeded_tensor((2, 72), seed, "pose")).view(2, 24, 3)
    yes = torch.ones(2, dtype=torch.bool)
    return batch.replace(
        joints2d=joints2d, joints2d_conf=conf, joints3d=joints3d, joints3d_conf=conf * torch.tensor([[1.0], [0.0]]),
        global_orient=pose[:, 0], body_pose=pose[:, 1:], betas=seeded_tensor((2, 10), seed, "betas"), has_pose=yes,
        has_betas=yes,
    )  # fmt: skip


def test_losses_are_the_originals(reference: Reference) -> None:
    theirs, batch = reference.arrays, labels_of(reference)
    joints2d, joints3d = torch.zeros(2, 32, 2), torch.zeros(2, 32, 3)
    joints2d[:, IN_POSE32], joints3d[:, IN_POSE32] = theirs["joint_proj"] * 4, theirs["joint_cam"]
    ours = crowdnet_losses(
        batch,
        cells_B153=theirs["cells"],
        feature_cells=4,
        depth_cells=4,
        joints2d_B32=joints2d,
        joints3d_B32=joints3d,
        rotations_B24=rotvec_to_matrix(theirs["pose"].view(2, 24, 3)),
        betas=theirs["betas"],
        weights=PAPER_WEIGHTS,
        extremities=False,
    )
    assert_parity(ours["seen"], theirs["loss_body_joint_img"], "joints in the heat maps")
    assert_parity(ours["joints2d"], theirs["loss_body_joint_proj"], "joints in the picture")
    assert_parity(ours["joints3d"], theirs["loss_body_joint_cam"], "joints in space")
    assert_parity(ours["betas"], theirs["loss_smpl_shape"], "shape")
    # Ours is the shorter way round where the label has two: the same here but for a few joints.
    label = torch.cat([batch.global_orient[:, None], batch.body_pose], 1)
    pose = theirs["pose"].view(2, 24, 3)
    round_about = (nearest_rotvec(label, pose) - label).abs().amax(-1) > 1e-3
    assert round_about.sum() <= 4
    assert ours["pose"] <= theirs["loss_smpl_pose"] * (1 + 1e-4)
    if not round_about.any():
        assert_parity(ours["pose"], theirs["loss_smpl_pose"], "pose")


def test_graph_is_the_originals(reference: Reference) -> None:
    ours = normalised_adjacency(len(JOINTS15), GRAPH_EDGES)
    assert_parity(ours, reference.arrays["adjacency"].float(), "adjacency")


def test_checkpoint_of_the_original_for_another_head_is_refused(reference: Reference, tmp_path: Path) -> None:
    path = snapshot(reference, tmp_path / "snapshot_6.pth.tar")
    with pytest.raises(PosesynError) as caught:
        CrowdNet3D(image_size=CROP, depth=4, pose_head="sixd", pose2d="labels", checkpoint=str(path))
    assert "vposer.bodyprior_dec_fc1.bias" in str(caught.value)
    assert "head.pose_out.weight (32, 1920) != (138, 1920)" in str(caught.value)


@pytest.mark.slow
def test_full_size_has_the_originals_parameters(reference: Reference, original: CrowdNet3D) -> None:
    # python -m scripts.tpe_reference.crowdnet3d prints them, by part of the original's Model.
    backbone, pose2feat, position, rotation, _ = reference.arrays["counts"].tolist()
    assert (backbone, pose2feat, position, rotation) == (23_508_032, 54_336, 122_940, 6_055_731)

    def count(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    model = CrowdNet3D(pose_head="vposer", pose2d="labels")
    assert count(model.backbone) == backbone + pose2feat
    assert count(model.head) == rotation
    assert count(model.position_net) == 2048 * 120 + 120  # at 256 px; the reference is at 128, with half the depth
    model.vposer.load_state_dict(original.vposer.state_dict())
    people = rendered_people(range(2), 256)
    with torch.inference_mode():
        assert model.eval().predict(people).finite.all()


# -- parts -----------------------------------------------------------------------------------------------------------
def test_features_are_sampled_as_grid_sample_does() -> None:
    maps, at = seeded_tensor((2, 5, 4, 6), 1), torch.rand(2, 7, 2) * torch.tensor([5.0, 3.0])
    x, y = tents(at[..., 0], 6), tents(at[..., 1], 4)
    ours = (y[..., :, None] * x[..., None, :]).flatten(2) @ maps.flatten(2).transpose(1, 2)
    grid = (at / torch.tensor([5.0, 3.0]) * 2 - 1)[:, :, None]
    theirs = torch.nn.functional.grid_sample(maps, grid, align_corners=True)[..., 0].transpose(1, 2)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_each_joint_has_its_own_layer_and_statistics() -> None:
    """The batched product and normalisation against a layer and a normalisation of each joint."""
    adjacency = normalised_adjacency(3, [(0, 1), (1, 2)])
    graph = GraphConv(adjacency, 4, 5)
    graph.load_state_dict(seeded_state(shapes_of(graph.state_dict()), 2))
    x = seeded_tensor((8, 3, 4), 3)
    made = []
    for j in range(3):
        rows = slice(5 * j, 5 * j + 5)
        y = torch.nn.functional.linear(x[:, j], graph.weight[j], graph.bias[rows])
        norm = torch.nn.BatchNorm1d(5)
        norm.weight.data, norm.bias.data = graph.norm.weight[rows].detach(), graph.norm.bias[rows].detach()
        made.append(norm(y))
    torch.testing.assert_close(graph(x), torch.relu(adjacency @ torch.stack(made, 1)), rtol=1e-4, atol=1e-5)


def test_label_cells_know_what_is_known() -> None:
    batch = rendered_people(range(2))
    target, known = label_cells(batch, 16, 16)
    torch.testing.assert_close(
        target[..., :2] * 4, batch.joints2d[:, [0, 1, 2, 4, 5, 7, 8, 12, 30, 16, 17, 18, 19, 20, 21]]
    )
    torch.testing.assert_close(target[:, 0, 2], torch.full((2,), 8.0))
    flat = batch.replace(joints3d=torch.full_like(batch.joints3d, torch.nan), joints3d_conf=torch.zeros(2, 32))
    target, known = label_cells(flat, 16, 16)
    assert target.isfinite().all()
    assert not known[..., 2].any()
    outside = batch.joints2d.clone()
    outside[:, 0] = -1.0
    assert not label_cells(batch.replace(joints2d=outside), 16, 16)[1][:, 0].any()


def test_half_a_turn_either_way_is_no_error() -> None:
    a, b = (matrix_to_rotvec(rotation_about("x", torch.tensor(torch.pi + d))) for d in (-0.01, 0.01))
    assert (a - b).norm() > 6  # on either side of half a turn
    assert (nearest_rotvec(b, a) - a).norm() < 0.03
    turned = nearest_rotvec(b, a)
    assert geodesic_degrees(rotvec_to_matrix(turned), rotvec_to_matrix(b)) < 0.01
    small = torch.tensor([0.3, 0.0, 0.0])
    assert torch.equal(nearest_rotvec(small, -small), small)


# -- VPoser ----------------------------------------------------------------------------------------------------------
def vposer_state(reference: Reference) -> dict[str, Tensor]:
    return {k.removeprefix("vposer.vposer."): v for k, v in reference.state.items() if k.startswith("vposer.")}


def test_vposers_own_folder(reference: Reference, original: CrowdNet3D, tmp_path: Path) -> None:
    (tmp_path / "VPOSER_CKPT/snapshots").mkdir(parents=True)
    torch.save(vposer_state(reference), tmp_path / "VPOSER_CKPT/snapshots/TR00_E096.pt")
    tiny = {"pose_head": "vposer", "pose2d": "labels"}
    model = crowd(vposer=str(tmp_path / "VPOSER_CKPT"), **tiny)
    for name, value in model.vposer.state_dict().items():
        assert torch.equal(value, original.vposer.state_dict()[name]), name
    people = rendered_people(range(3))
    loss = model.training_step(people, 0)
    loss.backward()
    assert all(p.grad is None for p in model.vposer.parameters())
    assert all(p.grad is not None for p in model.head.parameters())
    said = model.eval().predict(people)
    assert (said.body_pose[:, 21:] == 0).all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSESYN_BODY_MODELS", str(tmp_path))
        assert crowd(**tiny).vposer.loaded


def test_vposer_that_is_not_there(no_licensed_files: Path) -> None:
    model = crowd(pose_head="vposer", pose2d="labels")
    with pytest.raises(PosesynError, match=r"VPoser v1.*sixd"):
        model.predict(rendered_people(range(1)))
    with pytest.raises(PosesynError, match="snapshots"):
        crowd(pose_head="vposer", vposer=str(no_licensed_files))


# -- what users mistype ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"backbone": "resnet_50"}, "no backbone 'resnet_50'"),
        ({"backbone": "test_vit"}, "takes ResNets"),
        ({"image_size": 100}, "multiple of 32"),
        ({"pose2d": "openpose"}, "packaged, labels"),
        ({"pose_head": "smplify"}, "sixd or vposer"),
        ({"backbone_checkpoint": "nowhere.pth"}, "nowhere.pth"),
    ],
)
def test_settings_that_are_mistyped(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(PosesynError, match=says):
        crowd(**wrong)


def test_backbone_weights_of_torchvision(tmp_path: Path) -> None:
    import torchvision

    resnet = torchvision.models.resnet18()
    torch.save(resnet.state_dict(), tmp_path / "resnet18.pth")
    model = crowd(backbone="resnet18", pose2d="labels", backbone_checkpoint=str(tmp_path / "resnet18.pth"))
    for name, value in resnet.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(model.backbone.state_dict()[name], value), name
    with pytest.raises(PosesynError, match="ResNet of crowdnet3d"):
        crowd(**{**TINY["crowdnet3d"], "backbone_checkpoint": str(tmp_path / "resnet18.pth")})


@pytest.mark.slow
def test_it_runs_compiled() -> None:
    people = rendered_people(range(2))
    model = crowd(pose2d="labels").eval()
    with torch.no_grad():
        expected = model.predict(people)
        for network in model.networks():
            network.compile(fullgraph=True, backend="eager")
        compiled = model.predict(people)
    np.testing.assert_allclose(compiled.joints2d, expected.joints2d, rtol=1e-4, atol=1e-3)
