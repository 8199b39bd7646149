"""Motion files and motion banks as training clips: at HumanML3D's rate, on one skeleton, with captions."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatch
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from datamodules.humanml3d import read_captions
from datamodules.motion_clips import MAX_FRAMES, Caption, MotionClip, MotionSet, usable
from human.body import BodyModel, load_body
from human.errors import PosesynError
from human.mocap import Motion, read_motion, read_motion_files
from human.motion import MOTION_BANKS, MotionBank, load_motion_bank, mirror_pose, mirror_root
from human.motion_features import joints_to_features
from human.motion_joints import body_to_joints22
from human.motion_skeleton import HUMANML3D
from human.rng import key_hash
from synth.captions import describe_motion

log = logging.getLogger(__name__)
_SIDES = re.compile(r"\b(counter-?clockwise|anti-?clockwise|clockwise|left|right)\b", re.IGNORECASE)


class FoundMotion(NamedTuple):
    """A motion at the features' rate, with what is known about it in words."""

    motion: Motion
    captions: tuple[Caption, ...]


class MotionFilesSource:
    """Motion capture as training clips.

    Motions longer than HumanML3D's longest are cut into pieces that overlap by half. Without captions of their own,
    the rule-based describer says what a piece shows.

    Args:
        motion: a folder of AMASS, BVH, Acclaim or DeepMimic files, one such file, or a bank by name ("free").
        captions: JSON file {clip name: [captions]}; default: ``NAME.txt`` beside each motion file (plain sentences, or
            HumanML3D's ``caption#tokens#from#to``), and for the bank "free" those that ship with it.
        describe: also use the describer where a motion has captions.
        mirror: also train on each motion with left and right exchanged.
        held_out: clips to validate on, names or patterns ("03_*"); empty: ``validation`` of them, by their names.
        validation: share of the clips that is held out where ``held_out`` names none.
        body: whose proportions the joints come from.
        uniform: put all motions onto HumanML3D's one skeleton.
        weight: share of the training draws; default: by the number of clips.
    """

    layout = HUMANML3D

    def __init__(
        self,
        motion: str = "free",
        captions: str | None = None,
        describe: bool = False,
        mirror: bool = True,
        held_out: list[str] | None = None,
        validation: float = 0.05,
        body: str = "free",
        uniform: bool = True,
        name: str | None = None,
        weight: float | None = None,
    ) -> None:
        self.motion, self.captions, self.describe, self.mirror = motion, captions, describe, mirror
        self.held_out, self.validation = tuple(held_out or ()), validation
        self.body, self.uniform, self.weight = body, uniform, weight
        self.name = name or (motion if motion in MOTION_BANKS.names() else Path(motion).name)
        if not 0 <= validation < 1:
            raise PosesynError(f"{self.name}: validation={validation} must be a share, 0 to below 1")

    def read(self, seed: int) -> MotionSet:
        found = MotionSet()
        body = load_body(self.body)
        for motion, captions in find_motions(self.motion, self.captions, found.skipped):
            held = is_held_out(motion.name, self.held_out, self.validation, seed)
            for mirrored in (False, True) if self.mirror and not held else (False,):
                clips = self._clips(body, motion, captions, mirrored, found.skipped)
                (found.validation if held else found.train).extend(clips)
        if not found.train and not found.validation:
            raise PosesynError(
                f"no motion of {self.motion} can be trained on ({found.describe_skipped() or 'there are none'})"
            )
        return found

    def _clips(
        self, body: BodyModel, motion: Motion, captions: tuple[Caption, ...], mirrored: bool, skipped: Counter[str]
    ) -> list[MotionClip]:
        if len(motion) < 2:
            skipped["shorter than 4 frames"] += 1
            return []
        name = motion.name
        if mirrored:
            motion, name = mirror_motion(motion), f"M{name}"
            captions = tuple(Caption(mirror_text(c.text), c.start, c.end) for c in captions)
        joints = motion_joints(body, motion)
        features = to_features(joints, self.uniform)
        if reason := usable(features):
            skipped[reason] += 1
            return []
        clips = []
        whole = tuple(c for c in captions if c.whole)
        if whole or not captions:
            for number, rows in enumerate(pieces(len(features))):
                said = whole
                if self.describe or not whole:
                    said += tuple(Caption(text) for text in describe_motion(joints[rows]))
                piece = f"{name}_{number}" if len(features) > MAX_FRAMES else name
                clips.append(MotionClip(piece, features[rows], said))
        for caption in captions:
            if caption.whole:
                continue
            start = int(caption.start * HUMANML3D.fps)
            part = features[start : min(int(caption.end * HUMANML3D.fps), start + MAX_FRAMES)]
            if reason := usable(part):
                skipped[f"captioned part {reason}"] += 1
                continue
            clips.append(MotionClip(f"{name}_{caption.start:g}_{caption.end:g}", part, (Caption(caption.text),)))
        return clips


