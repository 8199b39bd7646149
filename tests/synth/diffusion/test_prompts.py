"""Words of the prompts."""

from __future__ import annotations

import torch

from synth.diffusion.prompts import ENVIRONMENTS, GENDERS, prompt_text
from synth.jobs import Job, Prompt
from synth.scene import SceneSpec


def job(seed: int = 0, **words: str) -> Job:
    zeros = [torch.zeros(1, *s) for s in ((10,), (23, 3), (3,), (3,), (3, 3))]
    return Job(SceneSpec(*zeros, torch.tensor([seed])), seed=seed, prompt=Prompt(**words))


def test_the_papers_template() -> None:
    full = job(gender="woman", action="riding a bike", environment="on a beach", caption="ignored")
    assert prompt_text(full) == "A woman riding a bike on a beach"


def test_captions_fill_in_for_the_action() -> None:
    for caption, action in (
        ("a person is waving.", "is waving"),
        ("The man  walks\nforward", "walks forward"),
        ("someone sits", "sits"),
        ("waving both hands", "waving both hands"),
        ("a person", "a person"),
    ):
        assert prompt_text(job(gender="boy", caption=caption, environment="here")) == f"A boy {action} here"


def test_an_empty_prompt_is_drawn_by_the_seed() -> None:
    texts = [prompt_text(job(seed)) for seed in range(40)]
    assert texts == [prompt_text(job(seed)) for seed in range(40)]
    assert {t.split()[1] for t in texts} == set(GENDERS)
    assert all(t.endswith(ENVIRONMENTS) for t in texts)
    assert len(set(texts)) > 10
    assert prompt_text(job(), genders=(), environments=()) == "A person"
    assert prompt_text(job(), "{caption}") == "A person"
    assert (
        prompt_text(job(gender="  ", caption="{braces} stay", environment="x"), genders=())
        == "A person {braces} stay x"
    )
