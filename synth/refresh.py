"""One refresh: mine, synthesise, filter, commit a generation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch

from human.batch import PoseBatch
from human.body import BodyModel, load_body
from human.errors import PosesynError
from human.prediction import Estimator
from human.rng import derive_seed, generator
from human.rotations import rotvec_to_matrix
from synth.eem import EEM, Mined, MiningData
from synth.engines.base import Engine
from synth.filters import Err3DFilter
from synth.pool import GenerationInfo, Pool
from synth.references import References
from synth.sample import LABEL_SHAPES, Sample
from synth.scene import SceneConfig, SceneSpec, frame_person, in_fixed_batches
from synth.synthesis import Challenges, Film, Synthesised, Synthesiser, Variation
from synth.variation import VariationConfig

# Told (stage, done, total) as the refresh goes on.
Progress = Callable[[str, int, int], None]


def slot_seed(seed: int, number: int, slot: int) -> int:
    """Seed of sample ``slot`` of refresh ``number`` in a run with ``seed``."""
    return derive_seed(seed, "synth", number, slot)


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did; ``samples`` are those kept, at most ``gallery`` of them, for pictures; ``report`` and
    ``films`` are the synthesiser's.
    """

    info: GenerationInfo | None
    mined: Mined
    challenge_error: float
    err3d_mean: float
    fit_mean: float
    seconds: dict[str, float]
    samples: PoseBatch | None = None
    sample_errors: np.ndarray = field(default_factory=lambda: np.zeros(0))
    sample_passed: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    report: dict[str, float | int] = field(default_factory=dict)
    films: tuple[Film, ...] = ()

    @property
    def pass_rate(self) -> float:
        return self.info.passed / self.info.count if self.info and self.info.count else float("nan")


