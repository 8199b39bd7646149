"""Motion data: HumanML3D's folder, folders of motion files, banks; draws that are functions of the step."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.humanml3d import HumanML3DSource, read_captions
from datamodules.motion import Draws, MotionDataModule, MotionTexts, MotionWindows, captioned, pad
from datamodules.motion_clips import MAX_FRAMES, Caption, MotionClip, biased, feature_statistics
from datamodules.motion_sources import (
    MotionFilesSource,
    find_motions,
    mirror_motion,
    mirror_text,
    motion_joints,
    pieces,
)
from human.body import load_body
from human.errors import PosesynError
from human.motion_skeleton import HUMANML3D
from tests.datamodules.motion_folders import swaying, write_humanml3d, write_motion_files


@pytest.fixture(scope="module")
def humanml3d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_humanml3d(tmp_path_factory.mktemp("h") / "HumanML3D")


def test_an_official_folder_is_read_and_what_is_broken_is_counted(humanml3d: Path) -> None:
    found = HumanML3DSource(str(humanml3d)).read(0)
    assert [c.name for c in found.train] == ["000000", "000001"]
    assert [c.name for c in found.validation] == ["000002"]
    assert found.train[0].captions[1:] == (Caption("the man sways."), Caption("a man turns left.", 1.0, 2.5))
    assert found.skipped == {
        "missing": 1, "unreadable": 1, "not finite": 1, "shorter than 4 frames": 1, "caption lines without sense": 2,
    }  # fmt: skip
    np.testing.assert_array_equal(found.mean, np.load(humanml3d / "Mean.npy").astype(np.float32))


def test_the_real_sample(shared_data: Path, tmp_path: Path) -> None:
    """The published motion beside its real splits, which name thousands that are not here."""
    source = shared_data / "samples" / "humanml3d"
    for name in ("new_joint_vecs", "train.txt", "val.txt", "Mean.npy", "Std.npy"):
        (tmp_path / name).symlink_to(source / name)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "012314.txt").write_text("a person bends down.#a/DET person/NOUN bend/VERB#0.0#0.0\n")
    names = (source / "train.txt").read_text().split()
    if "012314" not in names:
        (tmp_path / "train.txt").unlink()
        (tmp_path / "train.txt").write_text("\n".join([*names[:50], "012314"]))
    found = HumanML3DSource(str(tmp_path)).read(0)
    (clip,) = found.train
    assert len(clip) == 170
    assert found.skipped["missing"] >= 50
    data = MotionDataModule(root=str(tmp_path), batch_size=3, window=64)
    mean, std = data.normalisation
    np.testing.assert_array_equal(mean, np.load(source / "Mean.npy").astype(np.float32))
    np.testing.assert_allclose(std[:4] * 5, np.load(source / "Std.npy")[:4], rtol=1e-6)
    np.testing.assert_array_equal(std[4:-4], np.load(source / "Std.npy")[4:-4].astype(np.float32))


def test_an_empty_folder_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match=r"no motion could be read from .*it holds no"):
        MotionDataModule(root=str(tmp_path)).sets  # noqa: B018
    (tmp_path / "new_joint_vecs").mkdir()
    with pytest.raises(PosesynError, match=r"has no train\.txt"):
        MotionDataModule(root=str(tmp_path)).sets  # noqa: B018
    (tmp_path / "train.txt").write_text("000000\n")
    with pytest.raises(PosesynError, match=r"no motion of train\.txt can be used \(1 missing\)"):
        MotionDataModule(root=str(tmp_path)).sets  # noqa: B018


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"root": None}, "neither is given"),
        ({"window": 62}, "multiple of 4"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"feature_bias": 0.0}, "must be positive"),
    ],
)
def test_values_without_sense(humanml3d: Path, changes: dict[str, object], says: str) -> None:
    with pytest.raises(PosesynError, match=says):
        MotionDataModule(**{"root": str(humanml3d), **changes})  # type: ignore[arg-type]


def test_statistics_are_humanml3ds(humanml3d: Path) -> None:
    """One deviation for each kind of feature, the mean of its columns' (cal_mean_variance.ipynb)."""
    clips = [MotionClip("a", swaying(50, 1)), MotionClip("b", swaying(30, 2))]
    rows = np.concatenate([c.features for c in clips]).astype(np.float64)
    mean, std = feature_statistics(clips)
    np.testing.assert_allclose(mean, rows.mean(0), atol=1e-6)
    expected = rows.std(0)
    for start, stop in ((0, 1), (1, 3), (3, 4), (4, 67), (67, 193), (193, 259), (259, 263)):
        np.testing.assert_allclose(std[start:stop], max(expected[start:stop].mean(), 1e-4), rtol=1e-5)
    still = MotionClip("still", np.ones((8, 263), np.float32))
    assert (feature_statistics([still])[1] > 0).all()  # nothing is divided by 0
    assert biased(std, 5.0)[[0, 3, 262]] == pytest.approx(std[[0, 3, 262]] / 5)


