"""Regressors of published evaluations: the user's files on SMPL's mesh, the free body's own joints in their place."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from human.body import BodyModel, load_body
from human.body_folders import VARIABLE
from human.errors import PosesynError
from human.licensed import LicensedBody
from human.regressors import (
    FILES,
    H36M_TO_J17,
    J19_TO_J14,
    NAMES,
    SMPL_VERTICES,
    find_regressor,
    is_published,
    joint_names,
    load_regressor,
    regress,
)
from human.skeleton import H36M17, LSP14, SMPL24


def rows(joints: int, seed: int = 0) -> np.ndarray:
    """Few vertices a joint, weights that sum to 1."""
    rng = np.random.default_rng([seed, joints])
    out = np.zeros((joints, SMPL_VERTICES))
    for row in out:
        row[rng.choice(SMPL_VERTICES, 20, replace=False)] = rng.dirichlet(np.ones(20))
    return out


def write(path: Path, content: np.ndarray) -> None:
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content, 2))
    else:
        np.save(path, content)


@pytest.fixture
def folder(no_licensed_files: Path) -> Path:
    """The only search folder, as SPIN's fetch_data.sh leaves it."""
    (no_licensed_files / "data").mkdir()
    for file in FILES.values():
        write(no_licensed_files / "data" / file.file, rows(len(file.joints)))
    return no_licensed_files


def vertices_of(body: BodyModel, batch: int = 3) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    pose = 0.3 * torch.randn(batch, 23, 3, generator=rng)
    return body(torch.randn(batch, 10, generator=rng), pose, torch.randn(batch, 3, generator=rng)).vertices


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["smpl", "smplh"])
def test_the_files_rows_on_smpls_mesh(folder: Path, licensed: dict[str, LicensedBody], kind: str, name: str) -> None:
    vertices = vertices_of(licensed[kind])
    joints = regress(vertices, name, licensed[kind])
    matrix = rows(len(FILES[name].joints) if name in FILES else 17)
    if name not in FILES:
        matrix = matrix[list(H36M_TO_J17)][: int(name[1:])]
    np.testing.assert_allclose(joints, matrix @ vertices.double().numpy(), atol=1e-5)
    assert is_published(licensed[kind])
    assert joints.shape[1] == len(joint_names(name)) == len(set(joint_names(name)))


def test_the_order_is_spins() -> None:
    """H36M_TO_J17 on the rows gives SPIN's order, which for the limbs is LSP's (nkolot/SPIN:constants.py)."""
    assert joint_names("j14")[:12] == LSP14.joints[:12]
    assert joint_names("j14")[12:] == ("thorax", "head_top")
    assert joint_names("j17")[14:] == ("pelvis", "spine_h36m", "nose")
    # Left leg first: the data set's own order with the legs exchanged, and with the arms as they are.
    assert [joint_names("h36m").index(j) for j in H36M17.joints] == [0, 4, 5, 6, 1, 2, 3, *range(7, 17)]


@pytest.mark.parametrize("name", NAMES)
def test_the_free_body_has_stand_ins(folder: Path, name: str) -> None:
    body = load_body("free")
    output = body(torch.zeros(1, 10), torch.zeros(1, 23, 3), torch.zeros(1, 3))
    joints = dict(zip(joint_names(name), regress(output.vertices, name, body)[0], strict=True))
    assert not is_published(body)
    for joint, place in joints.items():
        if joint in SMPL24.joints and joint != "pelvis":
            near = output.joints[0, SMPL24.index(joint)]
            assert (place - near).norm() < 0.05, joint
        if joint.startswith("left_"):
            assert place[0] > 0.02
    heights = [joints[j][1] for j in ("pelvis", "spine_h36m", "thorax", "head_top") if j in joints]
    assert heights == sorted(heights)
    assert len(heights) >= 2


