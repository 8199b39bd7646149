"""The vision-language captioner with real models of transformers, tiny and random: what they say is nonsense."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from human.camera import level_flip
from human.errors import PosesynError
from human.prediction import Prediction
from synth.captions import CaptionRequest, load_captioner
from synth.captions.answers import clean_answer
from synth.captions.vlm import VisionLanguageCaptioner, load_prompt
from tests.synth.captions.poses import posed
from tests.synth.captions.tiny_models import save_llava, save_qwen2_vl, say

STANDS = "a person is standing with both arms at the sides"


def prediction(count: int) -> Prediction:
    """``count`` persons who stand before a level camera."""
    joints = torch.zeros(count, 32, 3)
    joints[:, :22] = level_flip(torch.tensor(posed(), dtype=torch.float32))
    rest = {name: torch.zeros(count, *shape) for name, shape in SHAPES.items()}
    return Prediction(joints3d=joints, **rest)


SHAPES: dict[str, tuple[int, ...]] = {
    "joints2d": (32, 2),
    "global_orient": (3,),
    "body_pose": (23, 3),
    "betas": (10,),
    "transl": (3,),
    "intrinsics": (3, 3),
}


def request(count: int, size: int = 56) -> CaptionRequest:
    images = torch.randint(
        0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )
    return CaptionRequest(prediction(count), images)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("vlm")
    return {"qwen2_vl": save_qwen2_vl(root / "qwen2_vl"), "llava": save_llava(root / "llava")}


def captioner(folder: Path, **more: Any) -> VisionLanguageCaptioner:
    made = load_captioner("vlm", checkpoint=str(folder), device="cpu", **{"max_new_tokens": 12, **more})
    assert isinstance(made, VisionLanguageCaptioner)
    return made


@pytest.mark.parametrize("kind", ["qwen2_vl", "llava"])
def test_from_picture_to_string(folders: dict[str, Path], kind: str) -> None:
    vlm = captioner(folders[kind], dtype="float32", batch_size=2)
    images = request(5).images_B3HW
    assert images is not None
    answers = vlm.ask(images)
    assert len(answers) == 5
    assert all(isinstance(a, str) and "user" not in a.split() for a in answers)  # the question is not repeated
    assert vlm.ask(images[3:4]) == answers[3:4]  # padding of a batch changes nothing
    captions = vlm.caption(request(5))
    assert len(captions) == 5
    assert [c for a, c in zip(answers, captions, strict=True) if clean_answer(a) is None] == [STANDS] * vlm.replaced


@pytest.mark.parametrize("kind", ["qwen2_vl", "llava"])
def test_the_picture_matters(folders: dict[str, Path], kind: str) -> None:
    """The first word's probabilities change with the picture, so it reaches the model."""
    vlm = captioner(folders[kind], dtype="float32")
    seen: list[torch.Tensor] = []
    _, model = vlm._loaded
    handle = model.lm_head.register_forward_hook(lambda _m, _i, out: seen.append(out[:, -1].clone()))
    white = torch.full((1, 3, 56, 56), 255, dtype=torch.uint8)
    try:
        vlm.ask(white)
        first = seen[0]
        seen.clear()
        vlm.ask(torch.zeros_like(white))
    finally:
        handle.remove()
    assert not torch.allclose(first, seen[0], atol=1e-5)


def test_bfloat16_is_what_runs(folders: dict[str, Path]) -> None:
    vlm = captioner(folders["llava"])
    assert len(vlm.caption(request(2))) == 2
    assert next(vlm._loaded[1].parameters()).dtype == torch.bfloat16
    vlm.unload()
    assert "_loaded" not in vlm.__dict__


ANSWERS = {
    "": STANDS,
    "A person is running.": "a person is running",
    "In this image, a man is doing a cartwheel. He wears a red shirt.": "a man is doing a cartwheel",
    "人は走っている": STANDS,
    "jumping jumping jumping jumping jumping jumping": STANDS,
    "I'm sorry, I cannot describe the person.": STANDS,
    "a person " + "walks and turns and jumps over the long wall " * 12: STANDS,
}


