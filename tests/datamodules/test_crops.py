"""Crops: labels stay on their pixels under any augmentation, and the cache is whole or not there."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from datamodules.crops import Augmentation, CropSet, augmented_crops, distort, label_batch
from datamodules.mining import JoinedCrops
from datamodules.readers.base import PoseReader, build_index
from datamodules.readers.lspet import LspetReader
from human.batch import HIPS, PELVIS, PoseBatch
from human.camera import guess_intrinsics, project
from human.errors import PosesynError
from human.rng import generator
from human.skeleton import POSE32

GEOMETRY = {"colour": 0.0, "low_res_p": 0.0, "erase_p": 0.0}
HEIGHT, WIDTH = 200, 260
DOTS = {"nose": (255, 0, 0), "left_wrist": (0, 255, 0), "right_ankle": (0, 0, 255)}


class DotReader(PoseReader):
    """People of random joints in 3D before a known camera; three joints are coloured dots on a black picture."""

    name, licence, skeleton = "dots.v1", "none", "pose32"

    def __init__(self, persons: int = 4, seed: int = 0, prefix: str = "dots") -> None:
        rng = np.random.default_rng(seed)
        k = np.array([[300.0, 0, 131], [0, 300.0, 97], [0, 0, 1]])
        root = np.stack(
            [rng.uniform(-0.3, 0.3, persons), rng.uniform(-0.1, 0.1, persons), rng.uniform(3, 5, persons)], -1
        )
        joints3d = root[:, None] + rng.uniform(-0.55, 0.55, (persons, 32, 3))
        image = joints3d @ k.T
        # Labels at whole pixels, so that a dot's middle is exact; 3D moves with them.
        joints2d = np.round(image[..., :2] / image[..., 2:])
        joints3d = np.concatenate([joints2d, np.ones((persons, 32, 1))], -1) @ np.linalg.inv(k).T * joints3d[..., 2:]
        conf = np.ones((persons, 32))
        self.index = build_index(
            [f"{prefix}/{i}" for i in range(persons)],
            np.arange(persons),
            "pose32",
            joints2d,
            conf,
            joints3d,
            conf,
            np.broadcast_to(k, (persons, 3, 3)).copy(),
        )
        self.dots, self.reads = joints2d, 0

    def read_image(self, i: int) -> np.ndarray:
        self.reads += 1
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for joint, colour in DOTS.items():
            x, y = self.dots[i, POSE32.index(joint)]
            cv2.circle(picture, (int(x), int(y)), 3, colour, -1)
        return picture

    def hide(self, what: str, person: int, *joints: str) -> DotReader:
        """``what`` labels of these joints become NaN without confidence."""
        values = getattr(self.index, what).copy()
        values[person, POSE32.indices(*joints)] = np.nan
        values[person, POSE32.indices(*joints), -1] = 0
        self.index = replace(self.index, **{what: values}).validate()
        return self


def dot_at(image_3HW: torch.Tensor, channel: int) -> np.ndarray | None:
    """Middle of the pixels where one channel rules, None where the dot is hidden or cut."""
    pixels = image_3HW.numpy().astype(float)
    others = np.delete(pixels, channel, 0).max(0)
    weight = np.where(pixels[channel] > others + 60, pixels[channel], 0)
    ys, xs = np.nonzero(weight)
    if len(xs) < 8 or min(xs.min(), ys.min()) == 0 or max(xs.max(), ys.max()) == pixels.shape[-1] - 1:
        return None
    return np.array([np.average(xs, weights=weight[ys, xs]), np.average(ys, weights=weight[ys, xs])])


def check_dots(batch: PoseBatch, flipped: bool) -> int:
    """Every visible dot lies at its label (left and right swapped where flipped); how many there were."""
    seen = 0
    for k in range(len(batch)):
        for channel, joint in enumerate(DOTS):
            number = POSE32.index(joint)
            where = dot_at(batch.image[k], channel)
            if where is None:
                continue
            label = batch.joints2d[k, POSE32.flip_permutation[number] if flipped else number].numpy()
            seen += np.abs(where - label).max() < 1.0
            assert np.abs(where - label).max() < 1.0, f"sample {k}, {joint}: dot at {where}, label {label}"
    return seen


def absolute(joints3d_J3: np.ndarray, joints2d_J2: np.ndarray, k: np.ndarray) -> np.ndarray:
    """The root's position from which root-relative joints are seen where they are labelled: linear least squares."""
    rays = np.concatenate([joints2d_J2, np.ones((len(joints2d_J2), 1))], -1) @ np.linalg.inv(k).T
    rows, values = [], []
    for (x, y, _), joint in zip(rays, joints3d_J3, strict=True):
        rows += [[1, 0, -x], [0, 1, -y]]
        values += [x * joint[2] - joint[0], y * joint[2] - joint[1]]
    return np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]


