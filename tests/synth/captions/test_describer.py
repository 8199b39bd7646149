"""What the describer says of poses whose words are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from human.errors import PosesynError
from synth.captions.describer import describe_poses
from tests.synth.captions.poses import clip, mirrored, posed, turned

UP = {"left_shoulder": (0, 0, 80), "right_shoulder": (0, 0, -80)}
FORWARD = {"left_shoulder": (0, -90, 0), "right_shoulder": (0, 90, 0)}
OUT = {"left_shoulder": (0, 0, 0), "right_shoulder": (0, 0, 0)}
BEHIND = {"left_shoulder": (50, 0, -80), "right_shoulder": (50, 0, 80)}
KNEE = {"left_hip": (-80, 0, 0), "left_knee": (80, 0, 0)}
SEATED = {"left_hip": (-90, 0, 0), "right_hip": (-90, 0, 0), "left_knee": (90, 0, 0), "right_knee": (90, 0, 0)}

TOLD = {
    "a person is standing with both arms at the sides": posed(),
    "a person is standing with both arms stretched out to the sides": posed(**OUT),
    "a person is standing with both arms raised above the head": posed(**UP),
    "a person is standing with the left arm raised above the head": posed(left_shoulder=(0, 0, 80)),
    "a person is standing with both arms stretched out forward": posed(**FORWARD),
    "a person is standing with both arms behind the body": posed(**BEHIND),
    "a person is standing with both hands on the hips": posed(
        left_shoulder=(30, 0, -50), right_shoulder=(30, 0, 50), left_elbow=(0, 0, -90), right_elbow=(0, 0, 90)
    ),
    "a person bends forward": posed(root=(80, 0, 0), left_hip=(-80, 0, 0), right_hip=(-80, 0, 0)),
    "a person leans back": posed(spine1=(-35, 0, 0)),
    "a person leans to the left": posed(spine1=(0, 0, -35)),
    "a person is squatting": posed(
        root=(30, 0, 0), left_hip=(-120, 0, 0), right_hip=(-120, 0, 0), left_knee=(130, 0, 0), right_knee=(130, 0, 0)
    ),
    "a person is sitting with both arms at the sides": posed(**SEATED),
    "a person is sitting on the floor": posed(left_hip=(-90, 0, 0), right_hip=(-90, 0, 0)),
    "a person is kneeling with": posed(left_knee=(90, 0, 0), right_knee=(90, 0, 0)),
    "a person is kneeling on the left knee": posed(left_knee=(90, 0, 0), right_hip=(-90, 0, 0), right_knee=(90, 0, 0)),
    "a person is lying on the back": posed(root=(-90, 0, 0)),
    "a person is lying on the stomach": posed(root=(90, 0, 0)),
    "a person is lying on the left side": posed(root=(0, 0, -90)),
    "a person is lying on the stomach with the upper body raised": posed(root=(85, 0, 0), spine1=(-40, 0, 0)),
    "a person is doing a handstand": posed(root=(180, 0, 0), **UP),
    "a person is in a push-up position": posed(root=(75, 0, 0), **FORWARD),
    "a person is on hands and knees": posed(root=(90, 0, 0), **FORWARD, **SEATED),
    "a person is standing on the left leg with the right leg raised forward": posed(right_hip=(-80, 0, 0)),
    "a person is standing on the right leg with the left knee raised": posed(**KNEE),
    "a person is standing on the right leg with the left foot lifted behind": posed(left_knee=(90, 0, 0)),
    "a person is standing on the right leg with the left leg raised to the left": posed(left_hip=(0, 0, 50)),
    "a person is standing with the legs wide apart": posed(left_hip=(0, 0, 25), right_hip=(0, 0, -25)),
    "a person is standing with the legs crossed": posed(left_hip=(-12, 0, -20), right_hip=(12, 0, 20)),
    "a person is standing with the left foot in front": posed(left_hip=(-25, 0, 0), right_hip=(20, 0, 0)),
    "a person is standing with the upper body turned to the left": posed(spine1=(0, 20, 0), spine2=(0, 20, 0)),
}  # fmt: skip


@pytest.mark.parametrize("expected", list(TOLD))
def test_a_pose_is_told_as_a_person_would(expected: str) -> None:
    told = describe_poses(TOLD[expected][None])[0]
    assert told.startswith(expected), told


@pytest.mark.parametrize("expected", list(TOLD))
def test_the_mirrored_pose_is_told_with_left_and_right_exchanged(expected: str) -> None:
    told = describe_poses(TOLD[expected][None])[0]
    swapped = told.replace("left", "\0").replace("right", "left").replace("\0", "right")
    mirror = describe_poses(mirrored(TOLD[expected])[None])[0]
    # Left arm first, whichever it is: the same words in another order.
    assert sorted(mirror.replace(",", " and").split()) == sorted(swapped.replace(",", " and").split())


def test_where_the_person_is_and_faces_and_how_large_changes_nothing() -> None:
    poses = np.stack([*TOLD.values(), *clip("dance_a")[::4]])
    told = describe_poses(poses)
    moved = np.stack([turned(p, 73.0) for p in poses]) + np.array([3.0, -2.0, 10.0])
    assert describe_poses(moved) == told
    assert describe_poses(poses * 0.7) == told


def test_seeds_choose_synonyms_and_decide_alone() -> None:
    poses = np.stack(list(TOLD.values()))
    one = describe_poses(poses, seeds=range(len(poses)))
    assert describe_poses(poses[::-1], seeds=range(len(poses))[::-1]) == one[::-1]
    assert len({describe_poses(poses[:1], seeds=[s])[0] for s in range(40)}) > 5
    assert one != describe_poses(poses)


def test_every_caption_is_one_plain_sentence() -> None:
    frames = np.concatenate([clip(n) for n in ("cartwheel", "getup_faceup", "roll", "spinkick", "crawl")])
    for text in describe_poses(frames, seeds=range(len(frames))):
        assert text.isascii()
        assert text == " ".join(text.split())
        assert "{" not in text
        assert 3 <= len(text.split()) <= 45


def test_tensors_of_more_joints_and_activities() -> None:
    pose = torch.tensor(TOLD["a person is kneeling with"], dtype=torch.float32)
    padded = torch.cat([pose, torch.full((10, 3), torch.nan)])[None]  # POSE32 goes on after SMPL's
    assert describe_poses(padded)[0].startswith("a person is kneeling")
    told = describe_poses(padded, ["tennis, singles"])[0]
    assert told == "a person is playing tennis; the person is kneeling with both arms at the sides"


def test_what_cannot_be_read_is_a_person() -> None:
    good = posed()
    poses = np.stack([good, np.full((22, 3), np.nan), np.zeros((22, 3)), np.where(np.eye(22, 3) > 0, np.inf, good)])
    told = describe_poses(poses, ["", "bowling", "", ""])
    assert told[1:] == ["a person is playing bowling", "a person", "a person"]
    assert told[0].startswith("a person is standing")
    assert describe_poses(np.zeros((0, 22, 3))) == []
    with pytest.raises(PosesynError, match="shape"):
        describe_poses(np.zeros((2, 17, 3)))
