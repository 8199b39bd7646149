"""The text-to-motion transformer: a text embedding, then motion codes, each predicted from what is before it.

T2M-GPT's ``Text2Motion_Transformer`` (Zhang et al., CVPR 2023, §3.2; Mael-zys/T2M-GPT: models/t2m_trans.py). Upstream
builds it of a base and a head of ``num_layers`` blocks each: the official ``--num-layers 9`` are 18 blocks, one after
another. PoseSyn's equation 5 puts the codes of the wrong pose after the text embedding: the ``prefix`` of
:meth:`TextToMotion.generate`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from human.errors import PosesynError
from synth.msm.sampling import Sampling, code_draws, row_groups
from synth.msm.vqvae import check_sizes


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes; the defaults are those of the official HumanML3D checkpoint.

    Attributes:
        codes: of the VQ-VAE. ``codes`` itself is the end token, ``codes + 1`` padding.
        text_dim: of the text embedding.
        width, heads, layers, mlp_ratio, dropout: of the blocks.
        block_size: places for the text embedding and the codes.
    """

    codes: int = 512
    text_dim: int = 512
    width: int = 1024
    heads: int = 16
    layers: int = 18
    block_size: int = 51
    mlp_ratio: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_sizes(self, {"codes": 65536, "text_dim": 65536, "width": 16384, "heads": 256})
        check_sizes(self, {"layers": 256, "block_size": 4096, "mlp_ratio": 16})
        if self.width % (2 * self.heads):
            raise PosesynError(f"TransformerConfig: width={self.width} is not a multiple of 2 * heads ({self.heads})")
        if not 0 <= self.dropout < 1:
            raise PosesynError(f"TransformerConfig: dropout={self.dropout} is not in [0, 1)")

    @property
    def max_codes(self) -> int:
        """Longest motion in codes: one place is the text's."""
        return self.block_size - 1

    @property
    def end(self) -> int:
        """The end token."""
        return self.codes