def check_projection(batch: PoseBatch, depths: np.ndarray) -> None:
    """Root-relative 3D labels, put at the root's true depth, project onto the 2D labels with the crop's intrinsics."""
    for k, depth in enumerate(depths):
        j3d, j2d, intrinsics = (v[k].double().numpy() for v in (batch.joints3d, batch.joints2d, batch.intrinsics))
        root = absolute(j3d, j2d, intrinsics)
        assert root[2] == pytest.approx(depth, rel=1e-3)
        uv = project(torch.from_numpy(j3d + root)[None], torch.from_numpy(intrinsics)[None])[0].numpy()
        assert np.abs(uv - j2d).max() < 0.02


# ------------------------------------------------------------------------------------------------- augmented crops


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("geometry", [{}, {"rotation": 60.0, "rotation_p": 1.0, "scale": 0.4, "shift": 0.1}])
def test_labels_stay_on_the_picture_and_3d_agrees_with_2d(geometry: dict[str, float], flip: bool) -> None:
    reader = DotReader()
    augmentation = Augmentation(flip_p=float(flip), **GEOMETRY, **geometry)
    rows = np.arange(24) % 4
    batch = augmented_crops(reader, rows, np.arange(24), 128, 1.25, augmentation)
    assert check_dots(batch, flip) > 40
    check_projection(batch, reader.index.joints3d[rows, PELVIS, 2])
    assert (batch.joints3d[:, PELVIS] == 0).all()
    assert (batch.weight == 1).all()
    assert not batch.has_pose.any()
    # Bones keep their lengths, each side the other's where mirrored.
    order = list(POSE32.flip_permutation) if flip else list(range(32))
    before = np.linalg.norm(
        reader.index.joints3d[rows][:, order, :3] - reader.index.joints3d[rows][:, PELVIS, None, :3], axis=-1
    )
    np.testing.assert_allclose(batch.joints3d.norm(dim=-1), before, atol=1e-5)


def test_crops_are_functions_of_row_and_seed() -> None:
    reader, rows, seeds = DotReader(), np.array([2, 0, 2, 1]), np.array([5, 6, 7, 5])
    together = augmented_crops(reader, rows, seeds, 48, 1.25, Augmentation())
    for k in range(4):
        alone = augmented_crops(reader, rows[k : k + 1], seeds[k : k + 1], 48, 1.25, Augmentation())
        for name, value in alone.as_dict().items():
            assert torch.equal(value[0], together.as_dict()[name][k]), name
    assert not torch.equal(together.image[0], together.image[2])


def test_without_pelvis_the_root_is_the_middle_of_the_hips() -> None:
    reader = DotReader().hide("joints3d", 0, "pelvis").hide("joints3d", 1, "pelvis", "left_hip")
    plain = Augmentation(flip_p=1.0, **GEOMETRY)
    batch = augmented_crops(reader, np.array([0, 1, 2]), np.arange(3), 64, 1.25, plain)
    torch.testing.assert_close(batch.joints3d[0, HIPS].mean(0), torch.zeros(3), atol=1e-6, rtol=0)
    assert (batch.joints3d_conf[0] > 0).sum() == 31
    assert batch.joints3d_conf[1].sum() == 0  # no root: labels relative to it do not exist
    assert batch.joints3d[1].abs().sum() == 0
    assert (batch.joints2d_conf[1] > 0).all()  # 2D is not touched
    assert batch.joints3d_conf[2].sum() == 32
    assert all(v.isfinite().all() for v in batch.as_dict().values())


