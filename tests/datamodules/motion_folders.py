"""HumanML3D folders in the exact format, of made-up motions; and motion files with captions beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from human.body import load_body
from human.motion_features import joints_to_features
from human.motion_joints import body_to_joints22
from tests.human.motion_files import T_POSE, bvh_text


def swaying(frames: int, seed: int = 0) -> np.ndarray:
    """(frames, 263) features of a person who sways, turns and walks."""
    rng = np.random.default_rng(seed)
    phase = np.arange(frames + 1)[:, None, None] * 0.15 + rng.uniform(0, 6, (1, 23, 1))
    pose = 0.3 * np.sin(phase) * rng.normal(size=(1, 23, 3))
    root = np.zeros((frames + 1, 3))
    root[:, 1] = np.linspace(0, rng.uniform(-1, 1), frames + 1)
    place = np.stack([np.linspace(0, 1, frames + 1), np.full(frames + 1, 0.9), np.linspace(0, 0.5, frames + 1)], 1)
    arrays = (torch.from_numpy(a).float() for a in (pose, root, place))
    joints = body_to_joints22(load_body(), torch.zeros(10), *arrays)
    return joints_to_features(joints.double()[None], uniform=True)[0].float().numpy()


def write_humanml3d(root: Path, lengths: tuple[int, ...] = (80, 70, 90), broken: bool = True) -> Path:
    """Motions 000000… of these lengths, the last one to validate on; with ``broken``, also a missing, an unreadable, a
    short and a NaN one, and lines of text without sense."""
    for folder in ("new_joint_vecs", "texts"):
        (root / folder).mkdir(parents=True)
    names = [f"{number:06d}" for number in range(len(lengths))]
    features = [swaying(length, number) for number, length in enumerate(lengths)]
    for name, motion in zip(names, features, strict=True):
        np.save(root / "new_joint_vecs" / f"{name}.npy", motion)
        (root / "texts" / f"{name}.txt").write_text(
            f"a person walks forward {name}.#a/DET person/NOUN walk/VERB forward/ADV#0.0#0.0\n"
            "the man sways.#the/DET man/NOUN sway/VERB#nan#nan\n"
            "a man turns left.#a/DET man/NOUN turn/VERB left/ADV#1.0#2.5\n"
        )
    if broken:
        np.save(root / "new_joint_vecs" / "000090.npy", np.full((70, 263), np.nan, np.float32))
        (root / "new_joint_vecs" / "000091.npy").write_bytes(b"\x93NUMPY and then nothing")
        np.save(root / "new_joint_vecs" / "000092.npy", features[0][:3])
        with (root / "texts" / "000000.txt").open("a") as file:
            file.write("no times#a/DET#soon#later\nbackwards#a/DET#2.0#1.0\n\n")
    extra = ["000090", "000091", "000092", "000099"] if broken else []
    (root / "train.txt").write_text("\n".join([*names[:-1], *extra]) + "\n")
    (root / "val.txt").write_text(names[-1] + "\n")
    (root / "test.txt").write_text(names[-1] + "\n")
    both = np.concatenate(features)
    np.save(root / "Mean.npy", both.mean(0))
    np.save(root / "Std.npy", both.std(0) + 0.01)
    return root


def write_motion_files(root: Path, frames: int = 240) -> Path:
    """``sway.bvh`` at 60 per second with plain captions beside it, ``arms.bvh`` without, and one that is broken."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, name in enumerate(("sway", "arms")):
        wave = 20 * np.sin(
            np.arange(frames)[:, None, None] * 0.05 * (number + 1) + rng.uniform(0, 6, (1, len(T_POSE), 1))
        )
        (root / f"{name}.bvh").write_text(bvh_text(T_POSE, wave * rng.normal(size=(1, len(T_POSE), 3))))
    (root / "sway.txt").write_text("a person sways to the left.\nsomeone waves the right arm#a/DET#0.5#1.5\n")
    (root / "broken.bvh").write_text("HIERARCHY\nROOT\n")
    return root
