"""Captions by a vision-language model: any image-text-to-text model that transformers can load.

PoseSyn (arXiv 2503.13025) §3.2 asks LLaVA-Llama-3-8B about each challenge's picture. Recommended here is a current
model of two billion parameters, Qwen3-VL-2B-Instruct. The paper's wording of question and examples was not at hand:
``prompt.toml`` beside this file is ours, and the option ``prompt`` names another.
"""

from __future__ import annotations

import logging
import tomllib
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from human.assets import get_asset
from human.errors import PosesynError
from human.rng import key_hash
from synth.captions.answers import clean_answer
from synth.captions.base import CAPTIONERS, CaptionRequest
from synth.captions.describer import VERSION, Describer
from synth.captions.text_encoders import first_line

log = logging.getLogger(__name__)
RECOMMENDED = "Qwen/Qwen3-VL-2B-Instruct"
PAPER = "xtuner/llava-llama-3-8b-v1_1-transformers"


def load_prompt(path: str | Path | None = None) -> str:
    """Question and examples as one text, from a file like ``prompt.toml``."""
    source: Any = files("synth.captions") / "prompt.toml" if path is None else Path(path).expanduser()
    try:
        content = tomllib.loads(source.read_text(encoding="utf-8"))
        question, examples = str(content["question"]).strip(), [str(e) for e in content["examples"]]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise PosesynError(
            f"the captioner's prompt {source} cannot be read ({type(error).__name__}: {error}): it is a TOML file with "
            "`question` and a list `examples`, as synth/captions/prompt.toml"
        ) from error
    lead = str(content.get("lead", "Examples:"))
    return "\n".join([question, lead, *(f"- {e}" for e in examples)]) if examples else question


