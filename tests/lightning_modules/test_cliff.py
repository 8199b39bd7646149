"""CLIFF: equal to the original on the same weights, and what the place of a crop in its picture changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from human.batch import PoseBatch
from human.camera import cliff_box_info, make_intrinsics, project
from human.errors import PosesynError
from lightning_modules.cliff import CLIFF
from lightning_modules.spin import SPIN
from tests.lightning_modules.learning import learns_by_heart
from tests.lightning_modules.seeded import assert_parity, load_reference, seeded_images
from tests.lightning_modules.tiny_estimators import make
from tests.tiny import SIZE, rendered_people

BACKBONES = {"res50": "resnet50", "hr48": "hrnet_w48"}
# python -m scripts.tpe_reference.cliff CHECKOUT prints them for the original's classes
PARAMETERS = {"res50": 26_980_573, "hr48": 78_893_405}


def seen_from(box_B3: Tensor, size: int) -> Tensor:
    """Intrinsics of crops whose box information is ``box_B3``."""
    focal = size / (0.06 * box_B3[:, 2] + 0.24)
    k = make_intrinsics(focal, size)
    k[:, :2, 2] -= box_B3[:, :2] / 2.8 * focal[:, None]
    return k


@pytest.mark.parametrize("name", ["res50", pytest.param("hr48", marks=pytest.mark.slow)])
def test_the_network_says_what_the_original_says(name: str, tmp_path: Path) -> None:
    """At full size, from a checkpoint as CLIFF's demo reads it."""
    reference = load_reference(f"cliff_{name}")
    arrays = reference.arrays
    starts = {k: v for k, v in arrays.items() if k.startswith("init_")}
    torch.save({"model": {f"module.{k}": v for k, v in {**reference.state, **starts}.items()}}, tmp_path / "cliff.pt")
    model = CLIFF(backbone=BACKBONES[name], checkpoint=str(tmp_path / "cliff.pt"), other_body=True).eval()
    assert sum(p.numel() for n, p in model.named_parameters() if not n.startswith("body.")) == PARAMETERS[name]
    intrinsics = seen_from(arrays["box"], 256)
    assert_parity(cliff_box_info(intrinsics, 256), arrays["box"], "box information")
    batch = PoseBatch.blank(2, 256).replace(image=seeded_images(2, 256, reference.seed), intrinsics=intrinsics)
    with torch.inference_mode():
        said = model.regress(batch)
    for ours, what in ((said.rotations, "rotations"), (said.betas, "betas"), (said.weak, "camera")):
        assert_parity(ours, arrays[what], what)


def test_one_batch_can_be_learnt_by_heart() -> None:
    learns_by_heart(make("cliff", dropout=0.0, hidden=128))


def test_where_the_crop_lies_changes_what_is_said() -> None:
    torch.manual_seed(3)
    model = make("cliff").eval()
    for layer in (model.head.decpose, model.head.decshape, model.head.deccam):
        torch.nn.init.normal_(layer.weight, std=0.02)
    people = rendered_people([0] * 3)
    there = people.replace(intrinsics=seen_from(torch.tensor([[0.0, 0, 0], [0.8, 0, 0], [0, 0, 0.8]]), SIZE))
    with torch.inference_mode():
        said = model.predict(there)
    assert torch.equal(said.intrinsics, there.intrinsics)
    assert (said.body_pose[1:] - said.body_pose[:1]).abs().amax((1, 2)).min() > 1e-3
    # What is said lies in the crop, wherever in the picture that is.
    middle = said.joints2d[:, 0]
    assert (middle > 0.2 * SIZE).all()
    assert (middle < 0.8 * SIZE).all()
    aside = said.transl[:, 0] / said.transl[:, 2]
    assert aside[1] - aside[0] == pytest.approx(0.8 / 2.8, abs=0.02)
    # Twice the field of view, half the distance.
    far, near = said.transl[0, 2], said.transl[2, 2]
    assert far / near == pytest.approx((0.24 + 0.8 * 0.06) / 0.24, rel=0.05)


@pytest.mark.parametrize("unknown", [torch.eye(3), torch.full((3, 3), torch.nan)])
def test_without_a_camera_the_crop_is_looked_at(unknown: Tensor) -> None:
    people = rendered_people(range(2))
    model = make("cliff").eval()
    blind = people.replace(intrinsics=unknown.repeat(2, 1, 1))
    middle = people.replace(intrinsics=seen_from(torch.zeros(2, 3), SIZE))
    with torch.inference_mode():
        said, expected = model.predict(blind), model.predict(middle)
    for name in ("joints2d", "transl", "intrinsics", "body_pose"):
        torch.testing.assert_close(getattr(said, name), getattr(expected, name), rtol=1e-5, atol=1e-5)


def test_the_loss_is_that_of_the_whole_picture() -> None:
    """Joints projected with a picture's camera, measured in half boxes, are what the loss sees in the crop."""
    people = rendered_people(range(2))
    box = torch.tensor([[0.6, -0.4, 0.5], [-0.3, 0.2, -0.6]])
    people = people.replace(intrinsics=seen_from(box, SIZE))
    model = make("cliff").eval()
    with torch.inference_mode():
        out = model.solve(people)
        loss = model.losses(out, people)["joints2d"]
    side = torch.tensor([400.0, 90.0])  # of the box in the picture, pixels
    scale = side / SIZE
    focal, middle = people.intrinsics[:, 0, 0] * scale, torch.tensor([[960.0, 540.0], [320.0, 240.0]])
    picture = torch.diag_embed(torch.stack([focal, focal, torch.ones(2)], -1))
    picture[:, :2, 2] = middle
    corner = middle - people.intrinsics[:, :2, 2] * scale[:, None]  # where the crop's pixel (0, 0) lies
    labels = people.joints2d * scale[:, None, None] + corner[:, None]
    seen = project(out.joints3d + out.transl[:, None], picture)
    error = ((seen - labels) / (side[:, None, None] / 2)).square() * people.joints2d_conf[..., None]
    assert float(5 * error.sum((1, 2)).mean() / 98) == pytest.approx(float(loss), rel=1e-4)


def test_the_network_sees_the_middle_columns() -> None:
    model, people = make("cliff").eval(), rendered_people(range(2))
    outside = people.image.clone()
    outside[..., :8], outside[..., 56:] = 255, 0
    inside = people.image.clone()
    inside[..., 8] = 255 - inside[..., 8]
    with torch.inference_mode():
        said = [model.encode(image) for image in (people.image, outside, inside)]
    assert torch.equal(said[0], said[1])
    assert not torch.equal(said[0], said[2])


def test_checkpoints_of_each_other_are_refused(tmp_path: Path) -> None:
    torch.save({"model": make("spin").trained_state()}, tmp_path / "spin.pt")
    with pytest.raises(PosesynError, match="does not fit this CLIFF"):
        make("cliff", checkpoint=str(tmp_path / "spin.pt"))
    assert SPIN.from_upstream({"encoder.conv1.weight": torch.zeros(1), "decpose.weight": torch.zeros(1)}) is None
    assert CLIFF.from_upstream({"conv1.weight": torch.zeros(1), "decpose.weight": torch.zeros(1)}) is None
