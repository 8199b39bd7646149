"""VPoser's networks against the original's, and files of every kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from human.body import load_body
from human.errors import PosesynError
from human.motion import load_motion_bank
from human.rotations import geodesic_degrees, rotvec_to_matrix
from synth.pose_prior import (
    HARD,
    JOINTS,
    PosePriorConfig,
    decode_pose,
    make_pose_prior,
    pose_hardness,
    posterior_of,
)
from synth.pose_prior_files import about_pose_prior, find_vposer, load_pose_prior, save_pose_prior
from synth.pose_validity import is_valid
from tests.lightning_modules.seeded import assert_parity, seeded_state, seeded_tensor

REFERENCES = Path(__file__).parent / "reference"
VERSIONS = ("v1", "v2")


def reference(version: str) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """The original's weights, what it said, and the seed."""
    with np.load(REFERENCES / f"vposer_{version}.npz", allow_pickle=False) as data:
        header = json.loads(data["header"].tobytes())
        said = {k: torch.from_numpy(data[k]) for k in ("mean", "std", "rotation")}
    return seeded_state(header["shapes"], header["seed"]), said, header["seed"]


class Settings:
    """What old trainers put beside the weights."""


def official_folder(version: str, folder: Path) -> Path:
    """VPoser as it is released, with seeded weights."""
    state, _, _ = reference(version)
    (folder / "snapshots").mkdir(parents=True)
    if version == "v1":
        torch.save(state, folder / "snapshots/TR00_E096.pt")
    else:
        content: dict[str, Any] = {
            "epoch": 7,
            "callbacks": {Settings: {"best_model_path": "x"}},  # a class as a key, as Lightning 1 wrote it
            "hyper_parameters": Settings(),
            "state_dict": {f"vp_model.{k}": v for k, v in state.items()} | {"bm_train.v_template": torch.zeros(3)},
        }
        torch.save(content, folder / "snapshots/V02_05_epoch=13_val_loss=0.03.ckpt")
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_official_files_give_what_the_original_says(version: str, tmp_path: Path) -> None:
    _, said, seed = reference(version)
    prior = load_pose_prior(official_folder(version, tmp_path / "vposer"))
    assert prior.config == PosePriorConfig(version)
    assert not prior.training
    assert not any(p.requires_grad for p in prior.parameters())
    pose = 0.5 * seeded_tensor([4, 3 * JOINTS], seed, "pose").unflatten(1, (JOINTS, 3))
    posterior = prior.encode(pose)
    assert_parity(posterior.mean, said["mean"], "mean")
    assert_parity(posterior.std, said["std"], "std")
    assert_parity(prior.decode(2 * seeded_tensor([4, 32], seed, "code")), said["rotation"], "rotation")


def test_official_folders_are_found(no_licensed_files: Path) -> None:
    with pytest.raises(PosesynError, match=r"smpl-x\.is\.tue"):
        load_pose_prior("vposer")
    official_folder("v1", no_licensed_files / "VPOSER_CKPT")
    assert load_pose_prior("vposer").config.kind == "v1"
    assert find_vposer("v2") is None
    official_folder("v2", no_licensed_files / "V02_05")
    assert load_pose_prior("vposer").config.kind == "v2"