@CAPTIONERS.register("vlm")
class VisionLanguageCaptioner:
    """Asks a vision-language model about every picture; what it answers badly the describer says instead.

    Args:
        checkpoint: a folder of transformers files, or a hub id.
        revision: of the hub id; pin it where captions must be the same for ever.
        local_files_only: never download; otherwise transformers gets the files into its own cache.
        prompt: a file of question and examples; ours by default.
        batch_size: pictures per call. max_new_tokens: longest answer.
        dtype, device: "bfloat16" and "auto" (a GPU where there is one) by default.

    The model is loaded at the first picture. Answers are greedy: the same picture, the same caption (on a GPU batches
    of other sizes may round otherwise). ``replaced`` counts describer's sentences, ``cleaned`` answers that were cut or
    trimmed beyond case and full stop.

    Raises:
        PosesynError: (at the first picture) no such files, a model of another kind; says what to download.
    """

    name = "vlm"

    def __init__(
        self,
        checkpoint: str = RECOMMENDED,
        revision: str | None = None,
        local_files_only: bool = True,
        prompt: str | None = None,
        batch_size: int = 8,
        max_new_tokens: int = 60,
        dtype: str = "bfloat16",
        device: str = "auto",
    ) -> None:
        if batch_size < 1 or max_new_tokens < 1:
            raise PosesynError(f"vlm needs batch_size and max_new_tokens >= 1, got {batch_size} and {max_new_tokens}")
        if not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise PosesynError(f"vlm: torch has no dtype {dtype!r}; use bfloat16, float16 or float32")
        self.checkpoint, self.revision, self.local_files_only = checkpoint, revision, local_files_only
        self.batch_size, self.max_new_tokens, self.dtype = batch_size, max_new_tokens, dtype
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        self.prompt = load_prompt(prompt)
        self.replaced = self.cleaned = 0
        self._describer = Describer()

    def config_hash(self) -> str:
        key = (self.checkpoint, self.revision or "", self.prompt, self.max_new_tokens, self.dtype, VERSION)
        return f"{key_hash('vlm', *key):032x}"[:12]

    # ------------------------------------------------------------------------------------------------ the model
    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import transformers

        where: dict[str, Any] = {"local_files_only": self.local_files_only}
        if self.revision:
            where["revision"] = self.revision
        try:
            processor = transformers.AutoProcessor.from_pretrained(self.checkpoint, **where)
            model: Any = transformers.AutoModelForImageTextToText.from_pretrained(
                self.checkpoint, dtype=getattr(torch, self.dtype), **where
            )
        except (OSError, ValueError, ImportError) as error:
            raise PosesynError(
                f"the vision-language model {self.checkpoint!r} cannot be loaded ({first_line(error)}): "
                f"{_advice(self.checkpoint)}"
            ) from error
        if getattr(processor, "chat_template", None) is None and getattr(processor, "tokenizer", None) is None:
            raise PosesynError(f"{self.checkpoint!r} has no processor for pictures and text: choose another checkpoint")
        processor.tokenizer.padding_side = "left"  # answers follow the question in a padded batch
        if processor.tokenizer.pad_token is None:
            processor.tokenizer.pad_token = processor.tokenizer.eos_token
        return processor, model.to(self.device).eval()

    def unload(self) -> None:
        """Give the memory back; the next picture loads the model again."""
        self.__dict__.pop("_loaded", None)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def ask(self, images_B3HW: Tensor) -> list[str]:
        """The model's own words about each picture, uint8 RGB."""
        from PIL import Image

        processor, model = self._loaded
        pictures = [Image.fromarray(i.permute(1, 2, 0).contiguous().cpu().numpy()) for i in images_B3HW]
        turns = [
            [{"role": "user", "content": [{"type": "image", "image": p}, {"type": "text", "text": self.prompt}]}]
            for p in pictures
        ]
        inputs = processor.apply_chat_template(
            turns,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        ).to(self.device)
        for key, value in inputs.items():
            if torch.is_tensor(value) and value.is_floating_point():
                inputs[key] = value.to(model.dtype)
        with torch.inference_mode():
            told = model.generate(**inputs, max_new_tokens=self.max_new_tokens, do_sample=False)
        return list(processor.batch_decode(told[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True))

    # ------------------------------------------------------------------------------------------------ captions
    def caption(self, request: CaptionRequest) -> list[str]:
        """One sentence for each; without pictures, or where the model fails, the describer's (counted, never fatal)."""
        plain = self._describer.caption(request)
        if len(plain) == 0:
            return []
        if request.images_B3HW is None:
            self.replaced += len(plain)
            return plain
        images = request.images_B3HW
        if len(images) != len(plain) or images.ndim != 4 or images.dtype != torch.uint8:
            raise PosesynError(
                f"vlm wants one uint8 picture (3,H,W) for each of the {len(plain)} persons, got {images.dtype} "
                f"{tuple(images.shape)}"
            )
        out: list[str] = []
        for start in range(0, len(plain), self.batch_size):
            part = images[start : start + self.batch_size]
            for answer, instead in zip(self._answers(part), plain[start : start + len(part)], strict=True):
                sentence = None if answer is None else clean_answer(answer)
                if sentence is None:
                    self.replaced += 1
                elif sentence.lower() != (answer or "").strip().rstrip(".").lower():
                    self.cleaned += 1
                out.append(sentence or instead)
        return out

    def _answers(self, images_B3HW: Tensor) -> list[str | None]:
        """Answers, one picture at a time where the batch does not go through; None where that fails too."""
        try:
            answers = self.ask(images_B3HW)
            assert len(answers) == len(images_B3HW)
            return list(answers)
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:  # out of memory is a RuntimeError
            reason = f"{type(error).__name__}: {first_line(error)}"
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(images_B3HW) > 1:
            log.warning("vlm: a batch of %d failed (%s); asking one by one", len(images_B3HW), reason)
            return [answer for image in images_B3HW for answer in self._answers(image[None])]
        log.warning("vlm: a picture was not captioned (%s)", reason)
        return [None]


def _advice(checkpoint: str) -> str:
    known = {RECOMMENDED: "qwen3_vl_2b", PAPER: "llava_llama3_8b"}
    if checkpoint in known:
        return get_asset(known[checkpoint]).message
    return (
        "give a folder of transformers files or a hub id whose files are in the hub's cache, allow the download with "
        f"local_files_only=false, or use the recommended {RECOMMENDED}"
    )
