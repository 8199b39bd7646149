"""MotionDataModule: motions with captions, as windows for the VQ-VAE and as codes with text for the transformer."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from torch import Tensor

from datamodules.humanml3d import HumanML3DSource, is_humanml3d
from datamodules.mixture import MixtureLoader
from datamodules.motion_clips import UNIT, MotionClip, MotionSet, MotionSource, biased, feature_statistics
from datamodules.motion_sources import MotionFilesSource
from human.errors import PosesynError
from human.motion_skeleton import FeatureLayout
from human.rng import derive_seed, generator, philox_uniform

log = logging.getLogger(__name__)

Encode = Callable[[list[Tensor]], list[Tensor]]
"""Motions (T, F), not normalised, to codes (T // 4,)."""


class MotionWindows(NamedTuple):
    """(B, T, F) features, not normalised."""

    features_BTF: Tensor


class MotionTexts(NamedTuple):
    """``codes_BS`` padded with -1, how many there are (B,), and a caption for each."""

    codes_BS: Tensor
    lengths_B: Tensor
    captions: list[str]


class Tokens(NamedTuple):
    """One captioned stretch of codes."""

    codes_S: np.ndarray
    captions: tuple[str, ...]
    weight: float
    held: bool


class MotionDataModule(L.LightningDataModule):
    """What the motion VQ-VAE and the text-to-motion transformer are trained on. The model says which of both it is.

    Args:
        root: a HumanML3D folder, or any folder of motion files; short for one source.
        sources: instead, several of :class:`~datamodules.humanml3d.HumanML3DSource`,
            :class:`~datamodules.motion_sources.MotionFilesSource`,
            :class:`~datamodules.motion_transitions.TransitionSource` or others with a ``read`` method.
        window: frames of the VQ-VAE's windows, a multiple of 4; motions that are shorter are not trained on there.
        batch_size: of the global batch, all ranks together.
        steps_per_epoch: batches per epoch; draws are with replacement and have no end of their own.
        max_codes: of a motion for the transformer: of longer ones a part, drawn anew each time.
        feature_bias: the root's and the contacts' standard deviations are divided by this: they count for more.
            T2M-GPT's networks are trained with 5.
        statistics: folder with Mean.npy and Std.npy to normalise with; default: the data set's own, else measured.
        seed: of every draw: a sample is a function of (seed, step, place in the batch).
    """

    def __init__(
        self,
        root: str | None = None,
        sources: list[MotionSource] | None = None,
        window: int = 64,
        batch_size: int = 256,
        steps_per_epoch: int = 1000,
        max_codes: int = 49,
        feature_bias: float = 5.0,
        statistics: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if (root is None) == (not sources):
            raise PosesynError(
                "data needs either `root` (a HumanML3D folder or a folder of motion files) or `sources`: "
                f"{'neither is' if root is None else 'both are'} given"
            )
        if window < UNIT or window % UNIT:
            raise PosesynError(f"data.window={window} must be a multiple of {UNIT} frames")
        if batch_size < 1 or steps_per_epoch < 1 or max_codes < 1 or not feature_bias > 0:
            raise PosesynError(
                f"data: batch_size={batch_size}, steps_per_epoch={steps_per_epoch}, max_codes={max_codes} and "
                f"feature_bias={feature_bias} must be positive"
            )
        self.sources = list(sources) if sources else [_source_at(str(root))]
        names = [s.name for s in self.sources]
        if len(set(names)) < len(names):
            raise PosesynError(f"data.sources: two sources have one name ({', '.join(names)}): set `name`")
        self.window, self.batch_size, self.steps_per_epoch, self.max_codes = (
            window, batch_size, steps_per_epoch, max_codes,
        )  # fmt: skip
        self.feature_bias, self.statistics, self.seed = feature_bias, statistics, seed
        #: Set by a model that trains on codes: makes them.
        self.encode: Encode | None = None
        self.loader: MixtureLoader | None = None
        self._loader_state: dict[str, int] | None = None

    @property
    def layout(self) -> FeatureLayout:
        layouts = {s.layout.name: s.layout for s in self.sources}
        if len(layouts) > 1:
            raise PosesynError(f"data.sources have different skeletons: {', '.join(layouts)}: train on one of them")
        return next(iter(layouts.values()))

    @cached_property
    def sets(self) -> list[MotionSet]:
        """What the sources hold, read once."""
        _ = self.layout
        sets = []
        for source in self.sources:
            found = source.read(self.seed)
            skipped = found.describe_skipped()
            (log.warning if skipped else log.info)(
                "%s: %d motions to train on, %d to validate on%s",
                source.name, len(found.train), len(found.validation), f"; left out: {skipped}" if skipped else "",
            )  # fmt: skip
            sets.append(found)
        return sets

    @property
    def skipped(self) -> Counter[str]:
        return sum((found.skipped for found in self.sets), Counter())

    @cached_property
    def clips(self) -> list[tuple[MotionClip, float]]:
        """All motions to train on with their shares of the draws."""
        counts = [float(len(found.train)) for found in self.sets]
        given = [source.weight for source in self.sources]
        weights = [count if weight is None else weight for count, weight in zip(counts, given, strict=True)]
        clips = [
            (clip, weight / len(found.train))
            for found, weight in zip(self.sets, weights, strict=True)
            for clip in found.train
            if weight > 0
        ]
        if not clips:
            raise PosesynError(f"no motion to train on in {', '.join(s.name for s in self.sources)}")
        return clips

    @cached_property
    def normalisation(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (F,), the latter with ``feature_bias``."""
        first = self.sets[0]
        if self.statistics is not None:
            mean, std = _read_statistics(Path(self.statistics).expanduser(), self.layout)
        elif len(self.sets) == 1 and first.mean is not None and first.std is not None:
            mean, std = first.mean, first.std
        else:
            clips, weights = zip(*self.clips, strict=True)
            mean, std = feature_statistics(list(clips), self.layout, np.array(weights))
        return mean, biased(std, self.feature_bias, self.layout)

    # -- loaders -----------------------------------------------------------------------------------------------------
    @cached_property
    def training(self) -> WindowSamples | TextSamples:
        """What is drawn from; of codes it is made at the first draw, when the model is on its device."""
        if self.encode is None:
            return WindowSamples(self.clips, self.window)
        return TextSamples(self.clips, self.encode, self.max_codes, self.layout.fps)

    def train_dataloader(self) -> MixtureLoader:
        rank, world = self._place()
        limit = self.trainer.limit_train_batches if self.trainer is not None else 1.0
        self.loader = MixtureLoader(
            _Samples(self),
            lambda: Draws(self.seed, self.training.weights),
            batch_size=self.batch_size,
            steps=self.steps_per_epoch,
            rank=rank,
            world=world,
            used=limit if isinstance(limit, int) else int(limit * self.steps_per_epoch),
        )
        if self._loader_state is not None:
            self.loader.load_state_dict(self._loader_state)
            self._loader_state = None
        return self.loader

    def val_dataloader(self) -> list[_Validation]:
        """Held-out motions: one by one and whole as `MotionWindows`, or in batches as `MotionTexts`."""
        rank, world = self._place()
        clips = [clip for found in self.sets for clip in found.validation if len(clip) >= UNIT]
        if self.encode is not None:
            clips = [clip for clip in clips if clip.captions]
        return [_Validation(self, clips, rank, world)] if clips else []

    def _place(self) -> tuple[int, int]:
        """This rank's number and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    # -- the checkpoint ----------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        return {
            "loader": self.loader.state_dict() if self.loader else self._loader_state,
            "draws": {"seed": self.seed, "motions": len(self.clips), "batch_size": self.batch_size},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        own = {"seed": self.seed, "motions": len(self.clips), "batch_size": self.batch_size}
        if state_dict["draws"] != own:
            raise PosesynError(
                f"the checkpoint was made with {state_dict['draws']}, the data now has {own}: resume with the run's "
                "own config.yaml and data, or start a new run"
            )
        self._loader_state = state_dict["loader"]


class WindowSamples:
    """Windows of motions, each motion as likely as its share, each place in it alike."""

    def __init__(self, clips: list[tuple[MotionClip, float]], window: int) -> None:
        long = [(clip, weight) for clip, weight in clips if len(clip) >= window]
        if not long:
            longest = max(len(clip) for clip, _ in clips)
            raise PosesynError(
                f"no motion has window={window} frames, the longest has {longest}: lower data.window (a multiple of "
                f"{UNIT}), or add datamodules.motion_transitions.TransitionSource, which joins short motions"
            )
        if len(long) < len(clips):
            log.info(
                "%d of %d motions are shorter than the window of %d frames", len(clips) - len(long), len(clips), window
            )
        self.clips, self.window = [clip for clip, _ in long], window
        self.weights = np.array([weight for _, weight in long])

    def batch(self, keys_N2: np.ndarray) -> MotionWindows:
        rows = []
        for index, seed in keys_N2:
            features = self.clips[index].features
            start = int(generator("motion_window", int(seed)).integers(len(features) - self.window + 1))
            rows.append(features[start : start + self.window])
        return MotionWindows(torch.from_numpy(np.stack(rows)))


class TextSamples:
    """Codes of whole motions and of their captioned parts, with one of the captions."""

    def __init__(self, clips: list[tuple[MotionClip, float]], encode: Encode, max_codes: int, fps: float) -> None:
        told = [(clip, weight) for clip, weight in clips if clip.captions]
        if not told:
            raise PosesynError("no motion to train on has a caption: write texts, or let the describer do it")
        log.info("encoding %d motions with captions", len(told))
        tokens = [t for (clip, w), codes in zip(told, _codes([c for c, _ in told], encode), strict=True)
                  for t in captioned(clip, codes, w, fps)]  # fmt: skip
        if not tokens:
            raise PosesynError("no captioned part of a motion is as long as one code (4 frames)")
        self.tokens, self.max_codes = tokens, max_codes
        self.weights = np.array([t.weight for t in tokens])

    def batch(self, keys_N2: np.ndarray) -> MotionTexts:
        return pad([self.sample(self.tokens[index], int(seed)) for index, seed in keys_N2])

    def sample(self, tokens: Tokens, seed: int) -> tuple[np.ndarray, str]:
        """A third of the draws lack the first or the last code, so that not all lengths are the data's (as in T2M-GPT's
        dataset_TM_train.py). A motion that starts with a held pose keeps its start, which is the prefix at use."""
        draws = generator("motion_text", seed)
        caption = tokens.captions[int(draws.integers(len(tokens.captions)))]
        codes = tokens.codes_S
        if draws.random() < 1 / 3 and len(codes) > 1:
            codes = codes[1:] if draws.random() < 0.5 and not tokens.held else codes[:-1]
        over = len(codes) - self.max_codes
        start = int(draws.integers(over + 1)) if over > 0 and not tokens.held else 0
        return codes[start : start + self.max_codes], caption


def captioned(clip: MotionClip, codes_S: np.ndarray, weight: float, fps: float) -> list[Tokens]:
    """The parts of a motion that captions speak of."""
    whole = tuple(c.text for c in clip.captions if c.whole)
    found = [Tokens(codes_S, whole, weight, clip.held is not None)] if whole else []
    for caption in clip.captions:
        if not caption.whole:
            part = codes_S[int(caption.start * fps / UNIT) : int(caption.end * fps / UNIT)]
            if len(part):
                found.append(Tokens(part, (caption.text,), weight, False))
    return found


def _codes(clips: list[MotionClip], encode: Encode) -> Iterator[np.ndarray]:
    found = encode([torch.from_numpy(clip.features) for clip in clips])
    held = iter(encode([torch.from_numpy(clip.held) for clip in clips if clip.held is not None]))
    for clip, codes in zip(clips, found, strict=True):
        codes_S = codes.numpy().copy()
        if clip.held is not None:
            start = next(held).numpy()
            codes_S[: len(start)] = start[: len(codes_S)]
        yield codes_S


def pad(samples: list[tuple[np.ndarray, str]]) -> MotionTexts:
    lengths = [len(codes) for codes, _ in samples]
    codes_BS = np.full((len(samples), max(lengths)), -1, np.int64)
    for row, (codes, _) in zip(codes_BS, samples, strict=True):
        row[: len(codes)] = codes
    return MotionTexts(torch.from_numpy(codes_BS), torch.tensor(lengths), [caption for _, caption in samples])


class Draws:
    """Which motion, and a seed for what is drawn of it: a function of (seed, step, place in the batch)."""

    def __init__(self, seed: int, weights_N: np.ndarray) -> None:
        self.seed = seed
        self._edges = np.cumsum(weights_N) / weights_N.sum()

    def keys(self, step: int, batch_size: int) -> np.ndarray:
        """(batch_size, 2) int64: number of the motion, seed."""
        counter = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.uint64)
        u = philox_uniform(derive_seed(self.seed, "motion"), counter)
        index = np.searchsorted(self._edges, u[:, 0], side="right").clip(max=len(self._edges) - 1)
        return np.stack([index, (u[:, 1] * 2.0**53).astype(np.int64)], 1)


class _Samples(torch.utils.data.Dataset[Any]):
    """What the loader asks; kept apart from the module, which exists before there is anything to draw from."""

    def __init__(self, data: MotionDataModule) -> None:
        self.data = data

    def __getitem__(self, key: list[int]) -> MotionWindows | MotionTexts:
        return self.__getitems__([key])

    def __getitems__(self, keys: list[list[int]]) -> MotionWindows | MotionTexts:
        return self.data.training.batch(np.asarray(keys, np.int64))


class _Validation:
    """Held-out motions in the order of the sources; every ``world``-th batch on each rank, equally many on all."""

    def __init__(self, data: MotionDataModule, clips: list[MotionClip], rank: int, world: int) -> None:
        self.data, self.clips, self.rank, self.world = data, clips, rank, world
        self.size = 1 if data.encode is None else 64

    def __len__(self) -> int:
        return -(-len(self.clips) // (self.size * self.world))

    def __iter__(self) -> Iterator[MotionWindows | MotionTexts]:
        for number in range(len(self)):
            start = (number * self.world + self.rank) * self.size
            clips = self.clips[start : start + self.size] or self.clips[: self.size]
            if self.data.encode is None:
                whole = clips[0].features
                yield MotionWindows(torch.from_numpy(whole[: len(whole) // UNIT * UNIT])[None])
            else:
                yield pad([(codes[: self.data.max_codes], clip.captions[0].text)
                           for clip, codes in zip(clips, _codes(clips, self.data.encode), strict=True)])  # fmt: skip


def _source_at(root: str) -> MotionSource:
    if is_humanml3d(Path(root).expanduser()):
        return HumanML3DSource(root)
    return MotionFilesSource(root)


def _read_statistics(folder: Path, layout: FeatureLayout) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for name in ("Mean.npy", "Std.npy"):
        try:
            values = np.load(folder / name, allow_pickle=False).astype(np.float32)
        except (OSError, ValueError, EOFError) as error:
            raise PosesynError(f"data.statistics: {folder / name} cannot be read as a numpy array") from error
        if values.shape != (layout.size,) or not np.isfinite(values).all():
            raise PosesynError(f"{folder / name} holds {values.shape} numbers; ({layout.size},) finite ones expected")
        found.append(values)
    return found[0], found[1]
