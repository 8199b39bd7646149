"""Conversion between bodies, through joints and through vertices."""

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roma
import scipy.sparse
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from human.body import BodyModel, load_body
from human.body_folders import VARIABLE
from human.convert_body import convert_body
from human.errors import PosesynError
from human.joint_limits import clamp_pose
from human.licensed import LicensedBody
from human.rotations import rotvec_to_matrix
from human.skeleton import LIMB_JOINTS, POSE32, SMPL24

LIMBS = POSE32.indices(*LIMB_JOINTS)


def natural(batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(2)
    pose = 0.3 * torch.randn(batch, 23, 3, generator=rng)
    pose[:, SMPL24.index("left_shoulder") - 1, 2] -= 0.6
    pose[:, SMPL24.index("right_shoulder") - 1, 2] += 0.6
    pose = clamp_pose(pose)
    pose[:, 21:] = 0
    draw = [torch.randn(batch, n, generator=rng) for n in (10, 3, 3)]
    return draw[0], pose, draw[1], draw[2]


def turned_by(pose: Tensor, other: Tensor) -> Tensor:
    return roma.rotmat_geodesic_distance(rotvec_to_matrix(pose), rotvec_to_matrix(other)) * 180 / math.pi


@pytest.mark.parametrize(
    ("source", "target"), [("free", "smpl"), ("smpl", "free"), ("smpl", "smplx"), ("smplx", "free")]
)
def test_conversion_through_joints(source: str, target: str, licensed: dict[str, LicensedBody]) -> None:
    """The bodies' rest joints differ by 8 mm (standard deviation, each axis, each joint), which no pose mends."""
    known: dict[str, BodyModel] = {"free": load_body("free"), **licensed}
    a, b, given = known[source], known[target], natural(16)
    found = convert_body(a, b, *given)
    assert found.valid.all()
    wanted, reached = a.joints(*given), found.joints(b)
    distance = (wanted - reached).norm(dim=-1)
    assert distance[:, LIMBS].mean() < 0.010
    assert distance[:, LIMBS].max() < 0.025
    assert turned_by(found.body_pose, given[1]).mean() < 9
    assert found.error.mean() < 0.012
    # better than copying the numbers, even with the pelvis put in place
    copied = b.joints(*given[:3])
    copied = copied - copied[:, :1] + wanted[:, :1]
    assert distance[:, LIMBS].mean() < 0.6 * (wanted - copied).norm(dim=-1)[:, LIMBS].mean()


def test_conversion_to_itself_changes_nothing_that_joints_show(licensed: dict[str, LicensedBody]) -> None:
    given = natural(4)
    found = convert_body(licensed["smplx"], licensed["smplx"], *given)
    distance = (found.joints(licensed["smplx"]) - licensed["smplx"].joints(*given)).norm(dim=-1)
    assert distance.mean() < 2e-3
    assert distance[:, LIMBS].max() < 3e-3
    assert turned_by(found.body_pose, given[1]).mean() < 1
    matrices = convert_body(
        licensed["smplx"], licensed["smplx"], given[0], rotvec_to_matrix(given[1]), rotvec_to_matrix(given[2]), given[3]
    )
    torch.testing.assert_close(matrices.joints(licensed["smplx"]), found.joints(licensed["smplx"]), atol=1e-3, rtol=0)


def test_conversion_on_one_mesh_is_by_vertices(licensed: dict[str, LicensedBody]) -> None:
    given = natural(2)
    smpl, smplh = licensed["smpl"], licensed["smplh"]
    found = convert_body(smpl, smplh, *given, via="vertices")
    error = (found_vertices(smplh, found) - smpl(*given).vertices).norm(dim=-1).mean(1)
    torch.testing.assert_close(found.error, error)
    through_joints = convert_body(smpl, smplh, *given)
    assert error.mean() < 0.5 * (found_vertices(smplh, through_joints) - smpl(*given).vertices).norm(dim=-1).mean()


def found_vertices(body: BodyModel, found: Any) -> Tensor:
    return body(found.betas, found.body_pose, found.global_orient, found.transl).vertices


def test_conversion_through_a_vertex_map(
    licensed: dict[str, LicensedBody], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """smplx2smpl_deftrafo_setup.pkl in the official form, here: the nearest vertex."""
    smpl, source = licensed["smpl"], licensed["smplx"]
    given = natural(2)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(PosesynError, match=r"no vertex map from smplx to smpl .*smplx2smpl_deftrafo_setup.pkl"):
        convert_body(source, smpl, *given, via="vertices")
    nearest = cKDTree(source.v_template.numpy()).query(smpl.v_template.numpy())[1]
    matrix = scipy.sparse.csr_matrix((np.ones(6890), (range(6890), nearest)), shape=(6890, 10475))
    both = scipy.sparse.hstack([matrix, matrix]).tocsc()
    path = tmp_path / "transfer" / "smplx2smpl_deftrafo_setup.pkl"
    path.parent.mkdir()
    path.write_bytes(pickle.dumps({"mtx": both}))
    found = convert_body(source, smpl, *given, via="vertices", jaw_pose=torch.zeros(2, 3))
    target = source(*given, jaw_pose=torch.zeros(2, 3)).vertices[:, nearest]
    distance = (found_vertices(smpl, found) - target).norm(dim=-1)
    torch.testing.assert_close(found.error, distance.mean(1))
    assert distance.mean() < 0.02
    with pytest.raises(PosesynError, match="maps 10475 vertices to 6890, but these bodies have 6890 and 10475"):
        convert_body(smpl, source, *given, via="vertices", vertex_map=path)


def test_what_cannot_be_converted(licensed: dict[str, LicensedBody]) -> None:
    free, smpl, given = load_body("free"), licensed["smpl"], natural(2)
    with pytest.raises(PosesynError, match="no vertex map from smpl to free"):
        convert_body(smpl, free, *given, via="vertices")
    given[1][1, 3, 0] = math.nan
    with pytest.raises(PosesynError, match="body_pose holds NaN"):
        convert_body(smpl, free, *given)
    with pytest.raises(PosesynError, match="source body has no jaw_pose"):
        convert_body(free, smpl, *natural(1), jaw_pose=torch.zeros(1, 3))
    assert len(convert_body(smpl, free, *natural(0))) == 0
