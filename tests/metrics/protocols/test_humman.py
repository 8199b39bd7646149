"""HuMMan's protocol, from files on disk to figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.readers.humman import HummanReader
from metrics.protocols import humman as protocols
from metrics.truth import Truth
from tests.datasets import humman
from tests.datasets.people import People, make_people
from tests.metrics.protocols.round_trip import (
    Row,
    assert_mistake_shows,
    assert_perfect,
    bodies,
    figures,
    swapped,
)

pytestmark = pytest.mark.usefixtures("body_files")


@pytest.fixture(scope="module")
def people(body_files: Path) -> People:
    return make_people(genders=("neutral", "neutral"), frames=2, cameras=2, size=(160, 128))


@pytest.fixture(scope="module")
def truth(people: People, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    root = tmp_path_factory.mktemp("humman")
    humman.write(root, people)
    return HummanReader(root, "test", cameras=[0, 1], cache=root / "cache").truth()


def rows(truth: Truth) -> list[Row]:
    parts = [name.split("/") for name in truth.ids]
    return [(int(camera[-3:]), int(s[1:7]) - 455, int(frame) // 6) for _, s, camera, frame in parts]


def test_smpl24(people: People, truth: Truth) -> None:
    protocol, ids = protocols.SMPL, list(truth.ids)
    said = bodies(people, rows(truth), ids)
    assert_perfect(protocol, said, truth)
    moved = replace(said, transl=said.transl + np.array([0.0, 0.0, 0.5]))  # the root is taken away
    assert_perfect(protocol, moved, truth)
    joints = np.asarray(truth["native3d"][..., :3], np.float64)
    pose = said.pose.copy()
    pose[:, 20] += [0.0, 0.0, 0.4]  # one wrist bent: only the hand behind it moves
    bent = figures(protocol, replace(said, pose=pose), truth)
    assert 0 < bent["mpjpe"] < 1000 * np.linalg.norm(joints[:, 22] - joints[:, 20], axis=-1).max() * 0.4 / 24
    legs = replace(protocol, prediction=replace(protocol.prediction, names=swapped(protocol.prediction.names)))
    assert_mistake_shows(legs, said, truth, ("mpjpe", "pa_mpjpe"))
    assert_mistake_shows(replace(protocol, prediction_root=("left_knee",)), said, truth, ("mpjpe", "pve"))
    assert_mistake_shows(protocol, bodies(people, rows(truth), ids, world=True), truth, ("mpjpe", "pve"))
    assert_mistake_shows(protocol, bodies(people, rows(truth), ids, "smpl_female"), truth, ("mpjpe", "pve"))