class _Cache:
    """Keys and values of the places so far, (B, heads, places, width / heads) each."""

    def __init__(self, config: TransformerConfig, rows: int, places: int, like: Tensor) -> None:
        shape = (config.layers, 2, rows, config.heads, places, config.width // config.heads)
        self.store, self.used = like.new_empty(shape), 0

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        end = self.used + key.shape[2]
        self.store[layer, 0, :, :, self.used : end] = key
        self.store[layer, 1, :, :, self.used : end] = value
        return self.store[layer, 0, :, :, :end], self.store[layer, 1, :, :, :end]


class _Block(nn.Module):
    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        width = config.width
        self.layer, self.heads, self.dropout = layer, config.heads, config.dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, config.mlp_ratio * width), nn.Linear(config.mlp_ratio * width, width)

    def forward(self, x_BLC: Tensor, visible_B1LL: Tensor | None, cache: _Cache | None) -> Tensor:
        x_BLC = x_BLC + self._drop(self.proj(self._attend(self.norm1(x_BLC), visible_B1LL, cache)))
        return x_BLC + self._drop(self.fc2(F.gelu(self.fc1(self.norm2(x_BLC)))))

    def _attend(self, x_BLC: Tensor, visible_B1LL: Tensor | None, cache: _Cache | None) -> Tensor:
        query, key, value = self.qkv(x_BLC).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        first = cache is None or cache.used == 0
        if cache is not None:
            key, value = cache.extend(self.layer, key, value)
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=visible_B1LL,
            dropout_p=self.dropout if self.training else 0.0,
            # After the first, a cached step brings one place, which sees all.
            is_causal=visible_B1LL is None and first,
        )
        return attended.transpose(1, 2).flatten(2)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class TextToMotion(nn.Module):
    """Predicts motion codes after a text embedding.

    Args:
        gradient_checkpointing: computes the blocks again in the backward pass instead of keeping what is inside them.
    """

    places: Tensor

    def __init__(self, config: TransformerConfig | None = None, *, gradient_checkpointing: bool = False) -> None:
        super().__init__()
        self.config = config = config or TransformerConfig()
        self.gradient_checkpointing = gradient_checkpointing
        self.text = nn.Linear(config.text_dim, config.width)
        self.code = nn.Embedding(config.codes + 2, config.width)
        self.blocks = nn.ModuleList([_Block(config, i) for i in range(config.layers)])
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.codes + 1, bias=False)
        self.register_buffer("places", sinusoids(config.block_size, config.width), persistent=False)
        self.apply(_initialise)

    def forward(self, codes_BS: Tensor, text_BC: Tensor, mask_BS: Tensor | None = None) -> Tensor:
        """(B, S + 1, V + 1) float32 logits: place i predicts code i, the last place what follows all of them.

        Args:
            codes_BS: S may be 0. Under the mask they may be anything.
            mask_BS: True where there is a code: the others are not attended to. Places are counted as they stand, so
                padding belongs behind the codes.
        """
        visible = None
        if mask_BS is not None:
            codes_BS = codes_BS.masked_fill(~mask_BS, self.config.codes + 1)
            seen_BL = F.pad(mask_BS, (1, 0), value=True)
            size = seen_BL.shape[1]
            causal_LL = torch.ones(size, size, dtype=torch.bool, device=mask_BS.device).tril()
            visible = (seen_BL[:, None] & causal_LL)[:, None]
        return self._logits(self._run(self._embed(codes_BS, text_BC), visible, None))

    def _embed(self, codes_BS: Tensor, text_BC: Tensor) -> Tensor:
        config = self.config
        if text_BC.shape[-1] != config.text_dim:
            raise PosesynError(
                f"text embeddings of {text_BC.shape[-1]} numbers, but this transformer takes {config.text_dim}: "
                "use the text encoder that it was trained with"
            )
        if codes_BS.shape[1] > config.max_codes:
            raise PosesynError(_too_long(codes_BS.shape[1], config))
        code_BSC = self.code(codes_BS)
        # Under autocast the sum that runs through the blocks stays float32.
        text_B1C = self.text(text_BC.to(self.text.weight.dtype))[:, None].to(code_BSC.dtype)
        x_BLC = torch.cat([text_B1C, code_BSC], 1)
        return x_BLC + self.places[: x_BLC.shape[1]].to(x_BLC.dtype)

    def _run(self, x_BLC: Tensor, visible: Tensor | None, cache: _Cache | None) -> Tensor:
        for block in self.blocks:
            if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
                x_BLC = checkpoint(block, x_BLC, visible, cache, use_reentrant=False)
            else:
                x_BLC = block(x_BLC, visible, cache)
        if cache is not None:
            cache.used += x_BLC.shape[1]
        return x_BLC

    def _logits(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x)).float()

    @torch.no_grad()
    def generate(
        self,
        text_BC: Tensor,
        prefix_BP: Tensor | None = None,
        max_codes: int | None = None,
        *,
        seeds: Sequence[int],
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_codes: int = 0,
        rows: int | None = None,
        cached: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Motions: (B, max_codes) codes, prefix included and -1 behind the end, and (B,) how many.

        A row is a function of its text, prefix, seed and of the other arguments, whatever batch it is in: rows with
        prefixes of one length are generated together, in groups of one size (:func:`~synth.msm.sampling.row_groups`).

        Args:
            prefix_BP: codes to go on from (equation 5); -1 at a row's end where it has fewer. They count as codes.
            max_codes: at most ``config.max_codes``, which is the default.
            seeds: one per row.
            temperature, top_k, top_p: see :class:`~synth.msm.sampling.Sampling`; temperature 0 is greedy.
            min_codes: no end before so many codes.
            rows: size of the groups; another size may round, and so once in a while draw, otherwise.
            cached: False computes every place again at every step (for comparison).

        Raises:
            PosesynError: more codes than the block has room for, a prefix of other codes than the VQ-VAE's or longer
                than ``max_codes``, text that is not finite, or as many seeds as there are rows not.
        """
        config, batch, device = self.config, len(text_BC), text_BC.device
        sampling = Sampling(temperature, top_k, top_p)
        max_codes = config.max_codes if max_codes is None else max_codes
        prefix_BP = text_BC.new_empty((batch, 0), dtype=torch.long) if prefix_BP is None else prefix_BP.to(device)
        self._check_request(text_BC, prefix_BP, max_codes, seeds)
        codes_BS = torch.full((batch, max_codes), -1, dtype=torch.long, device=device)
        lengths_B = torch.zeros(batch, dtype=torch.long, device=device)
        draws_BS = code_draws(seeds, max_codes).to(device)
        was_training = self.training
        self.eval()
        try:
            given_B = (prefix_BP >= 0).sum(1)
            for given in given_B.unique().tolist():
                for some, count in row_groups((given_B == given).nonzero()[:, 0], rows):
                    draws = draws_BS[some]
                    made = self._generate_rows(
                        text_BC[some], prefix_BP[some, :given], draws, count, sampling, min_codes, cached
                    )
                    codes_BS[some[:count]], lengths_B[some[:count]] = made[0][:count], made[1][:count]
        finally:
            self.train(was_training)
        return codes_BS, lengths_B

    def _check_request(self, text_BC: Tensor, prefix_BP: Tensor, max_codes: int, seeds: Sequence[int]) -> None:
        config = self.config
        if max_codes > config.max_codes:
            raise PosesynError(_too_long(max_codes, config))
        if len(seeds) != len(text_BC) or len(prefix_BP) != len(text_BC):
            raise PosesynError(
                f"{len(text_BC)} texts, {len(prefix_BP)} prefixes and {len(seeds)} seeds: one each per motion is needed"
            )
        if max_codes < 1:
            raise PosesynError(f"max_codes={max_codes}: a motion has at least one code")
        if prefix_BP.shape[1] > max_codes:
            raise PosesynError(f"a prefix of {prefix_BP.shape[1]} codes leaves no room within max_codes={max_codes}")
        inner = (prefix_BP[:, 1:] >= 0) & (prefix_BP[:, :-1] < 0)
        if bool(inner.any()) or bool((prefix_BP >= config.codes).any()):
            raise PosesynError(f"a prefix holds codes outside 0 to {config.codes - 1}, or padding (-1) before a code")
        if not bool(text_BC.isfinite().all()):
            raise PosesynError("a text embedding holds numbers that are not finite")

    def _generate_rows(
        self,
        text_BC: Tensor,
        prefix_BP: Tensor,
        draws_BS: Tensor,
        wanted: int,
        sampling: Sampling,
        min_codes: int,
        cached: bool,
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`generate`, for rows with prefixes of one length; those after ``wanted`` only fill up."""
        config, (batch, given), max_codes = self.config, prefix_BP.shape, draws_BS.shape[1]
        codes_BS = torch.full((batch, max_codes), -1, dtype=torch.long, device=text_BC.device)
        codes_BS[:, :given] = prefix_BP
        lengths_B = torch.full((batch,), max_codes, dtype=torch.long, device=text_BC.device)
        done_B = torch.arange(batch, device=text_BC.device) >= wanted
        x_BLC = self._embed(prefix_BP, text_BC)
        cache = _Cache(config, batch, max_codes + 1, x_BLC) if cached else None
        for place in range(given, max_codes):
            if place > given:
                x_BLC = self._next(codes_BS[:, :place].clamp_min(0), text_BC, cache)
            logits_BV = self._logits(self._run(x_BLC, None, cache)[:, -1])
            if place < min_codes:
                logits_BV[:, config.end] = -torch.inf
            code_B = sampling.draw(logits_BV, draws_BS[:, place])
            ends_B = (code_B == config.end) & ~done_B
            lengths_B[ends_B] = place
            done_B = done_B | ends_B
            if bool(done_B.all()):
                break
            codes_BS[:, place] = code_B.masked_fill(done_B, -1)
        return codes_BS, lengths_B

    def _next(self, codes_BS: Tensor, text_BC: Tensor, cache: _Cache | None) -> Tensor:
        """What the blocks get: the newest place, without cache every place."""
        if cache is None:
            return self._embed(codes_BS, text_BC)
        return self.code(codes_BS[:, -1:]) + self.places[cache.used].to(self.code.weight.dtype)


def _too_long(codes: int, config: TransformerConfig) -> str:
    return (
        f"{codes} codes, but this transformer has room for {config.max_codes} after the text "
        f"(block_size={config.block_size}): ask for fewer codes"
    )


def sinusoids(places: int, width: int) -> Tensor:
    """(places, width) position embeddings: Vaswani et al., "Attention is all you need", 2017, §3.5."""
    place_L1 = torch.arange(places, dtype=torch.float32)[:, None]
    rate_H = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10000.0) / width))
    return torch.stack([torch.sin(place_L1 * rate_H), torch.cos(place_L1 * rate_H)], -1).flatten(1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
