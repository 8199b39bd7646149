"""From mined failures to jobs: the plan of a refresh.

A slot is one sample to be made. Its challenge, its seed and the settings decide its pose, how it is framed, where it is
set and whose appearance it takes; an image engine decides nothing but pixels. So the same plan serves an engine in
this process and a fleet of them elsewhere, and two engines are given the same people.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from human.body import BodyModel
from human.interruption import safe_point
from human.prediction import Estimator
from human.rng import derive_seed, generator
from human.rotations import rotvec_to_matrix
from synth.captions.base import CaptionRequest, load_captioner
from synth.eem import Mined, MiningData
from synth.engines.base import Engine, ImageEngine
from synth.jobs import Job, Prompt, Provenance, Reference
from synth.references import References
from synth.scene import SceneConfig, SceneSpec, frame_person, in_fixed_batches
from synth.synthesis import Challenges, Film, Synthesised, Synthesiser


class Clock:
    """Adds up the seconds spent in named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        safe_point()
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - start)

    def add(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


def slot_seed(seed: int, number: int, slot: int) -> int:
    """Seed of sample ``slot`` of refresh ``number`` in a run with ``seed``."""
    return derive_seed(seed, "synth", number, slot)


@dataclass(frozen=True)
class Plan:
    """What is to be made, in the order of the pool's rows.

    Attributes:
        jobs: one per slot.
        fit_mean: pixels, mean 2D error of the poses to the challenges' labels; NaN where nothing was compared.
        report, films: the synthesiser's.
    """

    jobs: list[Job]
    fit_mean: float = float("nan")
    report: dict[str, float | int] = field(default_factory=dict)
    films: tuple[Film, ...] = ()


@dataclass
class Planner:
    """Settings of :meth:`plan`; the fields are :class:`synth.refresh.Refresher`'s."""

    engine: ImageEngine
    synthesiser: Synthesiser
    body: BodyModel
    samples: int
    scene: SceneConfig
    reference_p: float
    wear_p: float
    appearances: int
    render_batch: int

    def plan(
        self,
        estimator: Estimator,
        data: MiningData,
        mined: Mined,
        *,
        number: int,
        seed: int,
        tpe: str,
        clock: Clock | None = None,
    ) -> Plan:
        """A pure function of what was mined, of the settings and the seeds.

        Args:
            number: of the refresh in its run; seeds are made from it.
            seed: of the run.
            tpe: names the estimator's weights, for provenance.
            clock: told what takes how long.
        """
        timed = clock or Clock()
        # Slot s is made of challenge s mod K: every challenge gets its share, the worst the remainder.
        slot_challenge = np.arange(self.samples) % len(mined.challenges)
        seeds = [slot_seed(seed, number, s) for s in range(self.samples)]
        with timed("references"):
            references = References(data, mined.references, estimator, self.body, self._lenders(mined))
            places = [self._placing(s, references) for s in seeds]
        with timed("vary"):
            challenges = self._challenges(data, mined, references, places)
            made = self.synthesiser.synthesise(challenges, slot_challenge, seeds, self.body)
            captions = self._captions(made, challenges)
        with timed("references"):
            provenance = [
                Provenance(data.ids[c], float(mined.errors[c]), tpe) for c in (int(c) for c in mined.challenges)
            ]
            words = [Prompt(caption=c, action=a) for c, a in zip(captions, challenges.activities, strict=True)]
            slots = _Slots(slot_challenge, seeds, places, words, provenance)
            make = self._clips if self.engine.wants_clips else self._pictures
            jobs = list(make(slots, made, references))
        return Plan(jobs, _finite_mean(made.fit), made.report, made.films)

    # -- who lends what ----------------------------------------------------------------------------------------------
    def _lenders(self, mined: Mined) -> int:
        """How many of the references need a body: those that lend their looks; all where the engine looks at them."""
        if self.engine.wants_references:
            return len(mined.references)
        return self.appearances if self.reference_p * self.wear_p > 0 else 0

    def _placing(self, seed: int, references: References) -> Placing:
        """How the sample with ``seed`` is framed and where it is set."""
        rng = generator("placing", seed)
        fov = _field_of_view(rng, self.scene)
        fill = rng.uniform(*self.scene.fill)
        shift = rng.uniform(-self.scene.shift, self.scene.shift, 2)
        scene, wear = rng.random() < self.reference_p, rng.random() < self.wear_p
        if self.engine.wants_references:  # it shows the reference in its place: there is nothing to choose but who
            return Placing(fov, fill, shift, references.choose(rng), False)
        if not scene:
            return Placing(fov, fill, shift, None, False)
        look = references.choose_look(rng) if wear else None
        if look is None:
            return Placing(fov, fill, shift, references.choose(rng), False)
        return Placing(fov, fill, shift, look, True)

    # -- poses -------------------------------------------------------------------------------------------------------
    def _challenges(self, data: MiningData, mined: Mined, references: References, places: list[Placing]) -> Challenges:
        assert mined.crops is not None
        assert mined.predictions is not None
        orient = None
        if self.synthesiser.wants_references:
            nowhere = torch.full((3,), torch.nan)
            orient = torch.stack(
                [nowhere if p.reference is None else references.orientation(p.reference) for p in places]
            )
        names = getattr(data, "activities", None)
        return Challenges(
            mined.predictions,
            mined.crops,
            [data.ids[i] for i in mined.challenges],
            mined.errors[mined.challenges],
            [names[i] if names else "" for i in mined.challenges],
            orient,
        )

    def _captions(self, made: Synthesised, challenges: Challenges) -> list[str]:
        """One per challenge; "" where nobody asks for any."""
        if made.captions:
            return list(made.captions)
        if not self.engine.wants_prompts:
            return [""] * len(challenges)
        request = CaptionRequest(challenges.predictions, challenges.crops.image, challenges.activities)
        return load_captioner().caption(request)

    # -- jobs --------------------------------------------------------------------------------------------------------
    def _pictures(self, slots: _Slots, made: Synthesised, references: References) -> Iterator[Job]:
        """Portions of ``render_batch`` slots, in each those together that bring the same things along."""
        for start in range(0, self.samples, self.render_batch):
            rows = list(range(start, min(start + self.render_batch, self.samples)))
            specs = self._scenes(rows, slots, made, references)
            order = sorted(rows, key=lambda s: (specs[s].background is None, specs[s].atlas is None))  # stable
            for s in order:
                yield self._job(specs[s], s, slots, references)

    def _job(self, scene: SceneSpec, slot: int, slots: _Slots, references: References) -> Job:
        place = slots.places[slot]
        return Job(
            scene,
            slots.seeds[slot],
            prompt=slots.prompt(slot),
            reference=self._reference(place, references),
            provenance=self._provenance(slot, slots, references),
        )

    def _reference(self, place: Placing, references: References) -> Reference | None:
        if not self.engine.wants_references or place.reference is None:
            return None
        return references.person(place.reference)

    def _provenance(self, slot: int, slots: _Slots, references: References) -> Provenance:
        name = "" if self.engine.wants_references else references.name(slots.places[slot].reference)
        return replace(slots.provenance[slots.challenge[slot]], place_id=name)

    def _scenes(
        self, rows: list[int], slots: _Slots, made: Synthesised, references: References
    ) -> dict[int, SceneSpec]:
        """Each slot's scene, one row; only engines that render get what references bring along."""
        here = [slots.places[s] for s in rows]
        betas, pose, orient = made.betas[rows], made.body_pose[rows], made.global_orient[rows]
        fov, fill = torch.tensor([p.fov for p in here]), torch.tensor([p.fill for p in here])
        shift = torch.tensor(np.stack([p.shift for p in here]))
        with torch.inference_mode():
            # A few at a time, always as many: sums over other batches round differently, and labels would depend on it.
            posed = (betas, rotvec_to_matrix(pose), rotvec_to_matrix(orient))
            (joints,) = in_fixed_batches(lambda *part: (self.body.joints(*part),), *posed)
        transl, intrinsics = frame_person(joints, self.engine.size, fov, fill, shift)
        seeds = torch.tensor([slots.seeds[s] for s in rows])
        everything = SceneSpec(betas, pose, orient, transl, intrinsics, seeds)
        specs = {s: everything[k : k + 1] for k, s in enumerate(rows)}
        if isinstance(self.engine, Engine):
            specs = {s: self._dressed(spec, slots.places[s], references) for s, spec in specs.items()}
        return specs

    def _dressed(self, spec: SceneSpec, place: Placing, references: References) -> SceneSpec:
        """With the place and the looks that a reference lends; slots share its tensors."""
        if place.reference is None:
            return spec
        background = torch.from_numpy(references.scene(place.reference, self.engine.size))[None]
        look = references.appearance(place.reference) if place.worn else None
        if look is None:
            return replace(spec, background=background)
        atlas, light = torch.from_numpy(look.atlas)[None], torch.from_numpy(look.light)[None]
        return replace(spec, background=background, atlas=atlas, light=light)

    def _clips(self, slots: _Slots, made: Synthesised, references: References) -> Iterator[Job]:
        """A clip per slot, framed about the slot's pose as its picture would be."""
        from synth.clips import clip_job, clips_for

        people = [self._reference(p, references) for p in slots.places]
        clips = clips_for(made, self.body, [None if p is None else p.body for p in people])
        for s, (place, person) in enumerate(zip(slots.places, people, strict=True)):
            yield clip_job(
                clips,
                s,
                made.betas[s],
                self.body,
                size=self.engine.size,
                field_of_view=place.fov,
                fill=place.fill,
                shift=place.shift,
                seed=slots.seeds[s],
                prompt=slots.prompt(s),
                reference=person,
                provenance=self._provenance(s, slots, references),
            )


@dataclass(frozen=True)
class Placing:
    """Degrees of view, share filled, shift of the middle; the reference whose scene it is, if any, and whether its
    appearance is worn too.
    """

    fov: float
    fill: float
    shift: np.ndarray
    reference: int | None
    worn: bool


@dataclass(frozen=True)
class _Slots:
    """What is known of each slot; ``words`` and ``provenance`` are the challenges'."""

    challenge: np.ndarray
    seeds: list[int]
    places: list[Placing]
    words: list[Prompt]
    provenance: list[Provenance]

    def prompt(self, slot: int) -> Prompt:
        return self.words[self.challenge[slot]]


def _finite_mean(values: torch.Tensor) -> float:
    return float(values[values.isfinite()].mean())


def _field_of_view(rng: np.random.Generator, scene: SceneConfig) -> float:
    """Degrees of the crop: the photograph's, of which the crop shows a part."""
    whole = np.deg2rad(rng.uniform(*scene.field_of_view))
    zoom = np.exp(rng.uniform(*np.log(scene.crop_zoom)))
    return float(np.rad2deg(2 * np.arctan(np.tan(whole / 2) / zoom)))
