"""Clothing pictures to planar textures: contours, warps, and a bank that survives bad folders."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from human.body import load_body
from human.errors import PosesynError
from synth.contours import contour_of, warp_time, warping_path
from synth.garment_outlines import POINTS, Outline, garment_outlines
from synth.planar import LEFT, RIGHT, SIDE, TOP, front_weight, planar_position, planar_uv
from synth.texture_bank import TextureBank, build_texture_bank
from synth.texture_transfer import (
    cut_out,
    join_at_waist,
    match_contour,
    mirrored,
    moving_least_squares,
    turned,
    two_views,
    warp_to_plane,
)
from tests.synth.garments import HALVES, KIND_OF, draw_garment


@pytest.fixture(scope="module")
def outlines() -> list[Outline]:
    return garment_outlines(load_body())


def test_the_planar_frame() -> None:
    x, y = planar_position(64)
    front, back, v = planar_uv(x, y)
    np.testing.assert_allclose(front, (np.arange(64) + 0.5) / 64, atol=1e-12)
    np.testing.assert_allclose(back, front[::-1], atol=1e-12)
    np.testing.assert_allclose(v, front, atol=1e-12)
    assert planar_uv(torch.tensor(LEFT), torch.tensor(TOP))[0] == 0
    assert planar_uv(RIGHT, TOP)[0] == 1  # type: ignore[type-var]
    weight = front_weight(torch.tensor([-1.0, -0.15, 0.0, 0.15, 1.0]))
    torch.testing.assert_close(weight, torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))
    with torch.no_grad():
        rest = load_body()(torch.zeros(1, 10), torch.zeros(1, 23, 3), torch.zeros(1, 3)).vertices[0]
    below_head = rest[rest[:, 1] < 0.6]
    for coordinate in planar_uv(below_head[:, 0], below_head[:, 1]):
        assert 0 < float(coordinate.min()) and float(coordinate.max()) < 1  # noqa: PT018, SIM300


@pytest.mark.parametrize("name", sorted(HALVES))
def test_garments_are_cut_out_and_recognised(name: str, outlines: list[Outline]) -> None:
    picture, mask = draw_garment(name, seed=1)
    found = cut_out(picture)
    assert (found.mask & mask).sum() / (found.mask | mask).sum() > 0.98
    match = match_contour(found, outlines)
    assert match.outline.kind == KIND_OF[name]
    assert match.source_N2.shape == (POINTS, 2)


@pytest.mark.parametrize(
    ("name", "where"),
    [("shirt", (0, 0.28)), ("pullover", (0, 0.28)), ("trousers", (0.12, -0.3)), ("dress", (0, 0.12))],
)
def test_the_picture_lands_where_the_body_wears_it(
    name: str, where: tuple[float, float], outlines: list[Outline]
) -> None:
    """The red disc on the chest (the left thigh, the dress's waist) comes to the body's, about its size."""
    picture, _ = draw_garment(name, seed=3)
    garment = cut_out(picture)
    view, shown = warp_to_plane(garment, match_contour(garment, outlines), 256)
    red = (view[..., 0] > 170) & (view[..., 1] < 80) & (view[..., 2] < 80)
    rows, columns = np.nonzero(red)
    x, y = LEFT + SIDE * (columns.mean() + 0.5) / 256, TOP - SIDE * (rows.mean() + 0.5) / 256
    assert abs(x - where[0]) < 0.05
    assert abs(y - where[1]) < 0.11
    assert 20 < len(rows) < 500  # texels of 7 mm; drawn with a 3 % radius
    assert not (view[shown].astype(int).min(1) > 200).any()  # nothing of the wall in it
    assert not (view.astype(int).min(2) > 205).any()


def test_sleeves_follow_the_arms(outlines: list[Outline]) -> None:
    """A pullover's hanging sleeves are raised: the left cuff's colour comes to the left wrist of the T-pose."""
    picture, mask = draw_garment("pullover", seed=2)
    picture = picture.copy()
    cuff = np.zeros_like(mask)
    cuff[180:, 200:] = True
    picture[mask & cuff] = (250, 240, 20)
    garment = cut_out(picture)
    view, shown = warp_to_plane(garment, match_contour(garment, outlines), 256)
    rows, columns = np.nonzero(shown & (view[..., 0] > 200) & (view[..., 1] > 190) & (view[..., 2] < 90))
    assert len(rows) > 20
    x, y = LEFT + SIDE * columns / 256, TOP - SIDE * rows / 256
    assert x.min() > 0.4
    assert np.abs(y - 0.47).max() < 0.1


def test_moving_least_squares_keeps_similarities_and_handles() -> None:
    rng = np.random.default_rng(0)
    handles, points = rng.normal(size=(12, 2)), rng.normal(size=(50, 2))
    turn = 1.7 * np.array([[0.6, -0.8], [0.8, 0.6]])
    moved = moving_least_squares(handles, handles @ turn.T + [3, -1], points)
    np.testing.assert_allclose(moved, points @ turn.T + [3, -1], atol=1e-9)
    to = handles + rng.normal(scale=0.1, size=handles.shape)
    np.testing.assert_allclose(moving_least_squares(handles, to, handles), to, atol=1e-6)
    # Smooth: a small step makes a small difference.
    steps = moving_least_squares(handles, to, np.linspace([-1, -1], [1, 1], 400))
    assert np.abs(np.diff(steps, axis=0)).max() < 0.06


def test_time_warping_equals_the_plain_recursion() -> None:
    rng = np.random.default_rng(0)
    cost = rng.random((3, 7, 9))
    totals, steps = warp_time(cost, stall=0.1)
    for k in range(3):
        table = np.full((8, 10), np.inf)
        table[0, 0] = 0
        for i in range(7):
            for j in range(9):
                table[i + 1, j + 1] = cost[k, i, j] + min(table[i, j], table[i, j + 1] + 0.1, table[i + 1, j] + 0.1)
        assert totals[k] == pytest.approx(table[7, 9])
        path = warping_path(steps[k])
        assert path[0].tolist() == [0, 0]
        assert path[-1].tolist() == [6, 8]
        advance = np.diff(path, axis=0)
        assert set(map(tuple, advance.tolist())) <= {(1, 1), (1, 0), (0, 1)}
        stalls = 0.1 * (advance.sum(1) == 1).sum()
        assert cost[k][path[:, 0], path[:, 1]].sum() + stalls == pytest.approx(totals[k])


def test_a_contour_starts_at_the_top_and_runs_clockwise() -> None:
    mask = np.zeros((60, 80), bool)
    mask[10:50, 20:70] = True
    contour = contour_of(mask, 40)
    assert contour[0] == pytest.approx([44.5, 10], abs=1.5)
    assert contour[5, 0] > contour[0, 0]
    assert np.linalg.norm(np.diff(contour, axis=0), axis=1).max() < 5


def test_variants() -> None:
    view = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    both = two_views(view)
    # The person's left side is the front view's right and the back view's left: the two must meet in one colour.
    np.testing.assert_array_equal(both[0, :, -1], both[1, :, 0])
    np.testing.assert_array_equal(mirrored(mirrored(both)), both)
    np.testing.assert_array_equal(turned(both)[0], both[1])
    upper, lower = np.zeros((2, 256, 256, 3), np.uint8), np.full((2, 256, 256, 3), 200, np.uint8)
    seams = []
    for seed in range(6):
        joined = join_at_waist(upper, lower, np.random.default_rng(seed))
        assert joined[:, :60].max() == 0
        assert joined[:, 150:].min() == 200
        seams.append((joined[0, :, :, 0] < 100).sum(0))
        np.testing.assert_array_equal(joined[0], joined[1, :, ::-1])  # one seam all around
    assert np.std([s[128] for s in seams]) > 1.5
    assert np.std(seams[0]) > 0.3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five garments in two folders, a corrupt picture, one without a garment, and a text file."""
    root = tmp_path / "clothes"
    (root / "tops").mkdir(parents=True)
    (root / "mixed").mkdir()
    for name, where in (("shirt", "tops/a.png"), ("vest", "tops/b.jpg"), ("trousers", "mixed/c.webp"),
                        ("skirt", "mixed/d.png"), ("dress", "mixed/e.png")):  # fmt: skip
        cv2.imwrite(str(root / where), draw_garment(name, seed=1)[0][..., ::-1])
    (root / "tops" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    cv2.imwrite(str(root / "mixed" / "empty.png"), np.full((80, 80, 3), 240, np.uint8))
    (root / "readme.txt").write_text("not a picture")
    return root


def test_a_bank_of_a_folder(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        bank = build_texture_bank(folder, 128, joined=3, cache=tmp_path / "cache")
    assert bank.textures.shape == (13, 2, 128, 128, 3)
    assert bank.textures.dtype == np.uint8
    kind = dict(zip(bank.names, bank.kinds, strict=True))
    assert [kind[n] for n in ("tops/a.png", "tops/b.jpg", "mixed/c.webp", "mixed/d.png", "mixed/e.png")] == [
        "upper", "upper", "lower", "lower", "whole",
    ]  # fmt: skip
    assert len(bank.of_kind("whole")) == 2 + 3
    assert len(bank.skipped) == 2
    assert "tops/broken.jpg: the file cannot be read" in caplog.text
    assert "mixed/empty.png: " in caplog.text
    assert "2 of 7 clothing pictures" in caplog.text
    assert next((tmp_path / "cache").iterdir()).suffix == ".npz"  # and no draft is left
    assert len(list((tmp_path / "cache").iterdir())) == 1

    again = build_texture_bank(folder, 128, joined=3, cache=tmp_path / "cache")
    np.testing.assert_array_equal(again.textures, bank.textures)
    assert again.digest == bank.digest
    assert again.skipped == bank.skipped
    assert set(bank.first(2).names) == {"mixed/c.webp", "mixed/c.webp|mirrored", "mixed/d.png", "mixed/d.png|mirrored"}

    kept = next((tmp_path / "cache").iterdir())
    kept.write_bytes(kept.read_bytes()[:1000])  # a broken cache is made anew
    assert build_texture_bank(folder, 128, joined=3, cache=tmp_path / "cache").digest == bank.digest
    (folder / "tops" / "a.png").unlink()  # other content, another bank
    assert build_texture_bank(folder, 128, joined=3, cache=tmp_path / "cache").digest != bank.digest


def test_a_picture_of_the_back_is_used(tmp_path: Path) -> None:
    front, back = draw_garment("shirt", seed=1)[0], draw_garment("shirt", seed=2)[0]
    cv2.imwrite(str(tmp_path / "shirt_front.png"), front)
    cv2.imwrite(str(tmp_path / "shirt_back.png"), back)
    bank = build_texture_bank(tmp_path, 128, mirror=False, cache=tmp_path / "cache")
    assert list(bank.names) == ["shirt_front.png"]
    assert np.abs(bank.textures[0, 1].astype(int) - bank.textures[0, 0, :, ::-1]).mean() > 5


def test_transparency_is_a_plain_background(outlines: list[Outline]) -> None:
    picture, mask = draw_garment("shirt", seed=1)
    busy = np.random.default_rng(0).integers(0, 255, picture.shape, dtype=np.uint8)
    found = cut_out(np.where(mask[..., None], picture, busy), mask.astype(np.uint8) * 255)
    assert (found.mask == mask).mean() > 0.99


def test_bad_folders_and_pictures(tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="no folder of clothing pictures"):
        build_texture_bank(tmp_path / "absent")
    with pytest.raises(PosesynError, match="holds no clothing pictures"):
        build_texture_bank(tmp_path)
    (tmp_path / "x.png").write_bytes(b"rubbish")
    with pytest.raises(PosesynError, match="none of the 1 pictures"):
        build_texture_bank(tmp_path, cache=tmp_path / "cache")
    with pytest.raises(PosesynError, match="not plain"):
        cut_out(np.random.default_rng(0).integers(0, 255, (100, 100, 3), dtype=np.uint8))
    with pytest.raises(PosesynError, match="no garment"):
        cut_out(np.full((100, 100, 3), 200, np.uint8))
    disc = np.full((128, 128, 3), 230, np.uint8)
    cv2.rectangle(disc, (5, 60), (122, 66), (20, 40, 90), -1)
    with pytest.raises(PosesynError, match="resembles no garment"):
        match_contour(cut_out(disc), garment_outlines(load_body(), ["upper"]))
    with pytest.raises(PosesynError, match="kind 'hat'"):
        garment_outlines(load_body(), ["hat"])
    with pytest.raises(PosesynError, match="must be"):
        TextureBank(np.zeros((1, 2, 8, 8, 4), np.uint8), np.array(["upper"]), np.array(["a"]))
