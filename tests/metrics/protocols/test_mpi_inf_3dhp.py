"""MPI-INF-3DHP's protocols, from files on disk to figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.readers.mpi_inf_3dhp import MpiInf3dhpReader
from metrics.evaluation import kept
from metrics.protocols import Protocol, protocols_of
from metrics.protocols import mpi_inf_3dhp as protocols
from metrics.truth import Truth
from tests.datasets import mpi_inf_3dhp as fixture
from tests.datasets.people import People, make_people
from tests.metrics.protocols.round_trip import (
    Row,
    assert_joint_protocol,
    assert_mesh_protocol,
    assert_mistake_shows,
    assert_perfect,
    figures,
    labels,
)

pytestmark = pytest.mark.usefixtures("body_files")
EVERY = protocols_of("mpi_inf_3dhp")


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(genders=("neutral", "neutral"), frames=2, size=(160, 128))


@pytest.fixture(scope="module")
def truth(people: People, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    root = tmp_path_factory.mktemp("mpi_inf_3dhp")
    fixture.write_test(root, people)
    return MpiInf3dhpReader(root, "test", cache=root / "cache").truth()


def rows(truth: Truth) -> list[Row]:
    parts = [name.split("/") for name in truth.ids]
    return [(0, (int(number[2:]) - 1) % 2, int(frame) - 1) for _, number, frame in parts]


@pytest.mark.parametrize("protocol", [p for p in EVERY if p.prediction.source == "labels"], ids=lambda p: p.name)
def test_round_trip_of_joints(protocol: Protocol, truth: Truth) -> None:
    assert_joint_protocol(protocol, truth)
    # The labels as large as life are not what is evaluated, unless the size is taken away.
    if any(m.startswith("pa_pck3d") for m in protocol.metrics):
        assert_perfect(protocol, labels(truth, "native3d"), truth)
    else:
        assert_mistake_shows(protocol, labels(truth, "native3d"), truth, ("mpjpe", "auc3d"))


@pytest.mark.parametrize("protocol", [p for p in EVERY if p.prediction.source == "h36m"], ids=lambda p: p.name)
def test_round_trip_of_meshes(protocol: Protocol, people: People, truth: Truth) -> None:
    """The fixture's universal skeleton is larger than the person; for a mesh that fits, the labels as large as life."""
    alike = replace(protocol, settings={})
    assert_mesh_protocol(alike, people, truth, rows(truth))


def test_scenes(truth: Truth) -> None:
    for protocol, sets in zip(protocols.SCENE, ((1, 2), (3, 4), (5, 6)), strict=True):
        assert set(truth["sequence"][kept(protocol, truth)]) == set(sets)


def test_spin_counts_only_people_inside_of_the_picture(truth: Truth) -> None:
    flat = np.array(truth["native2d"])
    flat[3, 5, 2] = 0
    cut = Truth(**{**vars(truth), "columns": {**truth.columns, "native2d": flat}})
    assert list(np.flatnonzero(~kept(protocols.SPIN, cut))) == [3]


def test_a_person_scaled_is_right_after_procrustes_only(truth: Truth) -> None:
    found = figures(protocols.OFFICIAL_17, labels(truth, "native3d"), truth)
    assert found["pa_mpjpe"] < 5e-3
    # From the pelvis every joint is 10 % too near.
    at = np.asarray(truth["universal3d"][..., :3], np.float64)
    at -= at[:, 14:15]
    shrunk = 1000 * np.linalg.norm(at * (1 - 1 / fixture.UNIVERSAL), axis=-1).mean()
    assert found["mpjpe"] == pytest.approx(shrunk, abs=5e-3)
