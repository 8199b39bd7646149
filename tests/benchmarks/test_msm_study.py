"""The study of the motion synthesis module: its figures, and the runs that it would start."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.msm import bank_challenges
from benchmarks.msm_study import ARMS, Truth, distances, figures, mispredicted, table2, training_config, wrong_turns
from human.body import load_body
from human.rotations import rotation_about
from synth.synthesisers import SYNTHESISERS


def known_truth(count: int = 3) -> Truth:
    """Challenges whose predictions are right."""
    some = bank_challenges(count, load_body())
    return Truth(some, some.predictions.joints3d, torch.ones(count, 32))


def test_figures_are_of_a_challenge_first() -> None:
    got = figures(torch.tensor([[4.0, 2.0, 6.0, 4.0, 9.0], [10.0, 10.0, 10.0, 10.0, 10.0]]))
    assert (got["mean"], got["min"]) == (7.5, 6.0)
    assert got["std"] == pytest.approx(torch.tensor([4.0, 2.0, 6.0, 4.0, 9.0]).std(correction=0).item() / 2)
    assert (got["min of 1"], got["min of 4"]) == (7.0, 6.0)
    assert list(figures(torch.ones(2, 1))) == ["mean", "std", "min"]


def test_a_right_pose_is_at_no_distance_however_it_stands() -> None:
    truth = known_truth()
    assert mispredicted(truth) == pytest.approx(0, abs=1e-3)
    rows = torch.arange(3)
    turned = truth.joints @ rotation_about("x", torch.full((3,), 0.7)).mT * 1.3 + 2
    assert truth.distance(turned, rows).max() < 1e-3
    assert truth.distance(turned, rows.flip(0))[0] > 10
    assert distances(truth, "pose_only", {}, 2, 0, load_body()).shape == (3, 2)
    assert distances(truth, "pose_only", {}, 1, 0, load_body()).max() < 1e-3


def test_errors_carried_over_are_those_of_the_estimator() -> None:
    truth = known_truth()
    some = truth.challenges
    batch = some.crops.replace(joints3d=truth.joints, joints3d_conf=truth.known)
    turns = wrong_turns(load_body(), batch, some.predictions)
    angles = torch.acos(((turns.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1))
    limbs = [1, 2, 4, 5, 16, 17, 18, 19]  # hips, knees, shoulders, elbows: what joints show
    assert angles[:, limbs].mean() < 0.2


def test_every_arm_is_registered_and_tabled() -> None:
    assert {name for name, _, _ in ARMS.values()} <= set(SYNTHESISERS.names())
    found = {"challenges": 2, "samples": 4, "mispredicted": 100.0}
    arms = {"msm": {"0": figures(torch.full((2, 4), 80.0)), "1": figures(torch.full((2, 4), 70.0))}}
    lines = list(table2({"pose2sim": {**found, "arms": arms}}))
    assert "| msm |  | 75.0 | 0.0 | 75.0 | 25.0 % | 80.0, 70.0 |" in lines


@pytest.mark.parametrize("which", ["lspet", "quickstart"])
def test_arms_of_the_training_study_differ_in_the_synthesiser_alone(which: str) -> None:
    args = argparse.Namespace(
        epochs=1, steps=2, training_samples=3, pair="packaged:msm_small", lspet=Path("lspet").absolute()
    )

    def refresh(config: dict[str, Any]) -> list[dict[str, Any]]:
        found = [c["init_args"] for c in config["trainer"]["callbacks"] if c["class_path"] == "callbacks.Refresh"]
        return [{k: r[k] for k in ("synthesiser", "synthesiser_options", "samples")} for r in found]

    labels, none = (training_config(which, arm, 4, args) for arm in ("msm, labels", "none"))
    assert refresh(labels) == [
        {
            "synthesiser": "msm",
            "synthesiser_options": {"select": "labels", "pair": "packaged:msm_small"},
            "samples": 3,
        }
    ]
    assert refresh(none) == []
    assert "pool" not in {s["init_args"].get("name") for s in none["data"]["sources"]}
    assert labels["seed_everything"] == labels["data"]["seed"] == 4
    assert labels["data"]["validate"] == none["data"]["validate"]
