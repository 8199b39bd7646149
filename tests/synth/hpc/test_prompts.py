"""The words of Diffusion-HPC."""

from __future__ import annotations

import pytest

from datamodules.readers.smart import SPORTS
from human.errors import PosesynError
from human.rng import generator
from synth.hpc.prompts import MPII_LEFT_OUT, PROMPTS, SMART_ACTIONS, check_prompts, choose_action


def test_every_template_says_what_is_done() -> None:
    for name in PROMPTS.names():
        prompt = check_prompts(name)("riding a horse", generator("t", 0))
        assert prompt.action == "riding a horse"
        assert ("riding a horse" in prompt.caption) == (name != "none")
        empty = check_prompts(name)("", generator("t", 0))
        assert empty.caption == empty.caption.strip()
        assert "{" not in empty.caption


def test_smart_knows_the_readers_sports() -> None:
    assert set(SMART_ACTIONS) == set(SPORTS)
    assert check_prompts("smart")("polevault", generator("t", 0)).caption == "an athlete is doing pole vault"
    assert "doing high jump" in check_prompts("few_shot")("highjump", generator("t", 0)).caption


def test_generated_pictures_words_follow_the_set() -> None:
    rng = generator("t", 0)
    assert check_prompts("generated")("vault", rng).caption == "an athlete is doing vault"
    assert check_prompts("generated")("tennis", rng).caption.endswith("doing tennis")


def test_mpii_draws_shot_and_person() -> None:
    said = {check_prompts("mpii")("tennis", generator("t", n)).caption for n in range(200)}
    assert len(said) > 40
    assert all(s.endswith("doing tennis") for s in said)
    assert check_prompts("mpii")("tennis", generator("t", 3)) == check_prompts("mpii")("tennis", generator("t", 3))


def test_actions_come_from_the_data_first() -> None:
    rng = generator("t", 0)
    assert choose_action(["diving"], "tennis", rng) == "tennis"
    assert choose_action(["diving"], "", rng) == "diving"
    assert choose_action(["diving"], MPII_LEFT_OUT[0], rng) == "diving"
    assert choose_action([], "", rng) == ""


def test_an_unknown_template_lists_the_others() -> None:
    with pytest.raises(PosesynError, match="few_shot"):
        check_prompts("poem")
