"""Joints of bodies in motion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from human.body import BodyModel, load_body
from human.errors import PosesynError
from human.motion import load_motion_bank
from human.motion_features import HUMANML3D, bone_lengths, canonicalise, features_to_joints, heading, joints_to_features
from human.motion_joints import bank_to_joints, body_to_joints22


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("free")


@pytest.mark.parametrize("name", ["free", "smpl"])
def test_joints_are_those_of_the_body_model(name: str, body_files: Path) -> None:
    model = load_body(name)
    generator = torch.Generator().manual_seed(0)
    betas, pose, root, pelvis = (torch.randn(2, 3, *s, generator=generator) for s in ((10,), (23, 3), (3,), (3,)))
    ours = body_to_joints22(model, betas, pose, root, pelvis)
    full = model.joints(betas.flatten(0, 1), pose.flatten(0, 1), root.flatten(0, 1))[:, :22]
    assert torch.allclose(ours.flatten(0, 1), full - full[:, :1] + pelvis.reshape(-1, 1, 3), atol=1e-5)
    assert torch.allclose(body_to_joints22(model, betas, pose, root), ours - pelvis[:, :, None], atol=1e-5)
    one = body_to_joints22(model, betas[0, 0], pose, root, pelvis)
    assert torch.allclose(one[0, 0], ours[0, 0], atol=1e-6)


def test_every_free_clip_stands_on_the_floor_and_survives_the_features(body: BodyModel) -> None:
    bank = load_motion_bank("free")
    lengths = bone_lengths(bank_to_joints(bank, body, 0))[0]
    for number, name in enumerate(bank.clip_names):
        joints = bank_to_joints(bank, body, name)
        frames = bank.frames(name).stop - bank.frames(name).start
        assert abs(len(joints) / 20 - frames / bank.fps) < 0.06
        assert joints[..., 1].min().abs() < 1e-6
        assert torch.allclose(bone_lengths(joints), lengths.expand(len(joints), -1), atol=1e-5)
        assert torch.equal(joints, bank_to_joints(bank, body, number))
        there = canonicalise(joints[None]).joints
        back = features_to_joints(joints_to_features(joints[None]), last=True)
        assert (back - there).abs().max() < 1e-3


def test_resampling_keeps_the_frames_that_both_rates_have(body: BodyModel) -> None:
    bank = load_motion_bank("free")
    name = bank.clip_names[0]
    slow, fast = bank_to_joints(bank, body, name, 20), bank_to_joints(bank, body, name, bank.fps)
    shared = fast[::3][: len(slow[::2])]
    away = slow[::2][: len(shared)] - shared
    assert (away - away[0, 0] * torch.tensor([0.0, 1.0, 0.0])).abs().max() < 1e-4, "the lowest frame may be between"


def test_person_with_no_pelvis_turn_faces_z(body: BodyModel) -> None:
    joints = body_to_joints22(body, torch.zeros(10), torch.zeros(23, 3), torch.zeros(3))
    assert heading(joints).abs() < 0.02
    assert joints[HUMANML3D.across[1], 0] > 0.02, "the left is +x"


def test_mistakes_are_named(body: BodyModel) -> None:
    bank = load_motion_bank("free")
    with pytest.raises(PosesynError, match="no clip is called"):
        bank_to_joints(bank, body, "nothing")
    with pytest.raises(PosesynError, match="numbered from 0 to"):
        bank_to_joints(bank, body, len(bank.clip_names))
    with pytest.raises(PosesynError, match="single poses"):
        bank_to_joints(replace(bank, fps=0.0), body, 0)
    broken = replace(bank, poses=np.full_like(bank.poses, np.nan))
    with pytest.raises(PosesynError, match="not finite"):
        bank_to_joints(broken, body, 0)
    with pytest.raises(PosesynError, match="body_pose"):
        body_to_joints22(body, torch.zeros(10), torch.zeros(4, 21, 3), torch.zeros(4, 3))
