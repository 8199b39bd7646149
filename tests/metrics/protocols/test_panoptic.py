"""CMU Panoptic's protocols, from files on disk to figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.readers.panoptic import ACTIVITIES, MULTIPERSON, PanopticReader
from human.errors import PosesynError
from metrics.evaluation import evaluate, kept
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


def test_without_ids_each_person_has_the_nearest_of_the_picture(truth: Truth) -> None:
    """The published matching: joints about the root; one prediction may be two persons'."""
    protocol = panoptic.JOINTS
    said = replace(labels(truth), pictures=list(truth.pictures))
    order = np.random.default_rng(0).permutation(len(truth))
    anonymous = replace(said.rows(order), ids=[f"found/{k}" for k in range(len(truth))])
    assert max(figures(protocol, anonymous, truth).values()) < 5e-3
    # By id nothing is looked for: everybody's prediction under another's name is wrong.
    partner = np.array([next(j for j, p in enumerate(truth.pictures) if p == q and j != i)
                        for i, q in enumerate(truth.pictures)])  # fmt: skip
    assert figures(protocol, replace(said.rows(partner), ids=list(truth.ids)), truth)["mpjpe"] > 20
    first = {picture: row for row, picture in reversed(list(enumerate(truth.pictures)))}
    alone = replace(said.rows(sorted(first.values())), ids=[f"one/{k}" for k in range(len(first))])
    out = evaluate(protocol, alone, truth)
    assert not out.missing.any()
    assert {f.metric: f.value for f in out.figures(2)}["mpjpe"] > 10
    elsewhere = replace(anonymous, pictures=["x.jpg"] * len(truth))
    assert evaluate(protocol, elsewhere, truth).missing.all()
    with pytest.raises(PosesynError, match="give the predictions the ids"):
        evaluate(protocol, replace(anonymous, pictures=[]), truth)