def test_no_file(folder: Path, licensed: dict[str, LicensedBody]) -> None:
    (folder / "data/J_regressor_h36m.npy").unlink()
    assert find_regressor("h36m") is None
    with pytest.raises(PosesynError, match=rf"J_regressor_h36m.npy.*{folder}.*fetch_data.sh.*{VARIABLE}"):
        regress(vertices_of(licensed["smpl"]), "j14", licensed["smpl"])
    assert find_regressor("extra") == folder / "data/J_regressor_extra.npy"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (rows(9), r"must hold \(17, 6890\) numbers, found \(9, 6890\)"),
        (rows(17).T, r"found \(6890, 17\)"),
        (rows(17) * np.nan, "NaN"),
        (np.array([{"a": 1}], object), "cannot be read"),
        (np.full((17, SMPL_VERTICES), "x"), "numbers"),
    ],
)
def test_files_that_are_something_else(
    folder: Path, licensed: dict[str, LicensedBody], content: np.ndarray, says: str
) -> None:
    np.save(folder / "data/J_regressor_h36m.npy", content, allow_pickle=True)
    with pytest.raises(PosesynError, match=says):
        load_regressor("h36m", licensed["smpl"])


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\x93NUMPY\x01\x00"])
def test_files_that_are_broken(folder: Path, licensed: dict[str, LicensedBody], content: bytes) -> None:
    (folder / "data/J_regressor_h36m.npy").write_bytes(content)
    with pytest.raises(PosesynError, match="cannot be read as a joint regressor"):
        load_regressor("h36m", licensed["smpl"])


def test_another_mesh(folder: Path, licensed: dict[str, LicensedBody]) -> None:
    with pytest.raises(PosesynError, match="smplx body has 10475 vertices: convert to SMPL"):
        regress(vertices_of(licensed["smplx"]), "j14", licensed["smplx"])
    free = load_body("free")
    with pytest.raises(PosesynError, match="convert to SMPL"):
        load_regressor("h36m", free)
    with pytest.raises(PosesynError, match=r"shape \(B, 6890, 3\).*body that is given"):
        regress(vertices_of(free), "j14", licensed["smpl"])
    with pytest.raises(PosesynError, match="known: h36m, extra, j19, j17, j14"):
        regress(vertices_of(free), "j15", free)
    with pytest.raises(PosesynError, match="known: h36m, extra, j19"):
        find_regressor("j14")


def test_the_joints_of_4d_humans(folder: Path, licensed: dict[str, LicensedBody]) -> None:
    """19 rows in the order of SPIN's 24 joints of data sets; the 14 that 4D-Humans evaluates, and its root."""
    names = joint_names("j19")
    assert names[:14] == LSP14.joints
    assert names[14:] == ("pelvis", "thorax", "spine_h36m", "jaw_h36m", "head_h36m")
    assert [25 + k for k in J19_TO_J14] == [*range(25, 38), 43]
    assert 25 + names.index("pelvis") == 39

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(folder / "executed"),)

    file = folder / "data/SMPL_to_J19.pkl"
    for content, says in (
        (pickle.dumps(Hostile()), "wants to run"),
        (pickle.dumps({"a": 1}), r"must hold \(19, 6890\) numbers"),
        (pickle.dumps(rows(17)), r"must hold \(19, 6890\) numbers, found \(17, 6890\)"),
        (file.read_bytes()[:500], r"SMPL_to_J19\.pkl"),
        (b"", r"SMPL_to_J19\.pkl"),
    ):
        file.write_bytes(content)
        with pytest.raises(PosesynError, match=says):
            regress(vertices_of(licensed["smpl"]), "j19", licensed["smpl"])
    assert not (folder / "executed").exists()
    file.unlink()
    with pytest.raises(PosesynError, match=r"SMPL_to_J19\.pkl.*4D-Humans"):
        regress(vertices_of(licensed["smpl"]), "j19", licensed["smpl"])


def test_a_file_that_is_replaced_is_read_again(folder: Path, licensed: dict[str, LicensedBody]) -> None:
    before = load_regressor("h36m", licensed["smpl"])
    before.zero_()  # the caller's copy
    assert load_regressor("h36m", licensed["smpl"]).sum() > 16
    np.save(folder / "data/J_regressor_h36m.npy", rows(17, seed=1))
    np.testing.assert_allclose(load_regressor("h36m", licensed["smpl"]), rows(17, seed=1), rtol=1e-6)
