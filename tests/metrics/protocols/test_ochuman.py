"""OCHuman: average precision by COCO's evaluator, val and test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.readers.ochuman import OcHumanReader
from human.skeleton import COCO17
from metrics.evaluation import evaluate
from metrics.protocols import PROTOCOLS
from tests.datasets import ochuman
from tests.datasets.people import make_people
from tests.metrics.protocols.flat import perfect


@pytest.mark.parametrize(("split", "form"), [("val", "official"), ("val", "coco"), ("test", "mmpose")])
def test_round_trip(tmp_path: Path, split: str, form: str) -> None:
    ochuman.write(tmp_path, make_people(("neutral", "neutral"), frames=3, kind="free"), form, split)
    truth = OcHumanReader(tmp_path, split, cache=tmp_path / "cache").truth()
    protocol, same = PROTOCOLS.get(f"ochuman/ap-{split}"), perfect(truth)
    assert (truth.dataset, truth.split) == (protocol.dataset, protocol.split)
    figures = {f.metric: f for f in evaluate(protocol, same, truth).figures()}
    assert [figures[m].value for m in ("ap", "ap_50", "ap_75", "ar")] == [pytest.approx(100)] * 4
    assert (figures["ap"].count, figures["ap"].missing) == (6, 0)
    swapped = replace(same, joints2d=same.joints2d[:, list(COCO17.flip_permutation)])
    shifted = replace(same, joints2d=same.joints2d + 25)
    for mistake in (swapped, shifted):
        assert evaluate(protocol, mistake, truth).figures()[0].value < 60
    # One person of six unseen: of the 101 recalls those up to 5/6 are reached.
    unseen = evaluate(protocol, same.rows(np.arange(5)), truth).figures()[0]
    assert unseen.value == pytest.approx(100 * 84 / 101)
    assert unseen.missing == 1