def test_windows_are_functions_of_seed_step_and_place(humanml3d: Path) -> None:
    def data(**changes: int) -> MotionDataModule:
        return MotionDataModule(root=str(humanml3d), **{"batch_size": 6, "steps_per_epoch": 4, "window": 64, **changes})

    first = [b.features_BTF for b in data().train_dataloader()]
    assert [tuple(b.shape) for b in first] == [(6, 64, 263)] * 4
    assert all(torch.equal(a, b.features_BTF) for a, b in zip(first, data().train_dataloader(), strict=True))
    assert not torch.equal(first[0], next(iter(data(seed=1).train_dataloader())).features_BTF)
    assert not torch.equal(first[0], first[1])
    # every window is a stretch of a motion of the training split
    motions = [c.features for c in HumanML3DSource(str(humanml3d)).read(0).train]
    for window in first[0].numpy():
        assert any((m[s : s + 64] == window).all() for m in motions for s in range(len(m) - 63))
    # two ranks share the global batch
    keys = Draws(0, np.array([1.0, 2.0])).keys(3, 6)
    assert (keys == Draws(0, np.array([1.0, 2.0])).keys(3, 6)).all()
    assert {tuple(k) for k in keys[0::2]} | {tuple(k) for k in keys[1::2]} == {tuple(k) for k in keys}


def test_a_resumed_run_draws_what_the_whole_run_drew(humanml3d: Path) -> None:
    whole = MotionDataModule(root=str(humanml3d), batch_size=4, steps_per_epoch=5)
    batches = list(whole.train_dataloader())
    half = MotionDataModule(root=str(humanml3d), batch_size=4, steps_per_epoch=5)
    taken = iter(half.train_dataloader())
    assert torch.equal(next(taken).features_BTF, batches[0].features_BTF)
    next(taken)
    resumed = MotionDataModule(root=str(humanml3d), batch_size=4, steps_per_epoch=5)
    resumed.load_state_dict(half.state_dict())
    rest = list(resumed.train_dataloader())
    assert len(rest) == 3
    assert all(torch.equal(a.features_BTF, b.features_BTF) for a, b in zip(rest, batches[2:], strict=True))
    other = MotionDataModule(root=str(humanml3d), batch_size=8, steps_per_epoch=5)
    with pytest.raises(PosesynError, match="the checkpoint was made with"):
        other.load_state_dict(half.state_dict())


def test_weights_are_shares_of_the_draws() -> None:
    index = Draws(0, np.array([1.0, 0.0, 3.0])).keys(0, 20_000)[:, 0]
    assert np.bincount(index, minlength=3) / 20_000 == pytest.approx([0.25, 0, 0.75], abs=0.01)


def test_no_motion_as_long_as_the_window(tmp_path: Path) -> None:
    data = MotionDataModule(root=str(write_humanml3d(tmp_path / "h", (40, 30, 50), broken=False)))
    with pytest.raises(PosesynError, match=r"no motion has window=64 frames, the longest has 40"):
        next(iter(data.train_dataloader()))


