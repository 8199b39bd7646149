"""Rotations: round trips, and the inputs that made others' gradients NaN."""

from __future__ import annotations

import math

import pytest
import roma
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from human.rotations import (
    geodesic_degrees,
    matrix_to_rotvec,
    matrix_to_sixd,
    nearest_rotation,
    rotation_about,
    rotvec_to_matrix,
    sixd_to_matrix,
    swing_twist,
)

EYE = torch.eye(3, dtype=torch.float64)


def vectors(limit: float, length: int = 3) -> st.SearchStrategy[Tensor]:
    numbers = st.lists(st.floats(-limit, limit), min_size=length, max_size=length)
    return numbers.map(lambda v: torch.tensor(v, dtype=torch.float64))


@given(vectors(10))
def test_rotvec_and_matrix_agree_with_scipy_and_invert(rotvec: Tensor) -> None:
    matrix = rotvec_to_matrix(rotvec)
    expected = torch.from_numpy(Rotation.from_rotvec(rotvec.numpy()).as_matrix())
    torch.testing.assert_close(matrix, expected, atol=1e-9, rtol=0)
    back = matrix_to_rotvec(matrix)
    assert back.norm() <= math.pi + 1e-9
    torch.testing.assert_close(rotvec_to_matrix(back), matrix, atol=1e-6, rtol=0)


@given(vectors(10))
def test_sixd_round_trip(rotvec: Tensor) -> None:
    matrix = rotvec_to_matrix(rotvec)
    again = sixd_to_matrix(matrix_to_sixd(matrix))
    assert again.dtype == torch.float32
    torch.testing.assert_close(again.double(), matrix, atol=1e-6, rtol=0)


@given(vectors(10), st.floats(0.01, 100), st.floats(0.01, 100), st.floats(-5, 5))
def test_sixd_ignores_length_and_shear(rotvec: Tensor, a: float, b: float, shear: float) -> None:
    """Gram-Schmidt: scaled columns, or a second column that leans on the first, mean the same rotation."""
    matrix = rotvec_to_matrix(rotvec)
    columns = torch.stack([a * matrix[:, 0], b * (matrix[:, 1] + shear * matrix[:, 0])], -1)
    torch.testing.assert_close(sixd_to_matrix(columns.reshape(6)).double(), matrix, atol=1e-4, rtol=0)


DEGENERATE = {
    "zeros": [0.0] * 6,
    "second column 0": [1.0, 0, 2, 0, 3, 0],
    "first column 0": [0.0, 1, 0, 2, 0, 3],
    "parallel": [1.0, 2, 2, 4, 3, 6],
    "opposite": [1.0, -1, 2, -2, 3, -3],
    "parallel but for rounding": [1.0, 1.0000001, 2, 2, 3, 3],
    "tiny": [1e-20] * 6,
    "huge and parallel": [1e6, 1e6, -1e6, -1e6, 0, 0],
    "along an axis": [0.0, 0, 0, 0, 1, 1],
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_sixd_is_still_a_rotation_with_a_finite_gradient(name: str) -> None:
    sixd = torch.tensor(DEGENERATE[name], requires_grad=True)
    matrix = sixd_to_matrix(sixd)
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(3), atol=1e-5, rtol=0)
    assert torch.linalg.det(matrix).item() == pytest.approx(1, abs=1e-5)
    weights = torch.arange(9.0).reshape(3, 3)
    (gradient,) = torch.autograd.grad((matrix * weights).sum(), sixd)
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e3


@given(vectors(1e4, 6), st.floats(0, 1))
def test_sixd_never_gives_anything_but_a_rotation(sixd: Tensor, parallel: float) -> None:
    """``parallel`` brings the second column arbitrarily near the first."""
    first, second = sixd.reshape(3, 2).unbind(-1)
    sixd = torch.stack([first, parallel * first + (1 - parallel) * second], -1).reshape(6).float().requires_grad_()
    matrix = sixd_to_matrix(sixd)
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(3), atol=5e-3, rtol=0)
    assert torch.linalg.det(matrix).item() == pytest.approx(1, abs=5e-3)
    (gradient,) = torch.autograd.grad(matrix[0, 1] + matrix[1, 2], sixd)
    assert gradient.isfinite().all()