def test_unlabelled_joints_are_masked_and_never_junk() -> None:
    reader = DotReader().hide("joints2d", 0, "left_knee", "nose").hide("joints2d", 1, *POSE32.joints)
    batch = augmented_crops(reader, np.arange(2), np.arange(2), 64, 1.25, Augmentation(flip_p=1.0))
    lost = POSE32.indices("right_knee", "nose")  # mirrored
    assert (batch.joints2d_conf[0] == 0).nonzero().flatten().tolist() == sorted(lost)
    assert batch.joints2d[0, lost].abs().sum() == 0
    assert batch.joints2d_conf[1].sum() == batch.joints2d[1].abs().sum() == 0
    assert all(v.isfinite().all() for v in batch.as_dict().values())


@pytest.mark.parametrize("size", [8, 17, 64])
def test_distort_keeps_the_picture_a_picture(size: int) -> None:
    picture = np.full((size, size, 3), 128, np.uint8)
    strong = Augmentation(colour=0.9, low_res_p=1.0, erase_p=1.0)
    for seed in range(20):
        out = distort(picture, generator(seed), strong)
        assert out.shape == picture.shape
        assert out.dtype == np.uint8
    assert (picture == 128).all()  # the caller's is not touched
    assert (distort(picture, generator(0), Augmentation(**GEOMETRY)) == picture).all()


# -------------------------------------------------------------------------------------------------- unknown cameras


def forget_cameras(reader: DotReader) -> DotReader:
    reader.index = replace(reader.index, intrinsics=np.full_like(reader.index.intrinsics, np.nan))
    return reader


@pytest.mark.parametrize("flip", [False, True])
def test_a_camera_that_is_not_known_is_guessed_from_the_whole_picture(flip: bool) -> None:
    """The guess is carried to the crop like a known camera: both readers' crops agree when it is what is known."""
    guess = guess_intrinsics(HEIGHT, WIDTH).numpy()
    told = DotReader()
    told.index = replace(told.index, intrinsics=np.broadcast_to(guess, (4, 3, 3)).astype(np.float32))
    rows, turned = np.arange(4), Augmentation(flip_p=float(flip), rotation=60.0, rotation_p=1.0, **GEOMETRY)
    guessed = augmented_crops(forget_cameras(DotReader()), rows, rows, 64, 1.25, turned)
    known = augmented_crops(told, rows, rows, 64, 1.25, turned)
    torch.testing.assert_close(guessed.intrinsics, known.intrinsics)
    assert (guessed.intrinsics[:, 0, 0] > 64).all()


def test_a_guessed_camera_is_kept_with_the_crops(tmp_path: Path) -> None:
    reader = forget_cameras(DotReader())
    rows = np.array([2, 0])
    batch = CropSet(reader, 48, cache=tmp_path).crops(rows)
    again = CropSet(reader, 48, cache=tmp_path).crops(rows)
    assert reader.reads == 4
    assert torch.equal(batch.intrinsics, again.intrinsics)
    guess = guess_intrinsics(HEIGHT, WIDTH)
    for k, row in enumerate(rows):
        x1, y1, x2, y2 = reader.index.bbox_xyxy[row].tolist()
        scale = 48 / (1.25 * max(x2 - x1, y2 - y1))
        focal, px, py = (batch.intrinsics[k, i, j].item() for i, j in ((0, 0), (0, 2), (1, 2)))
        assert focal == pytest.approx(guess[0, 0].item() * scale, rel=1e-5)
        assert (23.5 - px) / focal == pytest.approx(((x1 + x2) / 2 - (WIDTH - 1) / 2) / guess[0, 0].item(), abs=1e-5)
        assert (23.5 - py) / focal == pytest.approx(((y1 + y2) / 2 - (HEIGHT - 1) / 2) / guess[0, 0].item(), abs=1e-5)