@pytest.fixture
def talker(tmp_path: Path) -> VisionLanguageCaptioner:
    """A captioner whose model can be made to say any of :data:`ANSWERS`."""
    return captioner(save_llava(tmp_path, [a for a in ANSWERS if a]))


def test_bad_answers_are_cleaned_or_replaced_and_counted(talker: VisionLanguageCaptioner) -> None:
    processor, model = talker._loaded
    for answer, caption in ANSWERS.items():
        say(model, processor.tokenizer, answer)
        assert talker.caption(request(1)) == [caption]
    assert (talker.replaced, talker.cleaned) == (5, 1)


def test_a_failing_batch_is_asked_one_by_one_and_never_fatal(
    talker: VisionLanguageCaptioner, caplog: pytest.LogCaptureFixture
) -> None:
    processor, model = talker._loaded
    say(model, processor.tokenizer, "A person is running.")

    def fail(_tower: Any, args: Any, named: dict[str, Any]) -> None:
        pixels = args[0] if args else named["pixel_values"]
        if len(pixels) > 1 or bool((pixels.amax((-1, -2)) == pixels.amin((-1, -2))).all()):
            raise torch.OutOfMemoryError("out of memory")

    model.model.vision_tower.register_forward_pre_hook(fail, with_kwargs=True)
    asked = request(3)
    assert asked.images_B3HW is not None
    asked.images_B3HW[1] = 0
    with caplog.at_level(logging.WARNING):
        assert talker.caption(asked) == ["a person is running", STANDS, "a person is running"]
    assert talker.replaced == 1
    assert "out of memory" in caplog.text


def test_no_pictures_nobody_and_wrong_pictures(folders: dict[str, Path]) -> None:
    vlm = captioner(folders["llava"])
    assert vlm.caption(CaptionRequest(prediction(2))) == [STANDS, STANDS]
    assert vlm.replaced == 2
    assert vlm.caption(CaptionRequest(prediction(0))) == []
    with pytest.raises(PosesynError, match="one uint8 picture"):
        vlm.caption(replace(request(2), images_B3HW=torch.zeros(2, 3, 8, 8)))


def test_what_is_missing_is_said_with_its_size(tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match=r"hf download Qwen/Qwen3-VL-2B-Instruct` \(4\.3 GB"):
        load_captioner("vlm", device="cpu").caption(request(1))
    with pytest.raises(PosesynError, match="recommended Qwen/Qwen3-VL-2B-Instruct"):
        captioner(tmp_path).caption(request(1))


def test_settings_are_checked_and_hashed(tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.toml"
    prompt.write_text('question = "What?"\nexamples = []\n')
    plain, other = load_captioner("vlm"), load_captioner("vlm", prompt=str(prompt))
    assert plain.config_hash() != other.config_hash()
    assert plain.config_hash() == load_captioner("vlm", batch_size=3).config_hash()
    assert load_prompt(prompt) == "What?"
    assert load_prompt().count("\n- a person") == 10
    with pytest.raises(PosesynError, match="dtype"):
        load_captioner("vlm", dtype="bf16")
    with pytest.raises(PosesynError, match="batch_size"):
        load_captioner("vlm", batch_size=0)
    prompt.write_text("question = 3")
    with pytest.raises(PosesynError, match=r"prompt\.toml cannot be read"):
        load_prompt(prompt)


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("a person walks forward", "a person walks forward"),
        ("Caption: A woman bends down, and touches her left foot!", "a woman bends down, and touches her left foot"),
        ("1. A person kicks\n2. A person jumps", "a person kicks"),
        ("“A person’s right arm is raised.”", "a person's right arm is raised"),
        ("The image shows a boy riding a skateboard. There is a tree.", "a boy riding a skateboard"),
        ("**Sitting** on a chair with crossed legs", "a person is Sitting on a chair with crossed legs".lower()),
        ("```\n\n```", None),
        ("yes", None),
        ("the sky is blue and the grass is green", None),
        ("a person \x00\x01 waves the left hand", "a person waves the left hand"),
        ("a person " + "x" * 60 + " walks", None),
    ],
)
def test_clean_answer(answer: str, caption: str | None) -> None:
    assert clean_answer(answer) == caption
