"""MPII: the labels are 100 %, errors are what they are, and the two code bases differ where they differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.readers.mpii import MpiiReader
from human.skeleton import MPII16
from metrics.protocols import PROTOCOLS, protocols_of
from metrics.truth import Predictions, Truth
from tests.datasets import mpii
from tests.datasets.people import make_people
from tests.metrics.protocols.flat import (
    check_missing_predictions_count_as_missing,
    check_mistakes_show,
    check_pck,
    perfect,
    values,
)


@pytest.fixture(scope="module", params=["json", "h5"])
def truth(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    root = tmp_path_factory.mktemp("mpii")
    mpii.write(root, make_people(("neutral", "neutral"), frames=3, kind="free"), request.param)
    return MpiiReader(root, "val", cache=root / "cache").truth()


@pytest.mark.parametrize("protocol", protocols_of("mpii"), ids=lambda p: p.name)
def test_round_trip(truth: Truth, protocol) -> None:  # type: ignore[no-untyped-def]
    check_pck(protocol, truth)
    check_mistakes_show(protocol, truth)
    check_missing_predictions_count_as_missing(protocol, truth)


def test_pelvis_and_thorax_are_not_in_the_mean(truth: Truth) -> None:
    same = perfect(truth)
    same.joints2d[:, MPII16.indices("pelvis", "thorax")] += 500
    assert values(PROTOCOLS.get("mpii/mmpose"), same, truth)["pck@0.5"] == 100


def test_a_body_estimator_is_measured_by_the_same_joints(truth: Truth) -> None:
    """Predictions in POSE32 have the 14 joints by name."""
    from human.skeleton import convert

    joints, _ = convert(truth["native2d"][..., :2], truth["native2d"][..., 2], "mpii16", "pose32")
    said = Predictions(truth.ids, skeleton="pose32", joints2d=joints)
    assert values(PROTOCOLS.get("mpii/hrnet"), said, truth)["pck@0.5"] == 100


def test_hrnets_mean_at_a_tenth_is_at_eleven_hundredths(truth: Truth) -> None:
    shifted = perfect(truth)
    shifted.joints2d[..., 0] += 0.105 * truth["head_size"][:, None]
    assert values(PROTOCOLS.get("mpii/hrnet"), shifted, truth) == {"pck@0.5": 100, "pck@0.11": 100}
    assert values(PROTOCOLS.get("mpii/mmpose"), shifted, truth) == {"pck@0.5": 100, "pck@0.1": 0}


def test_against_hrnets_formula(truth: Truth) -> None:
    """The arithmetic of lib/dataset/mpii.py (evaluate), written out, on predictions with errors of every size."""
    rng = np.random.default_rng(0)
    said = perfect(truth)
    said.joints2d[:] += rng.normal(0, 0.2, said.joints2d.shape) * truth["head_size"][:, None, None]
    visible = truth["native2d"][..., 2] > 0
    error = np.linalg.norm(said.joints2d - truth["native2d"][..., :2], axis=-1) / truth["head_size"][:, None]
    counted = np.array([j not in (6, 7) for j in range(16)])
    for metric, threshold in (("pck@0.5", 0.5), ("pck@0.11", 0.11)):
        per_joint = 100 * ((error <= threshold) & visible).sum(0) / visible.sum(0)
        ratio = visible.sum(0) * counted / visible.sum(0)[counted].sum()
        expected = float((per_joint * ratio).sum())
        assert 5 < expected < 99
        assert values(PROTOCOLS.get("mpii/hrnet"), said, truth)[metric] == pytest.approx(expected, abs=1e-9)


def test_real_validation_labels(shared_data: Path, tmp_path: Path) -> None:
    truth = MpiiReader(shared_data / "samples" / "mpii_val", "val", cache=tmp_path).truth()
    assert len(truth) == 2958
    check_pck(PROTOCOLS.get("mpii/mmpose"), truth)
