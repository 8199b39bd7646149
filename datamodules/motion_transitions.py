"""Motions made of held poses, recorded excerpts and smooth ways between them.

Motion synthesis starts from one pose, repeated for 30 frames, that an estimator got wrong, and has to move from it to
what the caption says. No recording looks like that. Here a motion is a row of segments, each a pose that is held or an
excerpt of a recording; between two segments all joints turn on the shortest way (slerp), slow at both ends. Most
motions start with a hold of 30 frames, often of a disturbed pose: what is wrong with it is put right on the way to the
next. Poses come from a pose space (:mod:`synth.pose_space`) and from the recordings.

The root has no recorded path there: the lowest joint stays where it is, so standing feet do not slide, and the body is
set onto the ground.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from datamodules.motion_clips import HOLD_FRAMES, MAX_FRAMES, Caption, MotionClip, MotionSet, load_clips, save_clips
from datamodules.motion_sources import (
    FoundMotion,
    find_motions,
    is_held_out,
    mirror_motion,
    mirror_text,
    motion_joints,
    to_features,
)
from human.body import BodyModel, load_body
from human.errors import PosesynError
from human.mocap import Motion
from human.motion import mirror_pose, mirror_root
from human.motion_skeleton import HUMANML3D
from human.rng import generator
from synth.captions import describe_motion, describe_poses
from synth.pose_parts import PART_JOINTS, PARTS, between, heading_of
from synth.pose_space import PoseSpace, free_pose_space

_VERSION = 1  # of what is made: raise it when the same settings make other motions
_BLOCK = 256  # motions that share sampled poses
_UP = np.array([0.0, 1.0, 0.0])
_LIMBS = [number for number, name in enumerate(PARTS) if name not in ("tilt", "torso")]


@dataclass(frozen=True)
class TransitionConfig:
    """How a motion is put together. Frames are at 20 per second.

    Args:
        hold_first: share of the motions that start with a hold of 30 frames.
        disturbed: share of these whose held pose is a disturbed one of the pose that follows.
        excerpt: share of the segments that are recorded; the others are held poses.
        way: fewest and most frames between two segments.
        excerpt_frames, still: fewest and most frames of an excerpt and of a held pose.
        frames: fewest and most frames of a motion.
        noise: standard deviation in degrees of the turn that disturbs a joint, of the kind an estimator gets wrong;
            one motion draws its own share of it.
        swapped: chance of each limb of a disturbed pose to come from another pose.
        captions: at most so many of what could be said of a motion.
        turn: largest turn of the heading from one segment to the next, degrees.
    """

    hold_first: float = 0.7
    disturbed: float = 0.75
    excerpt: float = 0.5
    way: tuple[int, int] = (8, 26)
    excerpt_frames: tuple[int, int] = (16, 100)
    still: tuple[int, int] = (1, 14)
    frames: tuple[int, int] = (72, MAX_FRAMES + 1)
    noise: float = 25.0
    swapped: float = 0.2
    captions: int = 3
    turn: float = 60.0


@dataclass
class Segment:
    """(n, 24, 3) rotation vectors, pelvis first, its heading at the first frame zero; (n, 3) place of the pelvis where
    it is recorded; ``texts`` that say what it shows."""

    pose: np.ndarray
    place: np.ndarray | None = None
    texts: tuple[str, ...] = ()


@dataclass
class Assembled:
    """A motion in the making: rotations (T, 24, 3) and, for each frame, the recorded place or NaN (T, 3)."""

    pose: np.ndarray
    place: np.ndarray
    segments: list[Segment] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)  # of each segment


class TransitionSource:
    """``count`` such motions for training; they depend on the seed and the recordings alone.

    Args:
        motion: recordings, as :class:`~datamodules.motion_sources.MotionFilesSource` takes them.
        captions: JSON files of their captions, one for each of ``motion`` or null.
        count: motions to train on. validation: to validate on, from the same recordings.
        held_out: names or patterns of recordings that are not used.
        pose_space: "free", a file of ``PoseSpace.save``, or null for poses of the recordings alone.
        config: how they are put together.
        cache: folder to keep them in: making one takes a tenth of a second.
        body, uniform, weight: as there.
    """

    layout = HUMANML3D

    def __init__(
        self,
        motion: list[str] | None = None,
        captions: list[str | None] | None = None,
        count: int = 1000,
        validation: int = 20,
        held_out: list[str] | None = None,
        pose_space: str | None = "free",
        config: TransitionConfig | None = None,
        cache: str | None = None,
        body: str = "free",
        uniform: bool = True,
        name: str = "transitions",
        weight: float | None = None,
    ) -> None:
        self.motion = motion or ["free"]
        self.captions = captions or [None] * len(self.motion)
        if len(self.captions) != len(self.motion):
            raise PosesynError(f"{name}: give one file of captions (or null) for each of {len(self.motion)} motions")
        if count < 1 or validation < 0:
            raise PosesynError(f"{name}: count={count} must be at least 1 and validation={validation} at least 0")
        self.count, self.validation, self.held_out = count, validation, tuple(held_out or ())
        self.pose_space, self.config = pose_space, config or TransitionConfig()
        self.cache = Path(cache).expanduser() if cache else None
        self.body, self.uniform, self.name, self.weight = body, uniform, name, weight

    def read(self, seed: int) -> MotionSet:
        found = MotionSet()
        recordings = [
            recording
            for where, captions in zip(self.motion, self.captions, strict=True)
            for recording in find_motions(where, captions, found.skipped)
            if not (self.held_out and is_held_out(recording.motion.name, self.held_out, 0.0, seed))
        ]
        if not recordings:
            raise PosesynError(f"{self.name}: all recordings are held out: there is nothing to make motions of")
        space = None
        if self.pose_space is not None:
            space = free_pose_space() if self.pose_space == "free" else PoseSpace.load(self.pose_space)
        maker = TransitionMaker(recordings, space, load_body(self.body), self.config, self.uniform)
        made = self._made(maker, seed)
        found.train, found.validation = made[: self.count], made[self.count :]
        return found

    def _made(self, maker: TransitionMaker, seed: int) -> list[MotionClip]:
        numbers = range(self.count + self.validation)
        if self.cache is None:
            return [maker.clip(seed, number) for number in numbers]
        file = self.cache / f"transitions_{maker.fingerprint(seed, self.body, len(numbers))}.npz"
        if not file.is_file():
            save_clips([maker.clip(seed, number) for number in numbers], file)
        return load_clips(file)


class TransitionMaker:
    """Makes motion number n of a seed."""

    def __init__(
        self,
        recordings: Sequence[FoundMotion],
        space: PoseSpace | None,
        body: BodyModel,
        config: TransitionConfig,
        uniform: bool = True,
    ) -> None:
        self.recordings, self.body, self.config, self.uniform = recordings, body, config, uniform
        self.space = space
        self._blocks: dict[tuple[int, int], np.ndarray] = {}
        self.mirrored = [
            FoundMotion(
                mirror_motion(r.motion), tuple(Caption(mirror_text(c.text), c.start, c.end) for c in r.captions)
            )
            for r in recordings
        ]

    def fingerprint(self, seed: int, body: str, count: int) -> str:
        """Hex digits of everything that decides what is made."""
        digest = hashlib.blake2b(digest_size=8)
        digest.update(repr((_VERSION, seed, body, count, self.config, self.uniform)).encode())
        if self.space is not None:
            for array in (self.space.poses, self.space.labels, self.space.edges):
                digest.update(np.ascontiguousarray(array).tobytes())
        for motion, captions in self.recordings:
            digest.update(repr(captions).encode())
            for array in (motion.body_pose, motion.global_orient, motion.transl):
                digest.update(array.tobytes())
        return digest.hexdigest()

    def clip(self, seed: int, number: int) -> MotionClip:
        rng = generator("motion_transition", seed, number)
        length = int(rng.integers(self.config.frames[0], self.config.frames[1] + 1))
        segments = [self._segment(rng, seed, number)]
        held = rng.random() < self.config.hold_first
        if held:
            segments.insert(0, self._first(rng, seed, number, segments[0]))
        whole = assemble(segments, rng, self.config)
        while len(whole.pose) < length:
            segments.append(self._segment(rng, seed, number))
            whole = assemble(segments, rng, self.config, whole)
        pose, place = whole.pose[:length], whole.place[:length]
        joints = self.joints(pose, place)
        features = to_features(joints, self.uniform)
        shown = [s for s, end in zip(whole.segments, whole.ends, strict=True) if end <= length or s is segments[-1]]
        captions = self._captions(rng, joints, shown[1:] if held else shown, whole.ends, held)
        alone = to_features(np.repeat(joints[:1], HOLD_FRAMES, axis=0), self.uniform) if held else None
        return MotionClip(f"transition_{number:05d}", features, tuple(map(Caption, captions)), alone)

    def joints(self, pose_TJ3: np.ndarray, place_T3: np.ndarray) -> np.ndarray:
        """(T, 22, 3) on the ground, the root where it was recorded and where the lowest joint holds it elsewhere."""
        motion = Motion(pose_TJ3[:, 1:], pose_TJ3[:, 0], np.zeros((len(pose_TJ3), 3)), HUMANML3D.fps, "transition")
        about_root = motion_joints(self.body, motion)
        return about_root + root_path(about_root, place_T3)[:, None]

    # -- segments ----------------------------------------------------------------------------------------------------
    def _segment(self, rng: np.random.Generator, seed: int, number: int) -> Segment:
        if rng.random() < self.config.excerpt:
            return self._excerpt(rng)
        pose = self._pose(rng, seed, number)
        texts = tuple(describe_poses(self._one(pose)))
        return Segment(
            np.repeat(pose[None], int(rng.integers(self.config.still[0], self.config.still[1] + 1)), 0), None, texts
        )

    def _excerpt(self, rng: np.random.Generator) -> Segment:
        number = int(rng.integers(len(self.recordings)))
        motion, captions = (self.mirrored if rng.random() < 0.5 else self.recordings)[number]
        low, high = self.config.excerpt_frames
        length = min(len(motion), int(rng.integers(low, high + 1)))
        start = int(rng.integers(0, len(motion) - length + 1)) if rng.random() < 0.6 else 0
        rows = slice(start, start + length)
        pose = np.concatenate([motion.global_orient[rows, None], motion.body_pose[rows]], 1).astype(np.float64)
        place = motion.transl[rows].astype(np.float64)
        # A part of a motion mostly does not show what the whole does.
        most = length >= 0.6 * len(motion)
        return Segment(*facing(pose, place), texts=tuple(c.text for c in captions if c.whole) if most else ())

    def _pose(self, rng: np.random.Generator, seed: int, number: int) -> np.ndarray:
        """(24, 3), heading zero, of the pose space or of a recording."""
        if self.space is not None and rng.random() < 0.6:
            poses = self._sampled(seed, number // _BLOCK)
            return poses[int(rng.integers(len(poses)))]
        motion = self.recordings[int(rng.integers(len(self.recordings)))].motion
        row = int(rng.integers(len(motion)))
        body, root = motion.body_pose[row], motion.global_orient[row]
        if rng.random() < 0.5:
            body, root = mirror_pose(body), mirror_root(root)
        pose = np.concatenate([root[None], body]).astype(np.float64)
        return facing(pose[None], np.zeros((1, 3)))[0][0]

    def _sampled(self, seed: int, block: int) -> np.ndarray:
        """(n, 24, 3) sampled poses, which some motions share: drawing many at once is a hundred times faster."""
        if (seed, block) not in self._blocks and self.space is not None:
            body, root = self.space.sample(2 * _BLOCK, seed, block * 2 * _BLOCK)
            self._blocks = {(seed, block): np.concatenate([root[:, None], body], 1).astype(np.float64)}
        return self._blocks[seed, block]

    def _first(self, rng: np.random.Generator, seed: int, number: int, following: Segment) -> Segment:
        """The pose that is held: the one that follows, mostly disturbed."""
        pose = following.pose[0].copy()
        if rng.random() < self.config.disturbed:
            other = self._pose(rng, seed, number)
            pose = disturbed(pose, other, rng, self.config)
        return Segment(np.repeat(pose[None], HOLD_FRAMES, 0))

    def _one(self, pose_J3: np.ndarray) -> np.ndarray:
        """(1, 22, 3) joints of one pose."""
        return self.joints(pose_J3[None], np.full((1, 3), np.nan))

    # -- words -------------------------------------------------------------------------------------------------------
    def _captions(
        self, rng: np.random.Generator, joints_TJ3: np.ndarray, shown: list[Segment], ends: list[int], held: bool
    ) -> list[str]:
        """What the describer says of the whole and of a pose on the way, and the segments' own words in a row.

        A hold at the start is not spoken of: at use it is the pose that is wrong.
        """
        start = HOLD_FRAMES if held else 0
        rest = joints_TJ3[start:] if len(joints_TJ3) - start > 8 else joints_TJ3
        found = list(describe_motion(rest))
        middle = int(rng.integers(len(rest) // 4, len(rest)))
        found += describe_poses(rest[middle : middle + 1])
        told = [str(rng.choice(list(s.texts))) for s in shown if s.texts]
        # What comes first is what the motion is asked for: its words are never left out.
        first = told[:1]
        if told:
            found.append(in_a_row(told[:3]))
        found = [text for text in dict.fromkeys(found) if text and text not in first]
        return first + [found[i] for i in sorted(rng.permutation(len(found))[: self.config.captions - len(first)])]


def in_a_row(sentences: Sequence[str]) -> str:
    """ "a person walks." and "someone jumps." as "a person walks, then jumps."."""
    first, *others = (sentence.strip().rstrip(".") for sentence in sentences)
    return ", then ".join([first, *(_without_subject(other) for other in others)]) + "."


def _without_subject(sentence: str) -> str:
    for subject in ("a person ", "the person ", "someone ", "a man ", "the man "):
        if sentence.lower().startswith(subject):
            return sentence[len(subject) :]
    return sentence


def assemble(
    segments: Sequence[Segment], rng: np.random.Generator, config: TransitionConfig, before: Assembled | None = None
) -> Assembled:
    """The segments one after the other, with ways between them; ``before`` holds those of them that are done."""
    whole = before or Assembled(np.zeros((0, 24, 3)), np.zeros((0, 3)))
    for segment in segments[len(whole.segments) :]:
        pose = segment.pose
        place = np.full((len(pose), 3), np.nan) if segment.place is None else segment.place.copy()
        if len(whole.pose):
            held = len(whole.segments) == 1 and len(whole.pose) == HOLD_FRAMES
            turn = heading_of(whole.pose[-1, 0])[0] + (0.0 if held else np.radians(rng.uniform(-1, 1) * config.turn))
            pose, place = turned(pose, place, turn)
            frames = int(rng.integers(config.way[0], config.way[1] + 1))
            share = ease(frames, float(rng.uniform(0.7, 1.4)))
            start, end = (np.repeat(p[None], frames, 0) for p in (whole.pose[-1], pose[0]))
            whole.pose = np.concatenate([whole.pose, between(start, end, share)])
            whole.place = np.concatenate([whole.place, np.full((frames, 3), np.nan)])
        whole.pose, whole.place = np.concatenate([whole.pose, pose]), np.concatenate([whole.place, place])
        whole.segments.append(segment)
        whole.ends.append(len(whole.pose))
    return whole


def ease(frames: int, skew: float = 1.0) -> np.ndarray:
    """(frames,) shares of a way strictly between its ends, slow at both; with ``skew`` above 1 the middle is late."""
    at = (np.arange(1, frames + 1) / (frames + 1)) ** skew
    return at * at * (3 - 2 * at)


def root_path(joints_TJ3: np.ndarray, place_T3: np.ndarray) -> np.ndarray:
    """(T, 3) of the pelvis for joints about it: the recorded steps and heights where ``place`` is not NaN, elsewhere
    the lowest joint keeps its place on the ground and lies at y = 0. Recorded heights are shifted so that a stretch's
    lowest joint touches the ground."""
    frames = len(joints_TJ3)
    lowest = joints_TJ3[..., 1].argmin(1)
    height = -joints_TJ3[np.arange(frames), lowest, 1]
    free = np.isnan(place_T3).any(1)
    support = joints_TJ3[np.arange(frames - 1), lowest[:-1]] - joints_TJ3[np.arange(1, frames), lowest[:-1]]
    recorded = place_T3[1:] - place_T3[:-1]
    step = np.where(np.isnan(recorded), support, recorded)
    path = np.zeros((frames, 3))
    path[1:, [0, 2]] = np.cumsum(step[:, [0, 2]], axis=0)
    path[:, 1] = height
    for stretch in _stretches(~free):
        up = place_T3[stretch, 1]
        path[stretch, 1] = up + (height[stretch] - up).max()
        # In the air at either end: the way leads there and back instead of falling to the ground at once.
        first, last = stretch.start, stretch.stop - 1
        _lift(path, free, first, -1, path[first, 1] - height[first])
        _lift(path, free, last, 1, path[last, 1] - height[last])
    return path


def _stretches(mask_T: np.ndarray) -> list[slice]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask_T.astype(int), [0]])))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _lift(path_T3: np.ndarray, free_T: np.ndarray, at: int, direction: int, by: float, frames: int = 8) -> None:
    for k in range(1, frames):
        row = at + direction * k
        if not (0 <= row < len(free_T) and free_T[row]):
            return
        share = 1 - k / frames
        path_T3[row, 1] += by * share * share * (3 - 2 * share)


def turned(pose_T24x3: np.ndarray, place_T3: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """A motion turned about the vertical."""
    turn = Rotation.from_rotvec(angle * _UP)
    pose = pose_T24x3.copy()
    pose[:, 0] = (turn * Rotation.from_rotvec(pose[:, 0])).as_rotvec()
    return pose, place_T3 @ turn.as_matrix().T


def facing(pose_T24x3: np.ndarray, place_T3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A motion turned so that the heading of its first frame is zero."""
    return turned(pose_T24x3, place_T3, -heading_of(pose_T24x3[0, 0])[0])


def disturbed(
    pose_24x3: np.ndarray, other_24x3: np.ndarray, rng: np.random.Generator, config: TransitionConfig
) -> np.ndarray:
    """A pose as an estimator gets it wrong: each joint turned a little, some limbs as in another pose."""
    pose = pose_24x3.copy()
    for limb in _LIMBS:
        if rng.random() < config.swapped:
            joints = list(PART_JOINTS[limb])
            pose[joints] = other_24x3[joints]
    scale = np.radians(config.noise) * rng.random() * rng.random((24, 1))
    noise = Rotation.from_rotvec(rng.normal(size=(24, 3)) * scale / np.sqrt(3))
    return (Rotation.from_rotvec(pose) * noise).as_rotvec()