@pytest.mark.parametrize("version", VERSIONS)
def test_files_of_our_own(version: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    prior = make_pose_prior(PosePriorConfig(version, width=24, latent=5, dropout=0.3)).eval()
    path = tmp_path / "prior.safetensors"
    save_pose_prior(prior, path, made_by="a test")
    again = load_pose_prior(path)
    assert (again.config.kind, again.config.width, again.config.latent) == (version, 24, 5)
    pose = torch.randn(3, JOINTS, 3)
    assert torch.equal(again(pose)[0], prior(pose)[0])
    assert {"made_by": "a test", "dropout": 0.3}.items() <= about_pose_prior(path).items()
    with torch.no_grad():
        next(prior.parameters()).fill_(1e6)
    with pytest.raises(PosesynError, match="finite"):
        save_pose_prior(prior, path, torch.float16)


def test_files_of_other_things(tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="not found"):
        load_pose_prior(tmp_path / "nothing.pt")
    with pytest.raises(PosesynError, match="snapshots"):
        load_pose_prior(tmp_path)
    torch.save({"conv.weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(PosesynError, match="no pose prior"):
        load_pose_prior(tmp_path / "other.pt")
    (tmp_path / "cut.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(PosesynError, match="damaged"):
        load_pose_prior(tmp_path / "cut.safetensors")
    with pytest.raises(PosesynError, match="save_pose_prior"):
        about_pose_prior(tmp_path / "cut.safetensors")
    state, _, _ = reference("v1")
    state["bodyprior_dec_out.weight"] = torch.zeros(6 * 23, 512)
    torch.save(state, tmp_path / "hands.pt")
    with pytest.raises(PosesynError, match="23 joints"):
        load_pose_prior(tmp_path / "hands.pt")
    del state["bodyprior_dec_out.weight"]
    torch.save(state, tmp_path / "half.pt")
    with pytest.raises(PosesynError, match="bodyprior_dec_out"):
        load_pose_prior(tmp_path / "half.pt")


@pytest.mark.parametrize("wrong", [{"kind": "v3"}, {"width": 0}, {"latent": 0}, {"dropout": 1.0}])
def test_sizes_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(PosesynError, match="v1 or v2"):
        PosePriorConfig(**wrong)


def test_a_pose_is_the_same_in_any_batch_and_nan_stays_in_its_row() -> None:
    torch.manual_seed(0)
    prior = make_pose_prior(PosePriorConfig(width=40)).eval()
    pose = 0.4 * torch.randn(70, 23, 3)
    pose[5, 3] = torch.nan
    whole = posterior_of(prior, pose)
    alone = posterior_of(prior, pose[69:])
    assert torch.equal(whole.mean[69:], alone.mean)
    assert torch.equal(whole.std[69:], alone.std)
    assert torch.equal(decode_pose(prior, whole.mean)[69:], decode_pose(prior, alone.mean))
    hardness = pose_hardness(prior, pose)
    assert hardness.isnan().nonzero().flatten().tolist() == [5]
    assert pose_hardness(prior, pose[:0]).shape == (0,)
    assert decode_pose(prior, whole.mean[:0]).shape == (0, 23, 3)
    with pytest.raises(PosesynError, match="23, 3"):
        pose_hardness(prior, pose[:, :21])


def test_hardness_is_the_mean_over_codes_of_the_posterior() -> None:
    torch.manual_seed(0)
    prior = make_pose_prior(PosePriorConfig(width=40)).eval()
    pose = 0.4 * torch.randn(2, 23, 3)
    posterior = posterior_of(prior, pose)
    drawn = torch.stack([posterior.sample(torch.randn(2, 32)).square().sum(1) for _ in range(4000)]).mean(0)
    assert torch.allclose(drawn, pose_hardness(prior, pose), rtol=0.02)


def test_hands_are_the_callers() -> None:
    torch.manual_seed(0)
    prior = make_pose_prior(PosePriorConfig(width=16)).eval()
    hands = torch.full((2, 2, 3), 0.1)
    code = torch.randn(2, 32)
    assert torch.equal(decode_pose(prior, code, hands)[:, JOINTS:], hands)
    assert not decode_pose(prior, code)[:, JOINTS:].any()


# -- the prior that ships --------------------------------------------------------------------------------------------
def test_the_packaged_prior_knows_the_free_motion() -> None:
    prior, body, bank = load_pose_prior(), load_body(), load_motion_bank()
    pose = torch.from_numpy(bank.poses[::10].copy())
    again = decode_pose(prior, posterior_of(prior, pose).mean)

    def joints(pose: Tensor) -> Tensor:
        return body.joints(torch.zeros(len(pose), 10), pose, torch.zeros(len(pose), 3))[:, : JOINTS + 1]

    assert float((joints(again) - joints(pose)).norm(dim=-1).mean()) < 0.015
    angle = geodesic_degrees(rotvec_to_matrix(again[:, :JOINTS]), rotvec_to_matrix(pose[:, :JOINTS]))
    assert float(angle.mean()) < 5


def test_the_packaged_prior_tells_poses_from_noise() -> None:
    prior, bank = load_pose_prior(), load_motion_bank()
    pose = torch.from_numpy(bank.poses[::10].copy())
    odd = pose + 0.5 * torch.randn(pose.shape, generator=torch.Generator().manual_seed(0))
    easy, hard = pose_hardness(prior, pose), pose_hardness(prior, odd)
    assert float((hard[:, None] > easy).float().mean()) > 0.97
    assert float((easy > HARD).float().mean()) < 0.3 < 0.95 < float((hard > HARD).float().mean())


def test_decoded_random_codes_are_mostly_possible_poses() -> None:
    prior = load_pose_prior()
    code = torch.randn(200, 32, generator=torch.Generator().manual_seed(0))
    assert is_valid(decode_pose(prior, code).numpy()).mean() > 0.5
