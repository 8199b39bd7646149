"""Folders of pictures: what is listed, how they are read, and whose crops come in which batch."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.images import PeopleLoader, Pictures, list_pictures, picture_camera, read_picture
from human.camera import project
from human.crop import transform_points
from human.detectors import make_detector
from human.errors import PosesynError

CSV = """file,x1,y1,x2,y2
a.png,10,20,60,90
a.png,100,5,140,99
sub/b.jpg,0,0,50,50
sub/d.png,30,30,70,95
sub/d.png,50,10,90,80
sub/d.png,5,5,40,60
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """a and sub/d have people, c nobody, sub/b is cut short."""
    root = tmp_path / "pictures"
    (root / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "c.bmp", "sub/b.jpg", "sub/d.png"):
        cv2.imwrite(str(root / name), rng.integers(0, 256, (100, 150, 3), dtype=np.uint8))
    whole = (root / "sub/b.jpg").read_bytes()
    (root / "sub/b.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "notes.txt").write_text("not a picture")
    (tmp_path / "boxes.csv").write_text(CSV)
    return root


def pictures(folder: Path, size: int = 32) -> Pictures:
    detector = make_detector("boxes", {"path": str(folder.parent / "boxes.csv")})
    return Pictures(folder, list_pictures(folder), detector, size, 1.25)


def test_pictures_are_found_below_and_sorted(folder: Path) -> None:
    assert list_pictures(folder) == ["a.png", "c.bmp", "sub/b.jpg", "sub/d.png"]


def test_no_folder_and_no_picture_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="no folder of pictures at"):
        list_pictures(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(PosesynError, match="no pictures in"):
        list_pictures(tmp_path)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_batches_go_across_pictures_and_keys_name_people(folder: Path, workers: int) -> None:
    loader = PeopleLoader(pictures(folder), batch_size=2, workers=workers)
    batches = list(loader)
    assert [len(b) for b in batches] == [2, 2, 1]
    people = [loader.take(int(n)) for b in batches for n in b.key[:, 2]]
    assert [(p.file, p.person) for p in people] == [("a.png", 0), ("a.png", 1)] + [("sub/d.png", k) for k in range(3)]
    seen = {p.file: p for p in loader.take_pictures()}
    assert [len(seen[f].people) for f in ("a.png", "c.bmp", "sub/b.jpg", "sub/d.png")] == [2, 0, 0, 3]
    assert "truncated" in seen["sub/b.jpg"].error
    assert not seen["a.png"].error
    assert loader.take_pictures() == []
    assert loader.people == {}


def test_a_crop_shows_what_its_map_says(folder: Path) -> None:
    loader = PeopleLoader(pictures(folder, 64), batch_size=8)
    batch = next(iter(loader))
    image, _ = read_picture(folder / "a.png")
    for k in range(2):
        person = loader.people[k]
        inside = np.array([person.box[:2] + 4, person.box[2:] - 4]).round()
        at = transform_points(person.affine, inside)
        assert ((at > 0) & (at < 63)).all()
        smooth = cv2.GaussianBlur(image, (0, 0), 2)
        crop = cv2.GaussianBlur(batch.image[k].permute(1, 2, 0).numpy(), (0, 0), 2)
        for (x, y), (u, v) in zip(inside.astype(int), at.round().astype(int), strict=True):
            assert np.abs(smooth[y, x].astype(int) - crop[v, u]).mean() < 25
        # A point before the picture's camera is seen where the crop's camera says.
        point = torch.tensor([[[0.3, -0.2, 4.0]]])
        camera = torch.from_numpy(person.intrinsics).float()[None]
        in_picture = project(point, camera)[0].numpy()
        in_crop = project(point, batch.intrinsics[k : k + 1])[0].numpy()
        np.testing.assert_allclose(transform_points(person.affine, in_picture), in_crop, atol=1e-3)


def test_ranks_share_the_pictures_and_done_ones_are_left_out(folder: Path) -> None:
    def files(**options: object) -> set[str]:
        loader = PeopleLoader(pictures(folder), 4, **options)  # type: ignore[arg-type]
        list(loader)
        return {p.file for p in loader.take_pictures()}

    both = [files(rank=r, world=2) for r in range(2)]
    assert not both[0] & both[1]
    assert both[0] | both[1] == set(list_pictures(folder))
    assert files(done=lambda: {"a.png", "sub/b.jpg"}) == {"c.bmp", "sub/d.png"}


def test_crops_are_taken_whole(folder: Path) -> None:
    loader = PeopleLoader(Pictures(folder, ["a.png"], make_detector("whole"), 150, 1.25), 4)
    batch = next(iter(loader))
    image, _ = read_picture(folder / "a.png")
    np.testing.assert_array_equal(batch.image[0, :, 25:125].permute(1, 2, 0).numpy(), image)
    assert not batch.image[0, :, :25].any()  # black above, where the square is larger


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16", "CMYK", "1"])
def test_every_kind_of_pixel_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    if mode == "I;16":
        Image.fromarray(np.full((6, 8), 40_000, np.uint16)).save(path)
    else:
        palette = {"palette": Image.Palette.ADAPTIVE} if mode == "P" else {}  # the web's palette dithers
        Image.new("RGB", (8, 6), (200, 200, 200)).convert(mode, **palette).save(path)
    image, _ = read_picture(path)
    assert image.shape == (6, 8, 3)
    assert image.dtype == np.uint8
    expected = {"I;16": 40_000 / 257, "1": 255}.get(mode, 200)
    if mode != "1":  # dithered
        np.testing.assert_allclose(image, expected, atol=8)


def test_exif_turns_the_picture_and_gives_the_focal_length(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    exif.get_ifd(0x8769)[0xA405] = 28  # mm, 35 mm equivalent
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[:, :20] = 255
    Image.fromarray(pixels).save(tmp_path / "x.jpg", exif=exif, quality=95)
    image, focal = read_picture(tmp_path / "x.jpg")
    assert image.shape == (40, 30, 3)
    assert image[:15].mean() > 240 > 15 > image[25:].mean()
    assert focal == pytest.approx(28 / 43.2666 * 50, rel=1e-4)
    camera = picture_camera(40, 30, focal)
    np.testing.assert_allclose(camera[:2, 2], [14.5, 19.5])
    assert camera[0, 0] == camera[1, 1] == focal
    assert picture_camera(40, 30)[0, 0] == pytest.approx(50)
