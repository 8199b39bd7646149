"""CMU Panoptic's protocols, from files on disk to figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.readers.panoptic import ACTIVITIES, MULTIPERSON, PanopticReader
from metrics.evaluation import kept
from metrics.protocols import panoptic, protocols_of
from metrics.truth import Truth
from tests.datasets import panoptic as fixture
from tests.datasets.people import People, make_people
from tests.metrics.protocols.round_trip import Row, assert_joint_protocol, assert_mesh_protocol, figures, labels

pytestmark = pytest.mark.usefixtures("body_files")


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(genders=("neutral", "neutral"), frames=1, cameras=2, size=(192, 108))


@pytest.fixture(scope="module")
def truth(people: People, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    root = tmp_path_factory.mktemp("panoptic")
    fixture.write(root, people, MULTIPERSON)
    options = panoptic.MULTIPERSON.options
    return PanopticReader(root, "multiperson", cache=root / "cache", **options).truth()


def rows(truth: Truth) -> list[Row]:
    out = []
    for name in truth.ids:
        _, _, camera, frame, track = name.split("/")
        out.append(((16, 30).index(int(camera[3:])), int(track) - 3, int(frame) // 10 - 1))
    return out


@pytest.mark.parametrize("protocol", [panoptic.MULTIPERSON, *panoptic.ACTIVITY], ids=lambda p: p.name)
def test_round_trip_of_meshes(protocol: panoptic.Protocol, people: People, truth: Truth) -> None:
    assert_mesh_protocol(protocol, people, truth, rows(truth))


def test_joints(truth: Truth) -> None:
    assert_joint_protocol(panoptic.JOINTS, truth)
    said = labels(truth)
    junk = np.where(truth["native3d"][..., 3:] > 0, said.joints3d, 99.0)  # of unlabelled joints anything may be said
    assert (
        max(figures(panoptic.JOINTS, type(said)(said.ids, skeleton="panoptic19", joints3d=junk), truth).values()) < 5e-3
    )


def test_activities(truth: Truth) -> None:
    assert len(protocols_of("panoptic")) == 6
    for protocol in panoptic.ACTIVITY:
        groups = set(truth["group"][kept(protocol, truth)])
        assert [ACTIVITIES[g] for g in groups] == [protocol.name.rsplit("-", 1)[1]]