def test_a_picture_of_unknown_size_has_no_camera() -> None:
    reader = forget_cameras(DotReader())
    image = np.zeros((32, 32, 3), np.uint8)
    batch = label_batch(reader.index, np.arange(1), [np.eye(3)[:2]], [image], [False])
    assert torch.equal(batch.intrinsics[0], torch.eye(3))


# --------------------------------------------------------------------------------------------------------- CropSet


def test_plain_crops_hold_the_person(tmp_path: Path) -> None:
    reader = DotReader()
    crops = CropSet(reader, 128, cache=tmp_path)
    batch = crops.crops(np.array([3, 0, 3]))
    assert check_dots(batch, flipped=False) == 9
    check_projection(batch, reader.index.joints3d[[3, 0, 3], PELVIS, 2])
    assert batch.key[:, 2].tolist() == [3, 0, 3]
    assert (batch.joints2d >= 0).all()
    assert (batch.joints2d <= 127).all()  # the box has room for every labelled joint
    assert crops.labelled.all()
    assert crops.labelled.shape == (4, 32)


def test_the_cache_is_made_once_and_named_by_what_it_holds(tmp_path: Path) -> None:
    reader = DotReader()
    first = CropSet(reader, 32, cache=tmp_path)
    expected = first.crops(np.arange(4)).image
    assert reader.reads == 4
    again = CropSet(reader, 32, cache=tmp_path)
    assert torch.equal(again.crops(np.arange(4)).image, expected)
    assert reader.reads == 4
    others = [CropSet(reader, 40, cache=tmp_path), CropSet(reader, 32, box_scale=1.5, cache=tmp_path)]
    others.append(CropSet(DotReader(seed=1), 32, cache=tmp_path))
    for other in others:
        assert not torch.equal(
            other.crops(np.arange(4)).image.float().mean((1, 2, 3)), expected.float().mean((1, 2, 3))
        )
    assert len(list(tmp_path.iterdir())) == 8  # pixels and flags of four sets; a dot in a name is not a suffix
    assert torch.equal(CropSet(reader, 32, cache=tmp_path).crops(np.arange(4)).image, expected)


