"""Backgrounds: pure functions of (bank, seed, size), cheap, varied, and refusing what is no picture."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from human.assets import locate
from human.errors import PosesynError
from synth.backgrounds import BackgroundBank, load_background_bank, load_free_photographs

REPO = Path(__file__).resolve().parents[2]


def pictures(count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (90 + 40 * i, 160, 3), dtype=np.uint8) for i in range(count)]


@pytest.mark.parametrize("size", [(128, 128), (96, 160), (2, 2), (17, 3)])
@pytest.mark.parametrize("count", [0, 3])
def test_draws_have_the_asked_size_and_repeat(count: int, size: tuple[int, int]) -> None:
    one, other = BackgroundBank(pictures(count)), BackgroundBank(pictures(count))
    for seed in range(40):
        image = one.draw(seed, size)
        assert image.shape == (*size, 3)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, other.draw(seed, size))


def test_order_of_draws_does_not_matter() -> None:
    bank = load_background_bank("procedural")
    forward = [bank.draw(seed, (32, 32)) for seed in range(20)]
    backward = [bank.draw(seed, (32, 32)) for seed in reversed(range(20))]
    np.testing.assert_array_equal(forward, backward[::-1])


def test_another_process_draws_the_same_bytes() -> None:
    code = (
        "import sys; from synth.backgrounds import BackgroundBank\n"
        "b = BackgroundBank()\n"
        "sys.stdout.buffer.write(b''.join(b.draw(s, (24, 24)).tobytes() for s in range(12)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, check=True, timeout=120)
    assert done.stdout == b"".join(BackgroundBank().draw(s, (24, 24)).tobytes() for s in range(12))


@pytest.mark.parametrize("count", [0, 3])
def test_seeds_give_different_and_varied_backgrounds(count: int) -> None:
    bank = BackgroundBank(pictures(count))
    draws = np.stack([bank.draw(seed, (32, 32)) for seed in range(200)]).astype(float)
    assert len({d.tobytes() for d in draws}) == 200
    assert draws.mean(axis=(1, 2, 3)).std() > 25  # dark and bright scenes
    assert (draws.std(axis=(1, 2)).mean(axis=-1) > 3).mean() > 0.8  # few are flat


def test_share_of_procedural_draws() -> None:
    red = np.zeros((64, 64, 3), dtype=np.uint8)
    red[..., 0] = 200

    def red_share(procedural: float) -> float:
        bank = BackgroundBank([red], procedural=procedural)
        means = np.stack([bank.draw(seed, (16, 16)).mean(axis=(0, 1)) for seed in range(200)])
        return float((means[:, 0] > 3 * means[:, 1:].max(axis=-1)).mean())

    assert red_share(0) > 0.6  # clutter and desaturation hide some
    assert red_share(1) < 0.05


def test_digest_names_the_contents() -> None:
    assert BackgroundBank(pictures()).digest == BackgroundBank(pictures()).digest
    others = [BackgroundBank(), BackgroundBank(pictures(2)), BackgroundBank(pictures(), procedural=0.1)]
    assert len({b.digest for b in [*others, BackgroundBank(pictures())]}) == 4


def test_large_pictures_are_kept_small() -> None:
    bank = BackgroundBank([np.zeros((2000, 1000, 3), dtype=np.uint8)])
    assert bank.pictures[0].shape == (512, 256, 3)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((64, 64), dtype=np.uint8),
        np.zeros((64, 64, 4), dtype=np.uint8),
        np.zeros((64, 64, 3), dtype=np.float32),
        np.zeros((3, 64, 64), dtype=np.uint8),
        np.zeros((8, 64, 3), dtype=np.uint8),
    ],
)
def test_what_is_no_picture_is_refused_by_number(bad: np.ndarray) -> None:
    with pytest.raises(PosesynError, match="background 1 "):
        BackgroundBank([pictures(1)[0], bad])


def test_shares_outside_0_to_1_are_refused() -> None:
    with pytest.raises(PosesynError, match="share from 0 to 1"):
        BackgroundBank(procedural=1.5)


def test_a_draw_is_cheap_enough_for_every_training_step() -> None:
    bank = BackgroundBank([np.zeros((512, 512, 3), dtype=np.uint8)])
    start = time.process_time()
    for seed in range(200):
        bank.draw(seed, (128, 128))
    assert (time.process_time() - start) / 200 < 3e-3  # about 0.3 ms on an idle core


def test_free_photographs_are_colour_pictures_without_people() -> None:
    if locate("skimage_photographs") is None or locate("sklearn_photographs") is None:
        pytest.skip("PHOTOGRAPHS NOT CACHED, not tested: posesyn assets fetch skimage_photographs sklearn_photographs")
    photographs = load_free_photographs()
    assert len(photographs) == 8
    assert all(p.ndim == 3 and p.dtype == np.uint8 for p in photographs)
    assert load_background_bank("free").draw(5, (128, 128)).shape == (128, 128, 3)
