"""RICH's protocols on a tiny RICH: zero for the truth, the known error for a known one, not zero for a mistake."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from datamodules.readers.rich import RichReader
from human.body_folders import VARIABLE
from human.errors import PosesynError
from metrics.evaluation import evaluate
from metrics.protocols import PROTOCOLS, Protocol, protocols_of
from metrics.truth import Truth
from tests.datasets import rich
from tests.datasets.people import People, make_people
from tests.licensed_files import body_arrays
from tests.metrics.protocols import bodies

NAMES = ["rich/bedlam", "rich/camerahmr", "rich/wham"]
PROTOCOL = pytest.mark.parametrize("protocol", [PROTOCOLS.get(name) for name in NAMES], ids=NAMES)


@pytest.fixture(scope="module")
def vertex_map(body_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A made-up smplx2smpl map in the official layout, beside the bodies: each vertex is a mean of three near ones."""
    source, target = body_arrays("smplx")["v_template"], body_arrays("smpl")["v_template"]
    near = cKDTree(source).query(target, 3)[1]
    rows = np.repeat(np.arange(len(target)), 3)
    matrix = scipy.sparse.csr_matrix((np.full(len(rows), 1 / 3), (rows, near.ravel())), (len(target), 2 * len(source)))
    folder = tmp_path_factory.mktemp("transfer")
    (folder / "smplx2smpl_deftrafo_setup.pkl").write_bytes(pickle.dumps({"mtx": matrix}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, os.pathsep.join([str(body_files), str(folder)]))
        yield folder


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(("male", "female"), frames=3, cameras=2, kind="smplx", seed=7)


@pytest.fixture(scope="module")
def root(people: People, vertex_map: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One sequence of both, and one of each alone."""
    root = tmp_path_factory.mktemp("rich")
    rich.write(root, people)
    for person in (0, 1):
        alone = make_people((people.genders[person],), frames=3, cameras=2, kind="smplx", seed=7)
        rich.write(root, alone, action=f"jump{person}")
    return root


@pytest.fixture(scope="module")
def truth(root: Path) -> Truth:
    return bodies.truth_of(RichReader(root, "test", cache=root / "cache"))


def kept(protocol: Protocol, truth: Truth) -> Truth:
    return truth.rows(np.flatnonzero(truth["subjects"] == 1)) if protocol.keep else truth


def test_all_are_here() -> None:
    assert [p.name for p in protocols_of("rich")] == NAMES
    assert len({p.hash for p in protocols_of("rich")}) == 3


@PROTOCOL
def test_the_truth_is_perfect(protocol: Protocol, truth: Truth) -> None:
    assert len(truth) == 2 * 3 * (2 + 1 + 1)
    for body, part in bodies.by_gender(kept(protocol, truth)):
        assert body.startswith("smplx_")
        bodies.assert_perfect(protocol, bodies.own(part, body), part)


def test_sequences_of_several_are_counted_by_those_who_do(truth: Truth) -> None:
    for name, persons in (("rich/bedlam", 24), ("rich/camerahmr", 24), ("rich/wham", 12)):
        protocol = PROTOCOLS.get(name)
        out = evaluate(protocol, bodies.joints_only(truth, protocol, "smpl"), truth).figures(resamples=2)
        assert out[0].count == persons
        assert out[0].value == pytest.approx(0, abs=1e-6)


@PROTOCOL
def test_joints_moved_by_30_mm(protocol: Protocol, truth: Truth) -> None:
    said = bodies.shifted(bodies.joints_only(truth, protocol, "smpl"), protocol.root)
    assert evaluate(protocol, said, truth).figures(resamples=2)[0].value == pytest.approx(30 * 22 / 24, abs=1e-6)


@PROTOCOL
def test_a_turned_body(protocol: Protocol, truth: Truth) -> None:
    for body, part in bodies.by_gender(kept(protocol, truth)):
        bodies.assert_turned(protocol, part, body, bodies.posed_truth(protocol))


@PROTOCOL
def test_mistakes_show(protocol: Protocol, truth: Truth, people: People) -> None:
    for body, part in bodies.by_gender(kept(protocol, truth)):
        said = bodies.own(part, body)
        neutral = bodies.figures(protocol, replace(said, body="smplx"), part)
        assert min(f.value for f in neutral.values()) > 1
        other = bodies.figures(replace(protocol, prediction_root=("pelvis",)), said, part)
        assert min(other["mpjpe"].value, other["pve"].value) > 1
        # The pose in the frame of camera 0, in which RICH stores it, instead of that of the picture's camera.
        rows = np.flatnonzero(part["group"] == 1)
        turned = part.rows(rows)
        in_scene = bodies.own(turned, body)
        back = np.linalg.inv(turned["camera"].astype(float))[:, :3, :3]
        assert in_scene.pose is not None
        in_scene.pose[:, 0] = (Rotation.from_matrix(back) * Rotation.from_rotvec(in_scene.pose[:, 0])).as_rotvec()
        out = bodies.figures(protocol, in_scene, turned)
        assert out["mpjpe"].value > 100
        assert out["pa_mpjpe"].value < 1e-4


def test_the_regressor_of_the_gender_and_the_neutral_one_differ(truth: Truth) -> None:
    mixed = replace(PROTOCOLS.get("rich/bedlam"), prediction=PROTOCOLS.get("rich/camerahmr").prediction)
    for body, part in bodies.by_gender(truth):
        assert bodies.figures(mixed, bodies.own(part, body), part)["mpjpe"].value > 0.05


def test_smpl_predictions_need_no_map_but_the_truth_does(
    truth: Truth, body_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(body_files))
    said = replace(bodies.own(truth, "smpl"))
    with pytest.raises(PosesynError, match="smplx2smpl_deftrafo_setup"):
        evaluate(PROTOCOLS.get("rich/bedlam"), said, truth)
