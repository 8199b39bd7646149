"""Our motion features beside those of HumanML3D's own code (scripts/msm_reference/motion_features.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from human.motion_features import (
    HUMANML3D,
    KIT,
    FeatureLayout,
    canonicalise,
    features_to_joints,
    joints_to_features,
    root_path,
    uniform_skeleton,
)

FILE = Path(__file__).parent / "reference" / "motion_features.npz"


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    with np.load(FILE) as arrays:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.mark.parametrize(("name", "layout"), [("walk", HUMANML3D), ("across", HUMANML3D), ("kit", KIT)])
def test_uniform_skeleton(reference: dict[str, Tensor], name: str, layout: FeatureLayout) -> None:
    ours = uniform_skeleton(reference[f"{name}_joints"][None], reference[f"{name}_lengths"], layout)
    assert (ours[0, :3] - reference[f"{name}_uniform"]).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "layout"), [("walk", HUMANML3D), ("kit", KIT)])
def test_features(reference: dict[str, Tensor], name: str, layout: FeatureLayout, dtype: torch.dtype) -> None:
    joints, lengths = (reference[f"{name}_{kind}"].to(dtype) for kind in ("joints", "lengths"))
    theirs = reference[f"{name}_features"]
    ours = joints_to_features(joints[None], layout, uniform=lengths)[0]
    assert (ours - theirs).abs().max() < 1e-4
    contacts = theirs[:, layout.slices["contacts"]]
    assert 0 < contacts.mean() < 1, "feet both in contact and not"
    assert torch.equal(ours[:, layout.slices["contacts"]].float(), contacts)


def test_only_the_step_over_180_degrees_differs_from_upstream_and_ours_is_right(reference: dict[str, Tensor]) -> None:
    """Upstream turns the other way there, so that its own way back ends up turned by twice that step."""
    joints, lengths = reference["across_joints"][None], reference["across_lengths"]
    theirs = reference["across_features"][None]
    ours = joints_to_features(joints, uniform=lengths)
    wrong = (ours - theirs).abs() > 1e-4
    (row,) = wrong.any(-1)[0].nonzero().flatten().tolist()
    assert wrong[0, row].nonzero().flatten().tolist() == [0]
    assert torch.allclose(ours[0, row, 0], -theirs[0, row, 0], atol=1e-5)
    facing, _ = root_path(ours)
    assert facing[0, row].abs() < torch.pi < facing[0, row + 1].abs()

    true = canonicalise(uniform_skeleton(joints, lengths)).joints
    assert (features_to_joints(ours, last=True) - true).abs().max() < 1e-4
    upstream = (features_to_joints(theirs, last=True) - true).norm(dim=-1)
    assert upstream[:, : row + 1].max() < 1e-4
    assert upstream[:, row + 1 :].max() > 0.05