def find_motions(where: str, captions: str | None, skipped: Counter[str] | None = None) -> list[FoundMotion]:
    """The motions of a folder, file or bank at the features' rate."""
    table = _read_table(captions)
    failures: list[str] = []
    path = Path(where).expanduser()
    named: list[tuple[Path | None, Motion]]
    if where in MOTION_BANKS.names() or not path.exists():
        bank = load_motion_bank(where)
        if not bank.fps:
            raise PosesynError(f"the motion bank {where!r} is of single poses in no order: a motion is needed")
        named = [(None, motion) for motion in bank_motions(bank)]
        if where == "free" and captions is None:
            table = free_captions()
    elif path.is_dir():
        named = [(file, motion) for file, motion in read_motion_files(path, failures)]
    else:
        named = [(path, read_motion(path))]
    if skipped is not None and failures:
        skipped["unreadable"] += len(failures)
    found = []
    for file, motion in named:
        said = table.get(motion.name, ())
        beside = file.with_suffix(".txt") if file is not None else None
        if not said and beside is not None and beside != file and beside.is_file():
            said = tuple(read_captions(beside, skipped))
        found.append(FoundMotion(motion.resampled(HUMANML3D.fps), said))
    return found


def bank_motions(bank: MotionBank) -> list[Motion]:
    """The clips of a bank."""
    motions = []
    for number, name in enumerate(bank.clip_names):
        rows = np.flatnonzero(bank.clip == number)
        motions.append(Motion(bank.poses[rows], bank.root[rows], bank.position[rows], bank.fps, name))
    return motions


@lru_cache(maxsize=1)
def free_captions() -> dict[str, tuple[Caption, ...]]:
    text = (files("datamodules") / "data" / "free_motion_captions.json").read_text(encoding="utf-8")
    return {name: tuple(map(Caption, said)) for name, said in json.loads(text).items()}


def _read_table(path: str | None) -> dict[str, tuple[Caption, ...]]:
    if path is None:
        return {}
    file = Path(path).expanduser()
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): tuple(Caption(str(text)) for text in said) for name, said in content.items()}
    except FileNotFoundError:
        raise PosesynError(f"there is no file of captions {file}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise PosesynError(f"{file} is not a JSON table of captions {{clip name: [captions]}}") from error


def is_held_out(name: str, patterns: Iterable[str], share: float, seed: int) -> bool:
    """Whether a clip is validated on; without patterns by its name, so that it does not depend on the other clips."""
    if patterns := tuple(patterns):
        return any(fnmatch(name, pattern) for pattern in patterns)
    return key_hash("held out", seed, name) % 10_000 < share * 10_000


def pieces(frames: int) -> list[slice]:
    """Parts of a motion of up to `MAX_FRAMES` rows that overlap by half, together all of it."""
    if frames <= MAX_FRAMES:
        return [slice(0, frames)]
    starts = [*range(0, frames - MAX_FRAMES, MAX_FRAMES // 2), frames - MAX_FRAMES]
    return [slice(start, start + MAX_FRAMES) for start in starts]


def mirror_motion(motion: Motion) -> Motion:
    return Motion(
        mirror_pose(motion.body_pose),
        mirror_root(motion.global_orient),
        motion.transl * np.array([-1, 1, 1], np.float32),
        motion.fps,
        motion.name,
    )


def mirror_text(text: str) -> str:
    """A caption of the mirrored motion: left for right, and clockwise for counterclockwise."""

    def swap(found: re.Match[str]) -> str:
        word = found.group().lower()
        new = {"left": "right", "right": "left", "clockwise": "counterclockwise"}.get(word, "clockwise")
        return new.capitalize() if found.group()[0].isupper() else new

    return _SIDES.sub(swap, text)


@torch.no_grad()
def motion_joints(body: BodyModel, motion: Motion) -> np.ndarray:
    """(T, 22, 3) joints of a body of average shape in metres, y up."""
    pose, root, place = (torch.from_numpy(a) for a in (motion.body_pose, motion.global_orient, motion.transl))
    return body_to_joints22(body, torch.zeros(body.num_betas), pose, root, place).numpy()


def to_features(joints_TJ3: np.ndarray, uniform: bool) -> np.ndarray:
    """(T-1, 263) float32; computed in float64, as angles are accumulated."""
    joints = torch.from_numpy(joints_TJ3).double()[None]
    return joints_to_features(joints, HUMANML3D, uniform=uniform)[0].float().numpy()