@dataclass
class Refresher:
    """The parts of a refresh and their settings.

    Args:
        engine: the image engine.
        samples: synthetic samples to make (before the filter), shared evenly by the challenges.
        eem, variation, filter: settings of the parts.
        synthesiser: makes the poses; None: "variation" with these settings.
        scene: framing and field of view of the new pictures.
        reference_p: share of samples set in a reference's picture with its person removed; the rest gets free
            backgrounds.
        wear_p: share of those who also wear the reference's appearance (:mod:`synth.reprojection`), where the engine's
            body is the estimator's.
        appearances: how many references, the best ones, may lend theirs; each takes about a third of a second.
        render_batch: scenes per engine call.
        gallery: samples kept in memory for pictures.
    """

    engine: Engine
    samples: int = 500
    eem: EEM = field(default_factory=EEM)
    variation: VariationConfig = field(default_factory=VariationConfig)
    filter: Err3DFilter = field(default_factory=Err3DFilter)
    scene: SceneConfig = field(default_factory=SceneConfig)
    reference_p: float = 0.6
    wear_p: float = 0.5
    appearances: int = 16
    render_batch: int = 32
    gallery: int = 24
    synthesiser: Synthesiser | None = None
    body: BodyModel = field(init=False)

    def __post_init__(self) -> None:
        shares = (self.reference_p, self.wear_p)
        if self.samples < 1 or self.render_batch < 1 or self.appearances < 0 or not all(0 <= p <= 1 for p in shares):
            raise PosesynError(
                "a refresh needs samples >= 1, render_batch >= 1, appearances >= 0, and reference_p and wear_p in "
                f"0 .. 1, got {self.samples}, {self.render_batch}, {self.appearances} and {shares}"
            )
        self.body = load_body("free")
        self._synthesiser = self.synthesiser or Variation(self.variation)

    @property
    def made_by(self) -> str:
        """Names the synthesiser and its settings, for provenance."""
        return f"{self._synthesiser.name}:{self._synthesiser.config_hash()}"

    def run(
        self,
        estimator: Estimator,
        data: MiningData,
        pool: Pool,
        *,
        generation: int,
        number: int,
        seed: int,
        tpe_hash: str,
        done: GenerationInfo | None = None,
        progress: Progress | None = None,
    ) -> Refreshed:
        """Mine ``data`` with ``estimator`` and commit ``generation`` to ``pool``.

        Everything drawn is a function of (estimator, data, settings, seed, number). Nothing is committed when nobody
        could be mined: the caller goes on with what the pool has.

        Args:
            generation: number to commit under.
            number: of the refresh in its run; seeds are made from it.
            seed: of the run.
            tpe_hash: names the estimator's weights, for provenance.
            done: this very refresh, committed before a crash: mine only.
        """
        tell = progress or (lambda stage, done, total: None)
        clock = _Clock()
        tell("mine", 0, 1)
        with clock("mine"):
            mined = self.eem.mine(estimator, data, generator(seed, "eem", number))
        tell("mine", 1, 1)
        if mined.crops is None or mined.predictions is None:
            return Refreshed(None, mined, float("nan"), float("nan"), float("nan"), clock.seconds)
        challenge_error = float(mined.errors[mined.challenges].mean())
        if done is not None:
            return Refreshed(done, mined, challenge_error, float("nan"), float("nan"), clock.seconds)
        # Slot s is made of challenge s mod K: every challenge gets its share, the worst the remainder.
        slot_challenge = np.arange(self.samples) % len(mined.challenges)
        seeds = [slot_seed(seed, number, s) for s in range(self.samples)]
        with clock("references"):
            wanted = self.appearances if self.reference_p * self.wear_p > 0 else 0
            references = References(data, mined.references, estimator, self.body, wanted)
            places = [self._placing(number, references) for number in seeds]
        with clock("vary"):
            made = self._synthesise(mined, data, slot_challenge, seeds, references, places)
        kept: list[PoseBatch] = []
        kept_error: list[np.ndarray] = []
        kept_passed: list[np.ndarray] = []
        all_errors: list[np.ndarray] = []

        def produce() -> Iterator[Sample]:
            for start in range(0, self.samples, self.render_batch):
                slots = np.arange(start, min(start + self.render_batch, self.samples))
                with clock("render"):
                    spec, reference = self._scenes(slots, seeds, made, places, references)
                    batch, order = self._render(spec)
                with clock("filter"):
                    error, passed = self.filter(estimator, batch)
                all_errors.append(error)
                if sum(len(k) for k in kept) < self.gallery:
                    kept.append(batch)
                    kept_error.append(error)
                    kept_passed.append(passed)
                for k, s in enumerate(order):
                    slot = slots[s]
                    challenge = int(mined.challenges[slot_challenge[slot]])
                    yield _sample(
                        batch,
                        k,
                        engine=self.engine.name,
                        engine_config=self.engine.config_hash(),
                        challenge_id=data.ids[challenge],
                        challenge_error=float(mined.errors[challenge]),
                        reference_id=reference[s],
                        caption=made.captions[slot_challenge[slot]] if made.captions else "",
                        seed=seeds[slot],
                        tpe=tpe_hash,
                        err3d=float(error[k]) if np.isfinite(error[k]) else None,
                        passed=bool(passed[k]),
                    )
                tell("synthesise", int(slots[-1]) + 1, self.samples)

        start_commit = time.perf_counter()
        info = pool.commit(generation, produce(), self.made_by)
        inside = clock.seconds.get("render", 0.0) + clock.seconds.get("filter", 0.0)
        clock.seconds["commit"] = time.perf_counter() - start_commit - inside
        errors = np.concatenate(all_errors)
        n = self.gallery
        return Refreshed(
            info,
            mined,
            challenge_error,
            float(np.nanmean(errors)) if np.isfinite(errors).any() else float("nan"),
            _finite_mean(made.fit),
            clock.seconds,
            PoseBatch.cat(kept)[:n],
            np.concatenate(kept_error)[:n],
            np.concatenate(kept_passed)[:n],
            made.report,
            made.films,
        )

    def _synthesise(
        self,
        mined: Mined,
        data: MiningData,
        slot_challenge: np.ndarray,
        seeds: list[int],
        references: References,
        places: list[_Placing],
    ) -> Synthesised:
        assert mined.crops is not None
        assert mined.predictions is not None
        orient = None
        if self._synthesiser.wants_references:
            nowhere = torch.full((3,), torch.nan)
            orient = torch.stack(
                [nowhere if p.reference is None else references.orientation(p.reference) for p in places]
            )
        names = getattr(data, "activities", None)
        challenges = Challenges(
            mined.predictions,
            mined.crops,
            [data.ids[i] for i in mined.challenges],
            mined.errors[mined.challenges],
            [names[i] if names else "" for i in mined.challenges],
            orient,
        )
        return self._synthesiser.synthesise(challenges, slot_challenge, seeds, self.body)

    def _placing(self, seed: int, references: References) -> _Placing:
        """How the sample with ``seed`` is framed and where it is set."""
        rng = generator("placing", seed)
        fov = _field_of_view(rng, self.scene)
        fill = rng.uniform(*self.scene.fill)
        shift = rng.uniform(-self.scene.shift, self.scene.shift, 2)
        return _Placing(fov, fill, shift, *self._reference(rng, references))

    def _scenes(
        self,
        slots: np.ndarray,
        seeds: list[int],
        made: Synthesised,
        places: list[_Placing],
        references: References,
    ) -> tuple[list[tuple[np.ndarray, SceneSpec]], list[str]]:
        """Scenes of some slots, as (rows, spec) groups that bring the same things along; and each row's reference."""
        here = [places[s] for s in slots]
        betas, pose, orient = made.betas[slots], made.body_pose[slots], made.global_orient[slots]
        fov, fill = torch.tensor([p.fov for p in here]), torch.tensor([p.fill for p in here])
        shift = torch.tensor(np.stack([p.shift for p in here]))
        with torch.inference_mode():
            # A few at a time, always as many: sums over other batches round differently, and labels would depend on it.
            posed = (betas, rotvec_to_matrix(pose), rotvec_to_matrix(orient))
            (joints,) = in_fixed_batches(lambda *part: (self.body.joints(*part),), *posed)
        transl, intrinsics = frame_person(joints, self.engine.size, fov, fill, shift)
        everything = SceneSpec(betas, pose, orient, transl, intrinsics, torch.tensor([seeds[s] for s in slots]))
        groups = []
        for scene, worn in ((True, True), (True, False), (False, False)):
            numbers = [
                (k, p.reference) for k, p in enumerate(here) if (p.reference is not None) == scene and p.worn == worn
            ]
            if not numbers:
                continue
            rows = np.array([k for k, _ in numbers], dtype=np.int64)
            spec = everything[torch.from_numpy(rows)]
            if scene:
                pictures = np.stack([references.scene(c, self.engine.size) for _, c in numbers if c is not None])
                spec = replace(spec, background=torch.from_numpy(pictures))
            if worn:
                looks = [look for _, c in numbers if c is not None and (look := references.appearance(c)) is not None]
                atlas, light = (torch.from_numpy(np.stack([getattr(x, n) for x in looks])) for n in ("atlas", "light"))
                spec = replace(spec, atlas=atlas, light=light)
            groups.append((rows, spec))
        return groups, [references.name(p.reference) for p in here]

    def _reference(self, rng: np.random.Generator, references: References) -> tuple[int | None, bool]:
        scene, wear = rng.random() < self.reference_p, rng.random() < self.wear_p
        if not scene:
            return None, False
        look = references.choose_look(rng) if wear else None
        return (references.choose(rng), False) if look is None else (look, True)

    def _render(self, groups: list[tuple[np.ndarray, SceneSpec]]) -> tuple[PoseBatch, np.ndarray]:
        return PoseBatch.cat([self.engine.render(spec) for _, spec in groups]), np.concatenate(
            [rows for rows, _ in groups]
        )


