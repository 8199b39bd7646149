"""Body parameters follow their crop: posed by them, the body lies where the crop shows the person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.crops import Augmentation, CropSet, augmented_crops
from datamodules.readers.base import READERS, PoseReader, build_index
from datamodules.sources import RealSource
from human.batch import PELVIS, PoseBatch
from human.body import load_body
from human.camera import project
from human.errors import PosesynError
from human.rotations import geodesic_degrees, rotvec_to_matrix
from human.skeleton import SMPL24
from tests.datasets.people import People, make_people

pytestmark = pytest.mark.usefixtures("body_files")
GEOMETRY = {"colour": 0.0, "low_res_p": 0.0, "erase_p": 0.0}
TURNED = Augmentation(rotation=50.0, rotation_p=1.0, scale=0.4, shift=0.1, flip_p=0.0, **GEOMETRY)
MIRRORED = replace(TURNED, flip_p=1.0)
BONES = {"smpl": 24, "free": 24, "smplh": 52, "smplx": 55}


class PeopleReader(PoseReader):
    """Persons of :func:`make_people` with their parameters, as a data set's reader gives them."""

    name, licence, skeleton = "people", "none", "pose32"

    def __init__(self, people: People, kind: str = "", transl: bool = True) -> None:
        self.people, self.body = people, kind or people.kind
        persons = range(len(people.genders))
        n, f = len(people.genders) * people.frames, people.frames
        pose = np.zeros((n, BONES[self.body], 3), np.float32)
        pose[:, 0] = np.concatenate([people.camera_orient(0, p) for p in persons])
        body_pose = people.body_pose.reshape(n, 23, 3)
        bones = 23 if BONES[self.body] == 24 else 21
        pose[:, 1 : 1 + bones] = body_pose[:, :bones]
        joints = np.concatenate([people.joints(0, p) for p in persons])
        made = build_index(
            [str(k) for k in range(n)],
            np.arange(n),
            "pose32",
            people.project(0, joints),
            np.ones((n, 32)),
            joints,
            np.ones((n, 32)),
            np.tile(people.intrinsics[0], (n, 1, 1)),
        )
        extras: dict[str, Any] = {
            "pose": pose,
            "betas": np.repeat(people.betas, f, 0).astype(np.float32),
            "gender": np.repeat([("neutral", "male", "female").index(g) for g in people.genders], f).astype(np.int8),
        }
        if transl:
            extras["transl"] = np.concatenate([people.camera_transl(0, p) for p in persons]).astype(np.float32)
        self.index = replace(made, extras=extras)

    def read_image(self, i: int) -> np.ndarray:
        return np.zeros((*self.people.size[::-1], 3), np.uint8)

    def change(self, name: str, row: Any, value: float) -> PeopleReader:
        columns = dict(self.index.extras)
        columns[name] = columns[name].copy()
        columns[name][row] = value
        self.index = replace(self.index, extras=columns)
        return self


def crops(reader: PoseReader, own: str, augmentation: Augmentation) -> PoseBatch:
    rows = np.arange(24) % len(reader.index)
    return augmented_crops(reader, rows, np.arange(24), 128, 1.25, augmentation, own)


def off_px(batch: PoseBatch, own: str) -> torch.Tensor:
    """(B,32) px between the 2D labels and the projected joints of the body posed by the labels."""
    body = load_body(own).double()
    arguments = (batch.betas, batch.body_pose, batch.global_orient, batch.transl)
    joints = body.joints(*(a.double() for a in arguments))
    return (project(joints, batch.intrinsics.double()) - batch.joints2d).norm(dim=-1)


@pytest.mark.parametrize("kind", ["smpl", "smplx", "free"])
@pytest.mark.parametrize("transl", [True, False])
def test_the_posed_body_lies_on_the_crop(kind: str, transl: bool) -> None:
    reader = PeopleReader(make_people(("neutral", "neutral"), 3, kind=kind), transl=transl)
    batch = crops(reader, kind, TURNED)
    assert batch.has_pose.all()
    assert batch.has_betas.all()
    assert batch.has_transl.all()
    assert off_px(batch, kind).max() < 2e-3
    # And in metres: 3D labels are the body's, from its pelvis.
    body = load_body(kind)
    joints = body.joints(batch.betas, batch.body_pose, batch.global_orient, batch.transl)
    torch.testing.assert_close(joints - joints[:, PELVIS, None], batch.joints3d, atol=2e-5, rtol=0)
    # Leaving the turn away is not the same.
    wrong = batch.replace(global_orient=torch.from_numpy(reader.index.extras["pose"][np.arange(24) % 6, 0]))
    assert off_px(wrong, kind)[:, :24].mean() > 3


