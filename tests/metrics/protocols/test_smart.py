"""SMART under Diffusion-HPC's protocol: visible joints, a tenth of its crop, pictures averaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.readers.smart import SPORTS, SmartReader
from human.skeleton import BODY25
from metrics.protocols import PROTOCOLS, protocols_of
from metrics.truth import Truth
from tests.datasets import smart
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
    root = tmp_path_factory.mktemp("smart")
    smart.write(root, make_people(("neutral",), frames=6, cameras=2, kind="free"))
    return {sport: SmartReader(root, f"{sport}_test", cache=root / "cache").truth() for sport in SPORTS}


@pytest.mark.parametrize("sport", SPORTS)
def test_round_trip(truths: dict[str, Truth], sport: str) -> None:
    protocol, truth = PROTOCOLS.get(f"smart/diffusion-hpc-{sport}"), truths[sport]
    assert (truth.dataset, truth.split) == (protocol.dataset, protocol.split)
    check_pck(protocol, truth)
    check_mistakes_show(protocol, truth)
    check_missing_predictions_count_as_missing(protocol, truth)


def test_every_sport_has_its_figure() -> None:
    assert len(protocols_of("smart")) == len(SPORTS)
    assert all(p.published[0].value > 40 for p in protocols_of("smart"))


def test_against_diffusion_hpcs_formula(truths: dict[str, Truth]) -> None:
    """eval_diffusion.py written out: labels and predictions in a crop of 224 px, visible joints nearer than 22.4 px,
    a share for each picture, the mean of these."""
    rng = np.random.default_rng(0)
    for sport in ("polevault", "vault", "diving"):
        protocol, truth = PROTOCOLS.get(f"smart/diffusion-hpc-{sport}"), truths[sport]
        said = perfect(truth)
        said.joints2d[:] += rng.normal(0, 15, said.joints2d.shape)
        # Their 24 joints of 25: limbs, nose, eyes and ears; neck, middle hip and feet are in none.
        part = [11, 10, 9, 12, 13, 14, 4, 3, 2, 5, 6, 7, 0, 16, 15, 18, 17]
        state = truth["state"].copy()
        seen = state != 2 if sport == "diving" else (state == 0) & (np.arange(25) < 15)
        pck = []
        for i in range(len(truth)):
            cx, cy, side = truth["crop"][i]
            to_crop = (np.asarray([said.joints2d[i], truth["native2d"][i, :, :2]]) - [cx, cy]) * 224 / side + 112
            error = np.linalg.norm(to_crop[0] - to_crop[1], axis=-1)[part][seen[i, part]]
            pck.append((error < 224 / 10).sum() / len(error))
        expected = 100 * float(np.mean(pck))
        assert 10 < expected < 98
        assert values(protocol, said, truth)["pck@0.1"] == pytest.approx(expected, abs=1e-9)


def test_occluded_joints_do_not_count_but_in_diving(truths: dict[str, Truth]) -> None:
    for sport in SPORTS:
        protocol, truth = PROTOCOLS.get(f"smart/diffusion-hpc-{sport}"), truths[sport]
        said = perfect(truth)
        said.joints2d[truth["state"] == 1] += 500
        said.joints2d[:, BODY25.indices("mid_shoulders", "mid_hip", "left_heel")] += 500
        value = values(protocol, said, truth)["pck@0.1"]
        assert value == 100  # diving's occluded frame is the second of each clip, which it does not take
        if sport != "diving":
            assert (truth["state"] == 1).any()


def test_the_unit_is_the_square(truths: dict[str, Truth]) -> None:
    truth = truths["vault"]
    np.testing.assert_allclose(
        lengths(PROTOCOLS.get("smart/diffusion-hpc-vault"), truth), truth["crop"][:, 2], rtol=1e-6
    )


def test_real_tables(shared_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "smart"
    (root / "images").mkdir(parents=True)
    (root / "annotations").symlink_to(shared_data / "samples" / "smart" / "annotations")
    for sport in ("balancebeam", "polevault"):
        truth = SmartReader(root, f"{sport}_test", cache=tmp_path / "cache").truth()
        check_pck(PROTOCOLS.get(f"smart/diffusion-hpc-{sport}"), truth)
