"""Planted faults and wrong heads in a few rendered pictures, by the embedded detector (docs/checks.md: the table)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import check_heads, checks
from human.skeleton import POSE32
from synth.checks.seen import label_boxes
from tests.need import need


@pytest.fixture(scope="module", autouse=True)
def _detector() -> None:
    need("mediapipe_pose")


def test_planted_faults_are_caught() -> None:
    rows = {row.name: row for row in checks.study("standing", 6, 0, 256, backgrounds="procedural")}
    good = rows.pop("good")
    assert 1 - good.removed >= 0.8
    faults = [row for name, row in rows.items() if "no fault" not in name]
    company = {"two people, both standing", "two people, the other in any pose"}
    assert {"mirrored", "sides swapped", "nobody", "empty", "shifted by 8%"} | company == {r.name for r in faults}
    removed = sum(int((~row.report.passed).sum()) for row in faults)
    assert removed >= 0.85 * sum(len(row.batch) for row in faults)
    for row in (good, *faults):
        assert sum(row.report.removed.values()) == int((~row.report.passed).sum())
    text = checks.table([good, *faults])
    assert text.count("\n") == len(faults) + 2
    assert "| empty | 6 | 100.0% | 6 |" in text


def test_wrong_heads_are_put_right() -> None:
    found = check_heads.study(8, 0, 256, 40.0, "procedural")
    rows = found["refined"]
    assert rows.mean() >= 0.75
    assert found["after"][rows].mean() < 0.5 * found["before"][rows].mean()
    assert np.array_equal(found["after"][~rows], found["before"][~rows])


def test_planting() -> None:
    """The labels that planted faults leave, and the truth of a mirrored picture."""
    batch = checks.render(checks.scenes("standing", 64, range(12)), 64, checks.ALONE, "procedural")
    moved = checks.shifted(batch).joints2d - batch.joints2d
    share = moved.norm(dim=-1) / torch.from_numpy(label_boxes(batch)[1])[:, None]
    torch.testing.assert_close(share, torch.full_like(share, 0.08), atol=1e-4, rtol=0)
    twice = checks.swapped(checks.swapped(batch))
    assert torch.equal(twice.joints2d, batch.joints2d)
    nose, wrist = POSE32.index("nose"), POSE32.index("left_wrist")
    assert torch.equal(checks.swapped(batch).joints2d[:, nose], batch.joints2d[:, nose])
    assert not torch.equal(checks.swapped(batch).joints2d[:, wrist], batch.joints2d[:, wrist])
    flipped, away = checks.mirrored(batch)
    assert torch.equal(flipped.image.flip(-1), batch.image)
    assert (away > 0).all()
