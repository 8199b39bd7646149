"""Similarity Procrustes: its defining properties, and input that breaks naive implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from human.errors import PosesynError
from metrics.functional import mpjpe, pa_mpjpe, similarity_procrustes
from tests.metrics.reference import align_reference, pa_mpjpe_reference

B, J = 64, 9
seeds = st.integers(0, 2**32 - 1)


def rotations(n: int, g: torch.Generator) -> Tensor:
    q, r = torch.linalg.qr(torch.randn(n, 3, 3, dtype=torch.float64, generator=g))
    q = q * torch.diagonal(r, dim1=1, dim2=2).sign()[:, None]
    return q * torch.linalg.det(q)[:, None, None]


def sets(seed: int, flatness: float = 1.0) -> tuple[Tensor, Tensor, torch.Generator]:
    """Two unlike joint sets; ``flatness`` squeezes one axis of both and, squared, another."""
    g = torch.Generator().manual_seed(seed)
    squeeze = torch.tensor([1.0, flatness, flatness**2], dtype=torch.float64)
    source, target = (torch.randn(B, J, 3, dtype=torch.float64, generator=g) * squeeze for _ in range(2))
    return source, target, g


def loss(source: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """(B,) what Procrustes minimises."""
    square = (similarity_procrustes(source, target, weight).apply(source) - target).square().sum(-1)
    return (square if weight is None else square * weight).sum(-1)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, flatness=st.sampled_from([1.0, 0.3, 0.1, 1e-3, 1e-6]))
def test_against_one_svd_per_pose(seed: int, flatness: float) -> None:
    source, target, g = sets(seed, flatness)
    weight = torch.rand(B, J, dtype=torch.float64, generator=g)
    ours = similarity_procrustes(source, target, weight).apply(source).numpy()
    triples = zip(source.numpy(), target.numpy(), weight.numpy(), strict=True)
    theirs = np.stack([align_reference(*triple) for triple in triples])
    squares = [(weight.numpy()[..., None] * (x - target.numpy()) ** 2).sum((1, 2)) for x in (ours, theirs)]
    assert squares[0] == pytest.approx(squares[1], rel=1e-9)
    if flatness >= 0.1:  # else the best rotation itself is nearly ambiguous
        assert ours == pytest.approx(theirs, abs=1e-7)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, log_scale=st.floats(-3, 3), flatness=st.sampled_from([1.0, 0.1, 1e-4, 0.0]))
def test_a_similarity_is_undone(seed: int, log_scale: float, flatness: float) -> None:
    source, _, g = sets(seed, flatness)
    offset = 200 * torch.rand(B, 1, 3, dtype=torch.float64, generator=g) - 100
    rotation, scale = rotations(B, g), 10**log_scale
    target = scale * source @ rotation.mT + offset
    assert (pa_mpjpe(source, target) / scale).max() < 1e-3  # mm, for 1 m bodies 100 m away
    found = similarity_procrustes(source, target)
    assert torch.allclose(found.scale, torch.full_like(found.scale, scale), rtol=1e-9)
    if flatness > 0.01:
        assert torch.allclose(found.rotation, rotation, atol=1e-7)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, log_scale=st.floats(-3, 3), offset=st.floats(-10, 10))
def test_invariant_to_a_similarity_of_the_prediction(seed: int, log_scale: float, offset: float) -> None:
    source, target, g = sets(seed)
    moved = 10**log_scale * source @ rotations(B, g).mT + offset
    assert torch.allclose(pa_mpjpe(moved, target), pa_mpjpe(source, target), rtol=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, flatness=st.sampled_from([1.0, 0.1, 1e-5, 0.0]), mirrored=st.booleans())
def test_always_a_rotation_never_a_reflection(seed: int, flatness: float, mirrored: bool) -> None:
    source, target, _ = sets(seed, flatness)
    target = source * torch.tensor([-1, 1, 1]) if mirrored else target
    found = similarity_procrustes(source, target)
    eye = torch.eye(3, dtype=torch.float64).expand(B, 3, 3)
    assert torch.allclose(found.rotation @ found.rotation.mT, eye, atol=1e-9)
    assert torch.allclose(torch.linalg.det(found.rotation), torch.ones(B, dtype=torch.float64), atol=1e-9)
    assert (found.scale >= 0).all()


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_no_similarity_nearby_is_better(seed: int) -> None:
    source, target, g = sets(seed)
    weight = torch.rand(B, J, dtype=torch.float64, generator=g)
    best = loss(source, target, weight)
    found = similarity_procrustes(source, target, weight)
    for _ in range(5):
        angle = 1e-2 * torch.randn(B, 3, dtype=torch.float64, generator=g)
        skew = torch.linalg.cross(torch.eye(3, dtype=torch.float64).expand(B, 3, 3), angle[:, None].expand(B, 3, 3))
        turned = torch.linalg.matrix_exp(skew) @ found.rotation
        scale = found.scale * (1 + 1e-2 * torch.randn(B, dtype=torch.float64, generator=g))
        shift = found.translation + 1e-2 * torch.randn(B, 3, dtype=torch.float64, generator=g)
        near = scale[:, None, None] * source @ turned.mT + shift[:, None]
        assert (((near - target).square().sum(-1) * weight).sum(-1) >= best).all()


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_procrustes_beats_root_alignment(seed: int) -> None:
    """In what it minimises, the root mean square."""
    source, target, _ = sets(seed)
    target = source + 0.3 * target
    rooted = ((source - source[:, :1]) - (target - target[:, :1])).square().sum((1, 2))
    assert (loss(source, target) <= rooted).all()


def test_a_mirrored_body_is_not_matched() -> None:
    source, _, _ = sets(0)
    mirrored = source * torch.tensor([1, 1, -1])
    expected = [pa_mpjpe_reference(s, t, np.ones(J)) for s, t in zip(mirrored.numpy(), source.numpy(), strict=True)]
    assert pa_mpjpe(mirrored, source).numpy() == pytest.approx(np.array(expected), rel=1e-9)
    assert min(expected) > 50


LINE = torch.linspace(0, 1, J, dtype=torch.float64)[:, None] * torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
PLANE = torch.tensor([[x, y, 0.0] for x in range(3) for y in range(3)], dtype=torch.float64)
SOLID = torch.randn(J, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
CUBE = torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)] + [[0, 0, 0]], dtype=torch.float64)
POINT = torch.full((J, 3), 1.1, dtype=torch.float64)


@pytest.mark.parametrize(
    ("source", "target", "expected_mm"),
    [
        (LINE, 3 * LINE.flip(1) + 1, 0),
        (LINE, -LINE, 0),
        (PLANE, PLANE.flip(1), 0),
        (PLANE, PLANE * torch.tensor([-1, 1, 1]), 0),  # a flat set can be turned over
        (CUBE, -CUBE, None),  # mirrored, and every axis alike
        (SOLID, -SOLID, None),
        (1e-30 * SOLID, SOLID, 0),
        (SOLID, POINT, 0),
        (POINT, POINT + 3, 0),
        (0 * SOLID, POINT, 0),
        (POINT, SOLID, None),
        (LINE, SOLID, None),
        (SOLID, LINE, None),
    ],
)
def test_degenerate_sets(source: Tensor, target: Tensor, expected_mm: float | None) -> None:
    for dtype in (torch.float64, torch.float32):
        found = similarity_procrustes(source[None].to(dtype), target[None].to(dtype))
        assert all(x.isfinite().all() for x in (found.rotation, found.scale, found.translation))
        assert torch.linalg.det(found.rotation).item() == pytest.approx(1)
        error = pa_mpjpe(source[None].to(dtype), target[None].to(dtype)).item()
        spread = 1000 * (target - target.mean(0)).square().sum(-1).mean().sqrt().item()
        assert error <= spread + 1e-9, "worse than the best point"
        if expected_mm is not None:
            assert error == pytest.approx(expected_mm, abs=1e-6 if dtype == torch.float64 else 1e-2)


def test_a_source_of_one_point_is_shifted() -> None:
    found = similarity_procrustes(POINT[None], SOLID[None])
    assert found.scale.item() == 1
    assert torch.allclose(found.apply(POINT[None])[0], SOLID.mean(0).expand(J, 3))


def test_one_two_and_no_joints() -> None:
    source, target, _ = sets(3)
    weight = torch.zeros(B, J)
    nothing = similarity_procrustes(source, target, weight)
    assert torch.equal(nothing.apply(source), source)
    assert nothing.num_joints.eq(0).all()
    assert pa_mpjpe(source, target, weight).isnan().all()
    weight[:, 4] = 1
    assert pa_mpjpe(source, target, weight).max() < 1e-9
    weight[:, 6] = 0.5
    assert pa_mpjpe(source, target, weight).max() < 1e-9
    assert similarity_procrustes(source, target, weight).num_joints.eq(2).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_joints_that_are_not_finite_are_left_out_and_counted(value: float) -> None:
    source, target, _ = sets(4)
    without = similarity_procrustes(source[:, 2:], target[:, 2:])
    source[:, 0, 1] = value
    target[:, 1] = value
    found = similarity_procrustes(source, target)
    assert found.num_joints.eq(J - 2).all()
    assert torch.allclose(found.rotation, without.rotation)
    assert torch.allclose(found.translation, without.translation)


def test_absurdly_far_predictions() -> None:
    source, target, _ = sets(5)
    expected = pa_mpjpe(source, target)
    source[0] *= 1e37  # as large as float32 gets
    assert torch.allclose(pa_mpjpe(source, target), expected)
    source[0] *= 1e200  # squares overflow: no longer exact, but neither a crash nor anybody else's problem
    assert torch.equal(pa_mpjpe(source, target)[1:], expected[1:])
    assert mpjpe(source, target)[1:].isfinite().all()


def test_a_weight_counts_like_repeated_joints() -> None:
    source, target, _ = sets(6)
    weight = torch.ones(B, J)
    weight[:, 0] = 3
    index = [0, 0, *range(J)]
    assert torch.allclose(pa_mpjpe(source, target, weight), pa_mpjpe(source[:, index], target[:, index]), rtol=1e-9)


def test_batches_larger_than_a_chunk() -> None:
    g = torch.Generator().manual_seed(7)
    source, target = torch.randn(2, 5000, 5, 3, generator=g).unbind()
    whole = pa_mpjpe(source, target)
    assert whole.shape == (5000,)
    assert torch.allclose(whole[4090:4100], pa_mpjpe(source[4090:4100], target[4090:4100]), rtol=1e-9)


def test_threads_types_and_the_hard_poses_do_not_change_a_value() -> None:
    """The kernel's share of a batch, and what it hands on, is nobody's business."""
    g = torch.Generator().manual_seed(8)
    source, target = torch.randn(2, 4100, 6, 3, generator=g).unbind()
    source[5], target[7] = LINE[:6], PLANE[:6]
    source[9] = -target[9]
    target[11, 2], source[13, 3, 1] = torch.nan, torch.inf
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = pa_mpjpe(source, target)
        torch.set_num_threads(2)
        both = pa_mpjpe(source, target)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(both.nan_to_num(-1), one.nan_to_num(-1))
    assert one.isnan().nonzero()[:, 0].tolist() == [13]
    assert torch.allclose(one, pa_mpjpe(source, target, torch.ones(4100, 6)), rtol=1e-9, atol=1e-9, equal_nan=True)
    assert torch.equal(pa_mpjpe(source.double(), target).nan_to_num(-1), one.nan_to_num(-1))
    half = pa_mpjpe(source.bfloat16(), target.bfloat16())
    rounded = pa_mpjpe(source.bfloat16().double(), target.bfloat16().double())
    assert torch.equal(half.nan_to_num(-1), rounded.nan_to_num(-1))
    triples = [(source[i].double().numpy(), target[i].double().numpy(), np.ones(6)) for i in (0, 5, 7, 9, 4099)]
    assert one[[0, 5, 7, 9, 4099]].numpy() == pytest.approx([pa_mpjpe_reference(*t) for t in triples], rel=1e-9)


def test_user_errors() -> None:
    with pytest.raises(PosesynError, match=r"two \(B,J,3\) joint sets"):
        similarity_procrustes(torch.zeros(J, 3), torch.zeros(J, 3))