@dataclass(frozen=True)
class _Placing:
    """Degrees of view, share filled, shift of the middle; the reference whose scene it is, if any, and whether its
    appearance is worn too.
    """

    fov: float
    fill: float
    shift: np.ndarray
    reference: int | None
    worn: bool


class _Clock:
    """Adds up the seconds spent in named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def _finite_mean(values: torch.Tensor) -> float:
    return float(values[values.isfinite()].mean())


def _field_of_view(rng: np.random.Generator, scene: SceneConfig) -> float:
    """Degrees of the crop: the photograph's, of which the crop shows a part."""
    whole = np.deg2rad(rng.uniform(*scene.field_of_view))
    zoom = np.exp(rng.uniform(*np.log(scene.crop_zoom)))
    return float(np.rad2deg(2 * np.arctan(np.tan(whole / 2) / zoom)))


def _sample(batch: PoseBatch, row: int, *, passed: bool, **provenance: object) -> Sample:
    if not passed:
        return Sample(passed=False, **provenance)  # type: ignore[arg-type]
    pixels = batch.image[row].permute(1, 2, 0).contiguous().numpy()
    ok, encoded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert ok
    labels = {name: getattr(batch, name)[row] for name in LABEL_SHAPES}
    return Sample(image=encoded.tobytes(), passed=True, **labels, **provenance)  # type: ignore[arg-type]