@given(vectors(math.pi), vectors(1))
def test_swing_times_twist_recomposes(rotvec: Tensor, axis: Tensor) -> None:
    if axis.norm() < 1e-3:
        axis = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    axis = axis / axis.norm()
    swing, twist = swing_twist(rotvec, axis)
    recomposed = rotvec_to_matrix(swing) @ rotvec_to_matrix(twist)
    torch.testing.assert_close(recomposed, rotvec_to_matrix(rotvec), atol=1e-6, rtol=0)
    assert torch.linalg.cross(twist, axis).norm() < 1e-6  # the twist is about the axis
    assert abs((swing * axis).sum()) < 1e-6  # the swing is not


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_swing_twist_where_the_twist_is_undefined(dtype: torch.dtype) -> None:
    half_turn = torch.tensor([[math.pi, 0, 0], [0, math.pi, 0], [0, 0, 0]], dtype=dtype)
    axis = torch.tensor([0.0, 0.0, 1.0], dtype=dtype)
    swing, twist = swing_twist(half_turn, axis)
    torch.testing.assert_close(twist.abs() % (2 * math.pi), torch.zeros(3, 3, dtype=dtype), atol=1e-5, rtol=0)
    expected = rotvec_to_matrix(half_turn)
    torch.testing.assert_close(rotvec_to_matrix(swing) @ rotvec_to_matrix(twist), expected, atol=1e-5, rtol=0)


@given(st.sampled_from("xyz"), st.floats(-3.1, 3.1))
def test_rotation_about_turns_right_handed(axis: str, angle: float) -> None:
    matrix = rotation_about(axis, torch.tensor([angle], dtype=torch.float64))
    expected = torch.from_numpy(Rotation.from_euler(axis, angle).as_matrix())
    torch.testing.assert_close(matrix, expected[None], atol=1e-9, rtol=0)
    assert geodesic_degrees(matrix, EYE[None]).item() == pytest.approx(math.degrees(abs(angle)), abs=1e-4)


def test_rotvec_gradient_at_zero_is_finite_and_right() -> None:
    rotvec = torch.zeros(3, requires_grad=True)
    (gradient,) = torch.autograd.grad(rotvec_to_matrix(rotvec)[1, 0], rotvec)
    torch.testing.assert_close(gradient, torch.tensor([0.0, 0.0, 1.0]))


@pytest.mark.parametrize("rank", [3, 2])
def test_the_nearest_rotation_is_procrustes(rank: int) -> None:
    rng = torch.Generator().manual_seed(rank)
    matrix = torch.randn(2000, 3, rank, generator=rng) @ torch.randn(2000, rank, 3, generator=rng)
    matrix[1000:] *= 1e-6  # its size does not matter
    expected = roma.special_procrustes(matrix.double(), method="svd").float()
    torch.testing.assert_close(nearest_rotation(matrix), expected, atol=1e-6, rtol=0)


def test_the_nearest_rotation_of_a_rotation_is_itself() -> None:
    rotation = roma.random_rotmat(500)
    torch.testing.assert_close(nearest_rotation(3 * rotation), rotation, atol=1e-6, rtol=0)


def test_the_nearest_rotation_where_several_are_as_near() -> None:
    """A rotation for every matrix, and a finite gradient."""
    line = torch.tensor([1.0, 2.0, 3.0]).outer(torch.tensor([0.5, 0.0, 1.0]))
    matrix = torch.stack([torch.zeros(3, 3), torch.ones(3, 3), -torch.eye(3), line]).requires_grad_()
    found = nearest_rotation(matrix)
    torch.testing.assert_close(found @ found.mT, torch.eye(3).expand(4, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(found), torch.ones(4), atol=1e-5, rtol=0)
    found.sum().backward()
    assert matrix.grad is not None
    assert matrix.grad.isfinite().all()


def test_the_gradient_of_the_nearest_rotation() -> None:
    matrix = torch.randn(4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    own, other = matrix.clone().requires_grad_(), matrix.clone().requires_grad_()
    weight = torch.arange(9.0).view(3, 3)
    (nearest_rotation(own) * weight).sum().backward()
    (roma.special_procrustes(other, method="svd") * weight).sum().backward()
    assert own.grad is not None
    torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-4)