def symmetric(people: People) -> People:
    """The same, standing in a shape whose rest joints are as symmetric as the body's template."""
    return replace(people, betas=np.zeros_like(people.betas))


def test_a_mirrored_crop_shows_the_mirrored_body() -> None:
    """The free body is symmetric to 0.1 mm, so its mirrored pose is the mirrored person."""
    reader = PeopleReader(symmetric(make_people(("neutral",), 6, kind="free", seed=3)))
    batch = crops(reader, "free", MIRRORED)
    assert (batch.has_pose & batch.has_betas & batch.has_transl).all()
    limbs = [SMPL24.index(f"{s}_{j}") for s in ("left", "right") for j in ("hip", "knee", "ankle", "elbow", "wrist")]
    assert off_px(batch, "free")[:, limbs].max() < 0.3
    unmirrored = batch.replace(body_pose=batch.body_pose[:, [i - 1 for i in SMPL24.flip_permutation[1:]]])
    assert off_px(unmirrored, "free")[:, limbs].max() > 5


@pytest.mark.parametrize("kind", ["smpl", "smplx"])
def test_a_mirrored_crop_of_a_body_that_is_not_symmetric(kind: str) -> None:
    """The files' rest joints differ by about 1 cm from side to side: no pose of theirs is the exact mirror image."""
    people = symmetric(make_people(("neutral",), 6, kind=kind, seed=3))
    batch = crops(PeopleReader(people), kind, MIRRORED)
    assert off_px(batch, kind)[:, PELVIS].max() < 1e-3  # exact, whatever the shape
    assert off_px(batch, kind)[:, :24].mean() < 2
    plain = crops(PeopleReader(people), kind, replace(MIRRORED, flip_p=0.0))
    # Mirrored twice is as it was: the rotations of both differ by the mirror alone.
    swap = list(SMPL24.flip_permutation[1:])
    again = batch.body_pose[:, [i - 1 for i in swap]] * torch.tensor([1.0, -1.0, -1.0])
    torch.testing.assert_close(again, plain.body_pose)
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    turned = mirror @ rotvec_to_matrix(batch.global_orient) @ mirror
    assert geodesic_degrees(turned, rotvec_to_matrix(plain.global_orient)).max() < 0.1


def test_only_the_estimators_own_shape_counts() -> None:
    reader = PeopleReader(make_people(("neutral", "male", "female"), 2))
    whose = np.arange(24) % 6 // 2
    for own, mine in (("smpl", 0), ("smpl_male", 1), ("smpl_female", 2)):
        batch = crops(reader, own, TURNED)
        assert (batch.has_betas.numpy() == (whose == mine)).all()
        assert (batch.betas[whose != mine] == 0).all()
        assert batch.has_pose.all()
        assert off_px(batch[torch.from_numpy(whose == mine)], own).max() < 2e-3
    for own in ("free", "smplx"):
        batch = crops(reader, own, TURNED)
        assert batch.has_pose.all()
        assert not batch.has_betas.any()
        assert batch.has_transl.all()
        assert off_px(batch, own)[:, PELVIS].max() < 1e-3  # the mean shape's pelvis is where the person's is
        assert off_px(batch, own)[:, :24].max() < 25  # another body in nearly the same pose


@pytest.mark.parametrize("kind", ["smplh", "smplx"])
def test_hands_with_fingers_are_left_at_rest(kind: str) -> None:
    reader = PeopleReader(make_people(("neutral",), 2), kind=kind)
    reader.change("pose", (slice(None), slice(22, None)), 0.7)
    batch = crops(reader, "smpl", TURNED)
    assert batch.has_pose.all()
    assert (batch.body_pose[:, 21:] == 0).all()
    assert not batch.has_betas.any()
    np.testing.assert_allclose(batch.body_pose[:2, :21], reader.index.extras["pose"][:2, 1:22], atol=1e-6)


