"""Motions from wrong poses, by real networks of tiny size with random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from human.camera import level_flip
from human.errors import PosesynError
from human.motion_joints import body_to_joints22
from human.rotations import matrix_to_rotvec, rotation_about, rotvec_to_matrix
from synth.msm.clip import window
from synth.msm.film import film_strip, shown_frames
from synth.msm.generate import MSM
from synth.msm.pair import MotionPair
from synth.msm.picking import pick_by_labels, pick_uniform, usable_frames
from synth.msm.start import start_poses
from synth.synthesis import Challenges, Synthesised
from synth.synthesisers import make_synthesiser
from tests.synth.motion_pairs import save_pair, tiny_pair
from tests.synth.test_synthesis import BODY, FEW, parts, some_challenges

SLOTS, SEEDS = np.array([0, 1, 2, 3, 0, 1]), [5, 6, 7, 8, 9, 10]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_pair(tmp_path_factory.mktemp("pair"))


def make(pair: str, name: str = "msm", **options: Any) -> MSM:
    return make_synthesiser(name, {"pair": pair, **options}, FEW)  # type: ignore[return-value]


def run(msm: MSM, some: Challenges | None = None, slots: np.ndarray = SLOTS, seeds: list[int] = SEEDS) -> Synthesised:
    return msm.synthesise(some or some_challenges(), slots, seeds, BODY)


def test_a_pose_for_every_slot(pair: str) -> None:
    made = run(make(pair))
    assert [tuple(t.shape) for t in parts(made)] == [(6, 10), (6, 23, 3), (6, 3), (6,)]
    assert all(t.isfinite().all() for t in parts(made)[:3])
    assert made.fit.isnan().all()  # nothing was compared
    assert len(made.captions) == 4
    assert all(c for c in made.captions)
    assert (made.report["slots"], made.report["fell_back"]) == (6, 0)
    assert 7 < made.report["motion_codes"] <= 12
    assert 0 < made.report["fit_mm"] < 30
    assert len(torch.unique(made.body_pose.flatten(1), dim=0)) == 6
    assert [f.challenge for f in made.films] == [0, 1, 2, 3]


@pytest.mark.parametrize("options", [{}, {"select": "labels", "variants": 2}, {"name": "msm_text_only"}])
def test_a_slot_is_a_function_of_its_challenge_and_seed(pair: str, options: dict[str, Any]) -> None:
    whole = run(make(pair, **options))
    assert all(torch.equal(a, b) for a, b in zip(parts(whole)[:3], parts(run(make(pair, **options)))[:3], strict=True))
    rows = [4, 1]
    some = run(make(pair, **options), slots=SLOTS[rows], seeds=[SEEDS[r] for r in rows])
    # In other company: the same frames, of which only the fit is rounded otherwise.
    for got, wanted in zip(parts(some)[:3], parts(whole)[:3], strict=True):
        torch.testing.assert_close(got, wanted[rows], rtol=0, atol=1e-3)
    other = run(make(pair, **options), seeds=[s + 100 for s in SEEDS])
    assert not torch.equal(other.body_pose, whole.body_pose)


def test_the_held_pose_is_the_predicted_one() -> None:
    some = some_challenges()
    starts = start_poses(some.predictions, BODY, tiny_pair(), 30)
    assert starts.codes.shape == (4, 7)
    seen = body_to_joints22(BODY, starts.betas, some.predictions.body_pose, some.predictions.global_orient)
    # The pose in the motion's frame, turned by the heading and to the camera's axes, is the predicted one.
    own = body_to_joints22(BODY, starts.betas, some.predictions.body_pose, starts.orient)
    back = level_flip((rotation_about("y", starts.heading)[:, None] @ own[..., None])[..., 0])
    torch.testing.assert_close(back, seen, rtol=0, atol=1e-5)
    across = own[:, 1] - own[:, 2]  # left hip to the person's left, which is +x of one who faces +z
    assert (across[:, 0] > 0).all()


def test_a_reference_turns_the_motion(pair: str) -> None:
    some = some_challenges()
    own = some.predictions.global_orient[SLOTS]
    quarter = rotation_about("y", torch.full((6,), 0.5))
    turned = matrix_to_rotvec(quarter @ rotvec_to_matrix(own))
    turned[3] = torch.nan
    msm = make(pair)
    assert msm.wants_references
    alone = run(msm, some)
    like_own, beside = (run(msm, replace(some, reference_orient=r)) for r in (own, turned))
    torch.testing.assert_close(like_own.global_orient, alone.global_orient)
    torch.testing.assert_close(beside.body_pose, alone.body_pose)
    expected = quarter @ rotvec_to_matrix(alone.global_orient)
    got = rotvec_to_matrix(beside.global_orient)
    there = [0, 1, 2, 4, 5]
    torch.testing.assert_close(got[there], expected[there], rtol=0, atol=1e-4)
    torch.testing.assert_close(beside.global_orient[3], alone.global_orient[3])  # a slot without a reference
    ignored = run(make(pair, orientation="challenge"), replace(some, reference_orient=turned))
    torch.testing.assert_close(ignored.global_orient, alone.global_orient)


def test_labels_choose_the_frame_that_explains_them(pair: str) -> None:
    chosen, more = (run(make(pair, select="labels", variants=v)) for v in (1, 3))
    assert chosen.fit.isfinite().all()
    assert (more.fit <= chosen.fit + 1e-4).all()  # the first motion is among the three
    assert more.fit.mean() < chosen.fit.mean()


def test_without_labels_any_frame_will_do(pair: str) -> None:
    some = some_challenges()
    crops = some.crops.replace(joints2d_conf=some.crops.joints2d_conf * 0)
    made = run(make(pair, select="labels"), replace(some, crops=crops))
    assert made.body_pose.isfinite().all()
    assert made.report["fell_back"] == 0


# -- clips -----------------------------------------------------------------------------------------------------------
def filmed(pair: str, **options: Any) -> tuple[MSM, Synthesised]:
    msm = make(pair, clip_frames=9, **options)
    msm.wants_clips = True
    return msm, run(msm)


def test_clips_are_the_motion_around_the_pose(pair: str) -> None:
    msm, made = filmed(pair)
    plain = run(make(pair))
    assert plain.clips is None
    assert torch.equal(made.body_pose, plain.body_pose)  # asking for clips changes no pose
    clips = made.clips
    assert clips is not None
    assert clips.body_pose.shape == (6, 9, 23, 3)
    rows, keep = torch.arange(6), list(clips.keep)
    assert torch.equal(clips.body_pose[rows, keep], made.body_pose)
    assert torch.equal(clips.global_orient[rows, keep], made.global_orient)
    assert not clips.offset[rows, keep].any()
    assert all(getattr(clips, n).isfinite().all() for n in ("body_pose", "global_orient", "offset"))
    # A film shows the same motion, in its own axes: every step of the pelvis is as long, every limb as placed.
    for film in made.films:
        s, start = film.challenge, film.picked[0] - clips.keep[film.challenge]
        motion = film.joints[start : start + 9]
        shown = body_to_joints22(BODY, made.betas[s], clips.body_pose[s], clips.global_orient[s], clips.offset[s])
        for t in range(1, len(motion)):
            mine, theirs = shown[t] - shown[0], motion[t] - motion[0]
            torch.testing.assert_close(mine.norm(dim=1), theirs.norm(dim=1), rtol=0, atol=0.03)
            torch.testing.assert_close(-mine[:, 1], theirs[:, 1], rtol=0, atol=0.03)  # up is up
    assert msm.config_hash() != make(pair, clip_frames=9).config_hash()


def test_slots_that_fall_back_hold_their_pose(pair: str) -> None:
    _, made = filmed(pair, captioner="mute")
    assert made.report["fell_back"] == 3
    assert made.clips is not None
    for s in (1, 3, 5):
        assert torch.equal(made.clips.body_pose[s], made.body_pose[s].expand(9, 23, 3))
        assert not made.clips.offset[s].any()


def test_windows_lie_in_the_motion_about_the_frame() -> None:
    index, at = window(torch.tensor([10, 3, 19, 6]), 2, torch.tensor([20, 20, 20, 8]), 5)
    assert index.tolist() == [[8, 9, 10, 11, 12], [2, 3, 4, 5, 6], [15, 16, 17, 18, 19], [3, 4, 5, 6, 7]]
    assert at.tolist() == [2, 1, 4, 3]
    short, at = window(torch.tensor([4]), 3, torch.tensor([6]), 5)
    assert (short.tolist(), at.tolist()) == ([[3, 4, 5, 5, 5]], [1])


# -- what goes wrong -------------------------------------------------------------------------------------------------
def test_a_pose_that_is_nan_falls_back(pair: str) -> None:
    some = some_challenges()
    pose = some.predictions.body_pose.clone()
    pose[1, 4] = torch.nan
    broken = replace(some, predictions=replace(some.predictions, body_pose=pose))
    made, whole = run(make(pair), broken), run(make(pair), some)
    assert (made.report["nan_pose"], made.report["fell_back"]) == (2, 2)
    assert all(t.isfinite().all() for t in parts(made)[:3])
    rows = [0, 2, 3, 4]
    torch.testing.assert_close(made.body_pose[rows], whole.body_pose[rows], rtol=0, atol=1e-3)


def test_an_empty_caption_falls_back_to_variation(pair: str) -> None:
    made = run(make(pair, captioner="mute"))
    assert (made.report["empty_caption"], made.report["fell_back"]) == (3, 3)
    silent = np.array([1, 3, 5])
    other = make_synthesiser("variation", {}, FEW).synthesise(
        some_challenges(), SLOTS[silent], [SEEDS[s] for s in silent], BODY
    )
    assert torch.equal(made.body_pose[silent], other.body_pose)
    assert torch.equal(made.fit[silent], other.fit)


def test_a_motion_that_ends_at_once_falls_back(tmp_path: Path) -> None:
    made = run(make(save_pair(tmp_path, ends_at_once=True)))
    assert (made.report["ended_at_once"], made.report["fell_back"]) == (6, 6)
    assert all(f.fell_back and not f.picked for f in made.films)
    text_only = run(make(save_pair(tmp_path, ends_at_once=True), "msm_text_only"))
    assert text_only.report["ended_at_once"] == 6
    assert text_only.body_pose.isfinite().all()


def test_all_challenges_nan(pair: str) -> None:
    some = some_challenges()
    nothing = replace(some.predictions, **{k: v * torch.nan for k, v in vars(some.predictions).items()})
    made = run(make(pair), replace(some, predictions=nothing))
    assert made.report["nan_pose"] == 6
    assert np.isnan(made.report["motion_codes"])
    assert all(t.isfinite().all() for t in parts(made)[:3])


def test_numbers_that_overflow_in_the_decoder_fall_back(tmp_path: Path) -> None:
    wild = tiny_pair()
    with torch.no_grad():
        wild.vqvae.decoder.last.bias.fill_(3e38)
    made = run(make(str(wild.save(tmp_path / "wild.safetensors"))))
    assert made.report["broken_motion"] == 6
    assert all(t.isfinite().all() for t in parts(made)[:3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variants": 0}, "variants"),
        ({"clip_frames": 0}, "clip_frames"),
        ({"select": "best"}, "labels"),
        ({"orientation": "camera"}, "reference"),
        ({"keep": "nothing"}, "heading"),
        ({"hold": 3}, "hold"),
        ({"max_codes": 7}, "max_codes=7"),
        ({"max_codes": 13}, "at most 12"),
        ({"temperature": -1.0}, "temperature"),
        ({"captioner": "poet"}, "describer"),
    ],
)
def test_settings_that_make_no_sense(pair: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PosesynError, match=message):
        make(pair, **options)


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match=r"nowhere\.safetensors"):
        make(str(tmp_path / "nowhere.safetensors"))


def test_settings_make_the_hash(pair: str, tmp_path: Path) -> None:
    other = tiny_pair()
    other.mean_F = other.mean_F + 0.01
    changed = str(other.save(tmp_path / "other.safetensors"))
    makes: list[dict[str, Any]] = [
        {}, {"variants": 2}, {"select": "labels"}, {"hold": 26}, {"max_codes": 11}, {"temperature": 0.9}, {"top_k": 3},
        {"orientation": "challenge"}, {"keep": "full"}, {"captioner": "mute"}, {"use_pose": False}, {"pair": changed},
    ]  # fmt: skip
    hashes = [make(**{"pair": pair, **options}).config_hash() for options in makes]
    assert len(set(hashes)) == len(makes)
    assert make(pair, films=3).config_hash() == hashes[0]  # films change nothing
    assert (make(pair).name, make(pair, "msm_text_only").name) == ("msm", "msm_text_only")


# -- parts -----------------------------------------------------------------------------------------------------------
def test_usable_frames_lie_after_the_held_pose_and_before_a_jump_or_the_end() -> None:
    jumps = torch.zeros(3, 6, dtype=torch.bool)
    jumps[1, 3] = jumps[0, 1] = True
    usable = usable_frames(jumps, torch.tensor([6, 6, 4]), 2)
    assert usable.int().tolist() == [[0, 0, 1, 1, 1, 1], [0, 0, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0]]


def test_picks_are_usable_and_spread() -> None:
    usable = torch.zeros(200, 10, dtype=torch.bool)
    usable[:, [2, 3, 7]] = True
    usable[5] = False
    picks = pick_uniform(usable, list(range(200)))
    assert picks[5] == -1
    counts = np.bincount(picks[picks >= 0].numpy(), minlength=10)
    assert set(np.flatnonzero(counts)) == {2, 3, 7}
    assert counts[[2, 3, 7]].min() > 40
    assert torch.equal(pick_uniform(usable[[9, 4]], [9, 4]), picks[[9, 4]])


def test_the_least_error_among_usable_candidates_wins() -> None:
    error = torch.tensor([[1.0, 2.0, 3.0], [1.0, torch.nan, 3.0], [torch.inf] * 3, [1.0, 1.0, 1.0]])
    usable = torch.tensor([[0, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]]).bool()
    assert pick_by_labels(error, usable).tolist() == [1, 2, 2, -1]


def test_a_film_strip(pair: str) -> None:
    some = some_challenges()
    film = run(make(pair, films=1), some).films[0]
    frames = shown_frames(film)
    assert len(frames) == 8
    assert film.picked[0] in frames
    crops = some.crops
    strip = film_strip(film, crops.image[0], crops.joints2d[0], crops.joints2d_conf[0], some.predictions[[0]], BODY, 64)
    assert strip.shape[1:] == (640, 3)
    tiles = np.split(strip[-64:], 10, axis=1)
    assert all((t < 250).mean() > 0.01 for t in tiles)  # somebody is drawn in each
    empty = replace(film, joints=film.joints[:0], picked=(), fell_back="it ended at once", caption="")
    nobody = replace(some.predictions[[0]], body_pose=some.predictions.body_pose[[0]] * torch.nan)
    bare = film_strip(empty, crops.image[0], crops.joints2d[0] * torch.nan, crops.joints2d_conf[0], nobody, BODY, 64)
    assert bare.shape[1:] == (640, 3)
    assert (bare[-64:, 128:] == 255).all()


def test_a_pair_of_another_skeleton_is_refused(pair: str, tmp_path: Path) -> None:
    kit = MotionPair.load(pair)
    kit.layout = "kit"
    with pytest.raises(PosesynError, match="kit"):
        make(str(kit.save(tmp_path / "kit.safetensors")))
