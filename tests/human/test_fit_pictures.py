"""Fits to vertices and to pictures: back to the bodies that gave them; wrong and missing keypoints; any batch."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from human.body import BodyModel, load_body
from human.camera import make_intrinsics, project
from human.fit import WEIGHTS_2D, FitResult, fit_joints2d, fit_joints3d, fit_vertices
from human.rotations import rotation_about
from metrics.functional import pa_mpjpe

# --- vertices -------------------------------------------------------------------------------------------------------


def test_vertices_round_trip(body: BodyModel, people: dict[str, Tensor]) -> None:
    some = {name: value[:16] for name, value in people.items()}
    verts = body(**some).vertices
    result = fit_vertices(body, verts)
    assert result.error.max() < 0.001
    assert (result.betas - some["betas"]).abs().max() < 0.05
    assert (result.body_pose - some["body_pose"]).abs().max() < 0.02
    rng = torch.Generator().manual_seed(0)
    noisy = fit_vertices(body, verts + 0.005 * torch.randn(verts.shape, generator=rng))
    found = body(noisy.betas, noisy.body_pose, noisy.global_orient, noisy.transl).vertices
    assert (found - verts).norm(dim=-1).mean() < 0.003


# --- pictures -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(body: BodyModel, people: dict[str, Tensor]) -> dict[str, Tensor]:
    """The people 4 to 6 m before a camera: camera-frame joints and vertices' regressed joints, intrinsics."""
    rng = torch.Generator().manual_seed(5)
    upside = rotation_about("x", math.pi + 0.26 * torch.randn(48, generator=rng))
    place = torch.tensor([0.3, 0.3, 0.6]) * torch.randn(48, 3, generator=rng) + torch.tensor([0.0, 0.0, 5.0])
    out = body(0.7 * people["betas"], people["body_pose"], upside @ people["global_orient"], place)
    return {
        "joints": out.joints,
        "lsp14": body.regress(out.vertices, "lsp14"),
        "camera": make_intrinsics(torch.full((48,), 500.0), 256),
    }


@pytest.mark.parametrize("skeleton", ["pose32", "lsp14"])
def test_pictures(body: BodyModel, pictures: dict[str, Tensor], skeleton: str) -> None:
    seen = project(pictures["joints"] if skeleton == "pose32" else pictures[skeleton], pictures["camera"])
    result = fit_joints2d(body, seen, None, pictures["camera"], skeleton=skeleton)
    assert result.error.mean() < 2
    assert result.error.max() < 4
    if skeleton == "pose32":
        found = project(result.joints(body), pictures["camera"])
        torch.testing.assert_close(result.error, (found - seen).norm(dim=-1).mean(1), atol=0.01, rtol=0)
    error = pa_mpjpe(result.joints(body)[:, :24], pictures["joints"][:, :24])
    still = pa_mpjpe(body.joints(torch.zeros(48, 10), torch.zeros(48, 23, 3), torch.zeros(48, 3))[:, :24],
                     pictures["joints"][:, :24])  # fmt: skip
    assert error.mean() < 60
    assert error.mean() < 0.35 * still.mean()
    depth = (result.transl[:, 2] - (pictures["joints"][:, 0, 2])).abs()
    assert depth.median() < 0.4


def test_pictures_with_wrong_and_missing_keypoints(body: BodyModel, pictures: dict[str, Tensor]) -> None:
    truth = project(pictures["lsp14"], pictures["camera"])
    seen, conf = truth.clone(), torch.ones(48, 14)
    seen[:, 6] += 60  # a wrist, half a metre off
    conf[:, :2] = 0
    seen[:, :2] = torch.nan
    kept = [j for j in range(2, 14) if j != 6]
    robust = fit_joints2d(body, seen, conf, pictures["camera"], skeleton="lsp14")
    plain = fit_joints2d(
        body, seen, conf, pictures["camera"], skeleton="lsp14", weights=replace(WEIGHTS_2D, outlier=None)
    )

    def error(result: FitResult) -> Tensor:
        out = body(result.betas, result.body_pose, result.global_orient, result.transl)
        found = project(body.regress(out.vertices, "lsp14"), pictures["camera"])
        return (found - truth).norm(dim=-1)[:, kept].mean()

    assert error(robust) < 3
    assert error(robust) < error(plain)


def test_pictures_from_a_given_start_and_one_shape(body: BodyModel, pictures: dict[str, Tensor]) -> None:
    seen = project(pictures["joints"][:12], pictures["camera"][:12])
    first = fit_joints3d(body, pictures["joints"][:12])
    free, near = (
        fit_joints2d(body, seen, None, pictures["camera"][:12], init=first, weights=replace(WEIGHTS_2D, tether=tether))
        for tether in (0.0, 0.3)
    )
    free_error, near_error = (
        pa_mpjpe(r.joints(body)[:, :24], pictures["joints"][:12, :24]).mean() for r in (free, near)
    )
    assert near_error < 10
    assert near_error < free_error
    group = torch.zeros(12, dtype=torch.long)
    shared = fit_joints2d(body, seen, None, pictures["camera"][:12], group_B=group, on_bad="raise")
    assert shared.betas.std(0).max() < 1e-6
    assert shared.error.mean() < 4


def test_pictures_in_any_batch(body: BodyModel, pictures: dict[str, Tensor]) -> None:
    seen = project(pictures["joints"], pictures["camera"])[:6]
    together = fit_joints2d(body, seen, None, pictures["camera"][:6])
    alone = FitResult.cat([fit_joints2d(body, seen[i : i + 1], None, pictures["camera"][:1]) for i in range(6)])
    assert (together.error - alone.error).abs().max() < 0.05
    assert (together.joints(body) - alone.joints(body)).abs().max() < 0.02


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu(body: BodyModel, joints: Tensor, pictures: dict[str, Tensor]) -> None:
    there = load_body("free").cuda()
    result = fit_joints3d(there, joints.cuda()).to("cpu")
    assert (result.joints(body) - fit_joints3d(body, joints).joints(body)).abs().max() < 1e-3
    seen = project(pictures["joints"], pictures["camera"])
    flat = fit_joints2d(there, seen.cuda(), None, pictures["camera"].cuda()).to("cpu")
    assert abs(flat.error.mean() - fit_joints2d(body, seen, None, pictures["camera"]).error.mean()) < 0.1