def encode(motions: list[torch.Tensor]) -> list[torch.Tensor]:
    """Codes that tell where they are from: the row number of their first frame."""
    return [torch.arange(len(m) // 4) for m in motions]


def test_captioned_parts_are_cut_from_the_codes(humanml3d: Path) -> None:
    data = MotionDataModule(root=str(humanml3d), batch_size=64, steps_per_epoch=1)
    data.encode = encode
    (batch,) = list(data.train_dataloader())
    assert isinstance(batch, MotionTexts)
    seen = set()
    for codes, length, text in zip(batch.codes_BS, batch.lengths_B.tolist(), batch.captions, strict=True):
        assert (codes[length:] == -1).all()
        if text == "a man turns left.":
            # from second 1 to 2.5: codes 5 to 11, of which a third of the draws lack one at either end
            assert codes[:length].tolist() in ([*range(5, 12)], [*range(6, 12)], [*range(5, 11)])
        else:
            assert length in (16, 17, 19, 20)
        seen.add(text)
    assert seen == {
        "a man turns left.",
        "the man sways.",
        "a person walks forward 000000.",
        "a person walks forward 000001.",
    }
    (check,) = data.val_dataloader()
    (held_out,) = list(check)
    assert held_out.captions == ["a person walks forward 000002."]


def test_a_held_start_is_encoded_alone() -> None:
    """At use the prefix is the codes of a pose held alone; a part that a caption's times cut is not."""
    held = swaying(29)
    clip = MotionClip("x", swaying(60), (Caption("one"),), held)
    from datamodules.motion import TextSamples

    samples = TextSamples(
        [(clip, 1.0)], lambda motions: [torch.full((len(m) // 4,), len(m)) for m in motions], max_codes=10, fps=20.0
    )
    (tokens,) = samples.tokens
    assert tokens.codes_S.tolist() == [29] * 7 + [60] * 8
    for seed in range(20):
        codes, _ = samples.sample(tokens, seed)
        assert codes.tolist() == [29] * 7 + [60] * 3


def test_motions_without_captions_are_no_training_for_text(tmp_path: Path) -> None:
    root = write_humanml3d(tmp_path / "h", broken=False)
    for file in (root / "texts").iterdir():
        file.unlink()
    data = MotionDataModule(root=str(root))
    assert data.skipped["without text"] == 3
    assert next(iter(data.train_dataloader())).features_BTF.shape[0] == 256  # the VQ-VAE needs none
    data = MotionDataModule(root=str(root))
    data.encode = encode
    with pytest.raises(PosesynError, match="no motion to train on has a caption"):
        next(iter(data.train_dataloader()))
    assert captioned(MotionClip("x", swaying(8), (Caption("late", 5.0, 6.0),)), np.arange(2), 1.0, 20.0) == []


def test_padding() -> None:
    batch = pad([(np.array([3, 1]), "a"), (np.array([7]), "b")])
    assert batch.codes_BS.tolist() == [[3, 1], [7, -1]]
    assert batch.lengths_B.tolist() == [2, 1]


def test_a_folder_of_motion_files(tmp_path: Path) -> None:
    root = write_motion_files(tmp_path / "mine")
    source = MotionFilesSource(str(root), validation=0.0)
    found = source.read(0)
    assert found.skipped == {"unreadable": 1}
    clips = {c.name: c for c in found.train}
    # 240 frames at 60 per second are 80 at 20, of which the last gives no row
    assert sorted(clips) == ["Marms", "Msway", "Msway_0.5_1.5", "arms", "sway", "sway_0.5_1.5"]
    assert {len(clips[name]) for name in ("arms", "sway")} == {79}
    assert len(clips["sway_0.5_1.5"]) == 20
    assert [c.text for c in clips["sway"].captions] == ["a person sways to the left."]
    assert [c.text for c in clips["Msway"].captions] == ["a person sways to the right."]
    assert [c.text for c in clips["Msway_0.5_1.5"].captions] == ["someone waves the left arm"]
    assert clips["arms"].captions  # the describer's
    held = MotionFilesSource(str(root), held_out=["arm*"]).read(0)
    assert [c.name for c in held.validation] == ["arms"]
    assert not [c for c in held.train if "arms" in c.name]


def test_captions_from_a_table(tmp_path: Path) -> None:
    root = write_motion_files(tmp_path / "mine")
    (tmp_path / "said.json").write_text(json.dumps({"arms": ["someone moves the arms."]}))
    found = {f.motion.name: f.captions for f in find_motions(str(root), str(tmp_path / "said.json"))}
    assert found["arms"] == (Caption("someone moves the arms."),)
    assert found["sway"][0].text == "a person sways to the left."
    for content in ("[1]", '{"a": 3}', "{"):
        (tmp_path / "said.json").write_text(content)
        with pytest.raises(PosesynError, match="is not a JSON table of captions"):
            find_motions(str(root), str(tmp_path / "said.json"))
    with pytest.raises(PosesynError, match="there is no file of captions"):
        find_motions(str(root), str(tmp_path / "none.json"))


def test_a_bank_by_name() -> None:
    found = MotionFilesSource("free", mirror=False, validation=0.0).read(0)
    clips = {c.name: c for c in found.train}
    assert len(clips) == 20
    assert clips["backflip"].captions[0].text == "a person does a backflip."
    assert all(np.isfinite(c.features).all() for c in clips.values())
    from human.motion import MOTION_BANKS

    assert "free_sampled" in MOTION_BANKS.names()
    with pytest.raises(PosesynError, match="single poses in no order"):
        MotionFilesSource("free_sampled").read(0)


def test_mirroring_exchanges_left_and_right() -> None:
    body = load_body()
    motion = find_motions("free", None)[8].motion
    joints, mirrored = (motion_joints(body, m) for m in (motion, mirror_motion(motion)))
    flip = [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20]
    # The free body is symmetric to some millimetres.
    assert np.abs(mirrored - (joints * [-1, 1, 1])[:, flip]).max() < 0.01
    assert mirror_text("Left foot, then right; turns clockwise.") == "Right foot, then left; turns counterclockwise."
    assert mirror_text("turns counter-clockwise, leftover") == "turns clockwise, leftover"


def test_pieces_cover_a_long_motion() -> None:
    assert pieces(MAX_FRAMES) == [slice(0, MAX_FRAMES)]
    for frames in (197, 400, 1000):
        parts = pieces(frames)
        assert {p.stop - p.start for p in parts} == {MAX_FRAMES}
        assert sorted({i for p in parts for i in range(p.start, p.stop)}) == list(range(frames))


def test_captions_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("plain.\nwith times#x/Y#0.5#2\nnan#x#nan#nan\n#x#0#0\nfew fields#x#1\n")
    assert read_captions(tmp_path / "c.txt") == [
        Caption("plain."), Caption("with times", 0.5, 2.0), Caption("nan"),
    ]  # fmt: skip


def test_two_sources_and_skeletons(humanml3d: Path, tmp_path: Path) -> None:
    both = MotionDataModule(
        sources=[HumanML3DSource(str(humanml3d), weight=1.0), MotionFilesSource("free", weight=3.0, validation=0.0)],
        window=16, batch_size=2,
    )  # fmt: skip
    total = sum(weight for _, weight in both.clips)
    assert sum(weight for clip, weight in both.clips if clip.name in ("000000", "000001")) / total == pytest.approx(
        0.25
    )
    assert not np.array_equal(both.normalisation[0], np.load(humanml3d / "Mean.npy"))
    given = MotionDataModule(root=str(humanml3d), statistics=str(humanml3d), feature_bias=1.0)
    np.testing.assert_array_equal(given.normalisation[1], np.load(humanml3d / "Std.npy").astype(np.float32))
    with pytest.raises(PosesynError, match="have one name"):
        MotionDataModule(sources=[MotionFilesSource("free"), MotionFilesSource("free")])
    with pytest.raises(PosesynError, match="cannot be read as a numpy array"):
        MotionDataModule(root=str(humanml3d), statistics=str(tmp_path)).normalisation  # noqa: B018


def test_windows_have_the_layouts_size(humanml3d: Path) -> None:
    (check,) = MotionDataModule(root=str(humanml3d)).val_dataloader()
    (whole,) = list(check)
    assert isinstance(whole, MotionWindows)
    assert whole.features_BTF.shape == (1, 88, HUMANML3D.size)  # 90 frames, a multiple of 4
