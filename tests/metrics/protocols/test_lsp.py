"""LSP and LSPET: the labels are 100 %; 4D-Humans counts what nobody labelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.readers.hr_lspet import HrLspetReader
from datamodules.readers.lsp import LspReader
from human.skeleton import LSP14
from metrics.protocols import PROTOCOLS
from metrics.truth import Truth
from tests.datasets import lsp
from tests.datasets.people import make_people
from tests.metrics.protocols.flat import (
    check_missing_predictions_count_as_missing,
    check_mistakes_show,
    check_pck,
    lengths,
    perfect,
    values,
)


@pytest.fixture(scope="module")
def truths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Truth]:
    people, root = make_people(("neutral",), frames=3, cameras=2, kind="free"), tmp_path_factory.mktemp("lsp")
    lsp.write_lsp(root / "lsp", people, first=1001)
    lsp.write_lspet(root / "lspet", people)
    return {
        "lsp/pck-torso": LspReader(root / "lsp", "test", cache=root / "cache").truth(),
        "lspet/hmr2": HrLspetReader(root / "lspet", "hmr2", cache=root / "cache").truth(),
    }


@pytest.mark.parametrize("name", ["lsp/pck-torso", "lspet/hmr2"])
def test_round_trip(truths: dict[str, Truth], name: str) -> None:
    protocol, truth = PROTOCOLS.get(name), truths[name]
    assert (truth.dataset, truth.split) == (protocol.dataset, protocol.split)
    check_pck(protocol, truth)
    check_mistakes_show(protocol, truth)
    check_missing_predictions_count_as_missing(protocol, truth)


def test_torso(truths: dict[str, Truth]) -> None:
    truth = truths["lsp/pck-torso"]
    shoulder, hip = LSP14.indices("left_shoulder", "right_hip")
    ends = truth["native2d"][:, [shoulder, hip], :2]
    torso = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=-1)
    np.testing.assert_allclose(lengths(PROTOCOLS.get("lsp/pck-torso"), truth), torso, rtol=1e-6)


def test_junk_joints_count_and_widen_the_box(truths: dict[str, Truth]) -> None:
    """A prediction at the athlete's joints, where two of 84 labels are junk, cannot reach 100 under HMR2's protocol."""
    protocol, truth = PROTOCOLS.get("lspet/hmr2"), truths["lspet/hmr2"]
    points = truth["native2d"][0, :, :2]
    assert lengths(protocol, truth)[0] == pytest.approx(1.2 * (points.max(0) - points.min(0)).max(), rel=1e-6)
    said = perfect(truth)
    for row, joint in lsp.HIDDEN:
        said.joints2d[row, joint] += 1000
    joints = {joint for _, joint in lsp.HIDDEN}
    expected = 100 * (1 - len(joints) / (6 * 14))  # two joints of 14, each wrong in one picture of 6
    for value in values(protocol, said, truth).values():
        assert value == pytest.approx(expected)


def test_against_4d_humans_formula(truths: dict[str, Truth]) -> None:
    """hmr2/utils/pose_utils.py and pck_accuracy.py written out: errors in units of the 1.2 box, joints averaged."""
    protocol, truth = PROTOCOLS.get("lspet/hmr2"), truths["lspet/hmr2"]
    said = perfect(truth)
    said.joints2d[:] += np.random.default_rng(0).normal(0, 8, said.joints2d.shape)
    target = truth["native2d"][..., :2]
    box = 1.2 * (target.max(1) - target.min(1)).max(1)
    error = np.linalg.norm(said.joints2d - target, axis=-1) / box[:, None]
    for threshold in (0.05, 0.1):
        expected = 100 * (error < threshold).mean(0).mean()
        assert values(protocol, said, truth)[f"pck@{threshold}"] == pytest.approx(float(expected), abs=1e-9)


def test_real_lspet(shared_data: Path, tmp_path: Path) -> None:
    truth = HrLspetReader(shared_data / "lspet", "hmr2", cache=tmp_path).truth()
    protocol = PROTOCOLS.get("lspet/hmr2")
    assert values(protocol, perfect(truth), truth) == {"pck@0.05": pytest.approx(100), "pck@0.1": pytest.approx(100)}
