"""Ski-Pose PTZ's protocols, from files on disk to figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.readers.skipose import SkiPoseReader
from metrics.protocols import protocols_of, skipose
from metrics.truth import Truth
from tests.datasets import skipose as fixture
from tests.datasets.people import People, make_people
from tests.metrics.protocols.round_trip import assert_joint_protocol, assert_mesh_protocol

pytestmark = pytest.mark.usefixtures("body_files")


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(genders=("neutral", "neutral"), frames=2, cameras=2, size=(256, 256), moving_camera=True)


@pytest.fixture(scope="module")
def truth(people: People, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    root = tmp_path_factory.mktemp("skipose")
    fixture.write(root, people)
    return SkiPoseReader(root, "test", cache=root / "cache").truth()


def test_diffusion_hpc(people: People, truth: Truth) -> None:
    rows = [(c, p, f) for p, c, f in fixture.rows(people)]
    assert_mesh_protocol(skipose.DIFFUSION_HPC, people, truth, rows)
    assert len(skipose.DIFFUSION_HPC.truth.names) == 16


def test_adaptpose(truth: Truth) -> None:
    assert_joint_protocol(skipose.ADAPTPOSE, truth)
    assert len(protocols_of("skipose")) == 2
