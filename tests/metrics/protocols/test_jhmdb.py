"""Sub-JHMDB as mmpose measures it: boxes of the file, torsos, joints averaged."""

from __future__ import annotations

import numpy as np
import pytest

from datamodules.readers.jhmdb import JhmdbReader
from human.skeleton import JHMDB15
from metrics.protocols import PROTOCOLS, protocols_of
from metrics.truth import Truth
from tests.datasets import jhmdb
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
    root = tmp_path_factory.mktemp("jhmdb")
    jhmdb.write(root, make_people(("neutral",), frames=4, cameras=3, kind="free"))
    splits = [f"sub{k}_test" for k in (1, 2, 3)]
    return {split: JhmdbReader(root, split, cache=root / "cache").truth() for split in splits}


@pytest.mark.parametrize("name", [p.name for p in protocols_of("jhmdb")])
def test_round_trip(truths: dict[str, Truth], name: str) -> None:
    protocol = PROTOCOLS.get(name)
    truth = truths[protocol.split]
    check_pck(protocol, truth)
    check_mistakes_show(protocol, truth)
    check_missing_predictions_count_as_missing(protocol, truth)


def test_nine_protocols_and_three_splits() -> None:
    assert len(protocols_of("jhmdb")) == 9


def test_units(truths: dict[str, Truth]) -> None:
    truth = truths["sub1_test"]
    box = truth["bbox_xyxy"]
    own = lengths(PROTOCOLS.get("jhmdb/mmpose-pck-sub1"), truth)
    np.testing.assert_allclose(own, (box[:, 2:] - box[:, :2]).max(1), rtol=1e-6)
    shoulder, hip = (truth["native2d"][:, k, :2] for k in (4, 5))  # left shoulder, right hip
    torso = lengths(PROTOCOLS.get("jhmdb/mmpose-tpck-sub1"), truth)
    np.testing.assert_allclose(torso, np.linalg.norm(shoulder - hip, axis=1), rtol=1e-6)


def test_against_mmposes_formula(truths: dict[str, Truth]) -> None:
    """keypoint_2d_metrics.py and keypoint_eval.py written out, a torso shorter than a pixel among them."""
    rng = np.random.default_rng(0)
    truth = truths["sub2_test"]
    truth = truth.rows(np.arange(len(truth)))
    truth.columns["native2d"][3, 5] = truth["native2d"][3, 4] + [0.5, 0.5, 0]
    said = perfect(truth)
    said.joints2d[:] += rng.normal(0, 20, said.joints2d.shape)
    target = np.asarray(truth["native2d"][..., :2], np.float64)
    error = np.linalg.norm(said.joints2d - target, axis=-1)
    box = np.asarray(truth["bbox_xyxy"], np.float64)
    side = (box[:, 2:] - box[:, :2]).max(1)
    torso = np.linalg.norm(target[:, 4] - target[:, 5], axis=1)
    predicted = np.linalg.norm(said.joints2d[:, 4] - said.joints2d[:, 5], axis=1)
    assert torso[3] < 1 < predicted[3]
    torso = np.where(torso < 1, predicted, torso)
    for kind, unit in (("pck", side), ("tpck", torso)):
        expected = 100 * (error / unit[:, None] < 0.2).mean(0).mean()
        assert 5 < expected < 99
        got = values(PROTOCOLS.get(f"jhmdb/mmpose-{kind}-sub2"), said, truth)["pck@0.2"]
        assert got == pytest.approx(float(expected), abs=1e-9)


def test_a_body_estimator_is_measured_on_limbs_only(truths: dict[str, Truth]) -> None:
    from human.skeleton import convert
    from metrics.evaluation import evaluate
    from metrics.truth import Predictions

    truth = truths["sub3_test"]
    joints, _ = convert(truth["native2d"][..., :2], truth["native2d"][..., 2], "jhmdb15", "pose32")
    said = Predictions(truth.ids, skeleton="pose32", joints2d=joints)
    assert values(PROTOCOLS.get("jhmdb/limbs-sub3"), said, truth) == {"pck@0.2": 100}
    whole = evaluate(PROTOCOLS.get("jhmdb/mmpose-pck-sub3"), said, truth)
    assert not whole.figures()
    assert all(joint in whole.notes[0] for joint in ("throat", "belly", "face"))
    assert set(JHMDB15.joints) - {"throat", "belly", "face"} == {
        f"{side}_{part}"
        for side in ("left", "right")
        for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    }