def test_what_is_not_labelled_is_masked() -> None:
    people = make_people(("neutral",), 6)
    reader = PeopleReader(people).change("pose", 0, np.nan).change("betas", 1, np.nan).change("transl", 2, np.nan)
    reader.change("gender", 3, 7)
    camera = reader.index.intrinsics.copy()
    camera[4] = np.nan
    reader.index = replace(reader.index, intrinsics=camera)
    batch = crops(reader, "smpl", TURNED)[torch.arange(6)]
    assert batch.has_pose.tolist() == [False, True, True, True, True, True]
    assert batch.has_betas.tolist() == [True, False, True, False, True, True]
    assert batch.has_transl.tolist() == [True, True, True, True, False, True]  # the pelvis tells it too
    assert all(v.isfinite().all() for v in batch.as_dict().values())
    assert batch.body_pose[0].abs().sum() == batch.transl[4].abs().sum() == 0
    joints = reader.index.joints3d.copy()
    joints[:, PELVIS] = 0
    reader.index = replace(reader.index, joints3d=joints)
    assert crops(reader, "smpl", TURNED).has_transl[:6].tolist() == [True, False, False, False, False, True]


def test_of_more_shape_numbers_the_first_ten_count() -> None:
    reader = PeopleReader(make_people(("neutral",), 2))
    betas = np.pad(reader.index.extras["betas"], ((0, 0), (0, 6)))
    betas[1, 12] = 0.4
    reader.index = replace(reader.index, extras={**reader.index.extras, "betas": betas})
    batch = crops(reader, "smpl", TURNED)[torch.arange(2)]
    assert batch.has_betas.all()
    assert off_px(batch, "smpl").max() < 2e-3  # the pelvis is where the joints say
    joints = reader.index.joints3d.copy()
    joints[:, PELVIS] = 0
    unrooted = PeopleReader(make_people(("neutral",), 2))
    unrooted.index = replace(reader.index, joints3d=joints)
    assert crops(unrooted, "smpl", TURNED).has_transl[:2].tolist() == [True, False]
    few = {**reader.index.extras, "betas": betas[:, :7]}
    reader.index = replace(reader.index, extras=few)
    assert torch.equal(crops(reader, "smpl", TURNED).betas[0, :7], torch.from_numpy(betas[0, :7]))


def test_an_unreadable_picture_has_no_body() -> None:
    class Lost(PeopleReader):
        def read_image(self, i: int) -> np.ndarray:
            if i % 2:
                raise PosesynError(f"no picture {i}")
            return super().read_image(i)

    batch = crops(Lost(make_people(("neutral",), 4)), "smpl", TURNED)
    assert batch.has_pose.tolist() == batch.has_betas.tolist() == batch.has_transl.tolist() == [True, False] * 12
    assert batch.global_orient[1].abs().sum() == 0


def test_an_unknown_body_is_named() -> None:
    reader = PeopleReader(make_people(("neutral",), 2))
    reader.body = "star"
    with pytest.raises(PosesynError, match="a reader's body is 'star'; known: smpl, smplh, smplx, free"):
        crops(reader, "smpl", TURNED)


def test_plain_crops_and_sources_carry_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = PeopleReader(make_people(("neutral", "male"), 2))
    batch = CropSet(reader, 64, cache=tmp_path, body="smpl").crops(np.arange(4))
    assert batch.has_betas.tolist() == [True, True, False, False]
    assert off_px(batch[torch.arange(2)], "smpl").max() < 2e-3
    np.testing.assert_allclose(batch.global_orient, reader.index.extras["pose"][:, 0], atol=1e-5)

    monkeypatch.setitem(READERS._items, "people", lambda: reader)
    keys = np.stack([np.zeros(4), np.full(4, -1), np.arange(4), np.arange(4)], 1).astype(np.int64)
    for options, told in (({}, True), ({"use_3d": False}, False), ({"labels": False}, False)):
        source = RealSource("people", augmentation=TURNED, **options)
        source.prepare(64, tmp_path, "smpl")
        batch = source.fetch(keys)
        assert batch.has_pose.tolist() == batch.has_transl.tolist() == [told] * 4
        assert batch.has_betas.tolist() == [told, told, False, False]