def test_ranks_decode_a_picture_once(tmp_path: Path) -> None:
    read: list[int] = []

    class Counted(DotReader):
        def read_image(self, row: int) -> np.ndarray:
            read.append(row)
            time.sleep(0.02)  # the others come meanwhile
            return super().read_image(row)

    sets = [CropSet(Counted(), 32, cache=tmp_path) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        images = list(pool.map(lambda crops: crops.crops(np.arange(4)).image, sets))
    assert sorted(read) == list(range(len(sets[0])))
    assert all(torch.equal(image, images[0]) for image in images)


def test_a_killed_build_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    class Dies(DotReader):
        def read_image(self, i: int) -> np.ndarray:
            if i == 2:
                raise KeyboardInterrupt
            return super().read_image(i)

    with pytest.raises(KeyboardInterrupt):
        CropSet(Dies(), 32, cache=tmp_path).crops(np.arange(4))
    assert [p.suffix for p in tmp_path.iterdir()] == [".part"]
    whole = CropSet(DotReader(), 32, cache=tmp_path)
    assert check_dots(CropSet(DotReader(), 128, cache=tmp_path).crops(np.arange(4)), False) == 12
    assert (whole.crops(np.arange(4)).image.amax((1, 2, 3)) > 50).all()


def cut_pixels(folder: Path) -> None:
    (file,) = folder.glob("*.rgb")
    file.write_bytes(file.read_bytes()[:-1])


def lose_pixels(folder: Path) -> None:
    (file,) = folder.glob("*.rgb")
    file.unlink()


def lose_flags(folder: Path) -> None:
    (file,) = folder.glob("*.npy")
    file.unlink()


@pytest.mark.parametrize("damage", [cut_pixels, lose_pixels, lose_flags])
def test_a_damaged_cache_is_made_again(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    expected = CropSet(DotReader(), 32, cache=tmp_path).crops(np.arange(4)).image
    damage(tmp_path)
    assert torch.equal(CropSet(DotReader(), 32, cache=tmp_path).crops(np.arange(4)).image, expected)


def test_a_set_travels_to_another_process_without_its_pixels(tmp_path: Path) -> None:
    crops = CropSet(DotReader(), 64, cache=tmp_path)
    expected = crops.crops(np.arange(4)).image
    sent = pickle.dumps(crops)
    assert len(sent) < 64 * 64 * 3
    assert torch.equal(pickle.loads(sent).crops(np.arange(4)).image, expected)


def test_unreadable_pictures_get_weight_0_and_are_told(
    lspet_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader = LspetReader(lspet_root)
    (lspet_root / "images" / "im00002.jpg").write_bytes(b"\xff\xd8 not a picture")
    (lspet_root / "images" / "im00006.jpg").unlink()
    with caplog.at_level(logging.WARNING):
        crops = CropSet(reader, 32, cache=tmp_path / "c")
        batch = crops.crops(np.arange(6))
    assert batch.weight.tolist() == [1, 0, 1, 1, 0, 1]
    assert "im00002.jpg" in caplog.text
    assert "im00006.jpg" in caplog.text
    assert batch.joints2d_conf[1].sum() == 0
    assert batch.image[1].sum() == 0
    alone = crops.crops(np.array([1, 4]))  # no readable picture tells the size
    assert (alone.size, alone.weight.tolist(), alone.key[:, 2].tolist()) == (32, [0, 0], [1, 4])
    caplog.clear()
    CropSet(reader, 32, cache=tmp_path / "c").crops(np.arange(2))
    assert "2 of 6 pictures" in caplog.text  # also when the cache is there
    assert ".rgb" in caplog.text


def test_nobody_is_an_empty_set(tmp_path: Path) -> None:
    crops = CropSet(DotReader(persons=0), 32, cache=tmp_path)
    assert (len(crops), crops.ids, crops.labelled.shape) == (0, [], (0, 32))
    batch = crops.crops(np.zeros(0, np.int64))
    assert (len(batch), batch.size) == (0, 32)


# ----------------------------------------------------------------------------------------------------- JoinedCrops


def joined(tmp_path: Path, *readers: PoseReader, **options: Any) -> JoinedCrops:
    return JoinedCrops([CropSet(r, 32, cache=tmp_path, **options) for r in readers])


def test_joined_sets_keep_order_and_ids(tmp_path: Path, lspet_root: Path) -> None:
    dots, lspet = DotReader(), LspetReader(lspet_root)
    both = joined(tmp_path, dots, DotReader(0, prefix="nobody"), lspet)
    assert len(both) == 10
    assert both.ids == dots.index.ids + lspet.index.ids
    assert len(set(both.ids)) == 10
    assert both.people.tolist() == [1] * 10
    assert both.labelled.sum(1).tolist() == [32] * 4 + [14] * 6
    order = np.array([9, 0, 4, 3, 4])
    batch = both.crops(order)
    assert batch.key[:, 2].tolist() == order.tolist()
    for k, i in enumerate(order):
        alone = CropSet(dots if i < 4 else lspet, 32, cache=tmp_path).crops(np.array([i if i < 4 else i - 4]))
        assert torch.equal(batch.image[k], alone.image[0])
        assert torch.equal(batch.joints2d[k], alone.joints2d[0])


def test_a_person_named_twice_is_refused(tmp_path: Path) -> None:
    assert len(joined(tmp_path, DotReader(), DotReader(prefix="more"))) == 8
    with pytest.raises(PosesynError, match=r"'dots/0' twice \(dots.v1\+dots.v1\)"):
        joined(tmp_path, DotReader(), DotReader(2))
