"""What every registered estimator promises, at tiny size."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from human.assets import locate
from human.batch import PoseBatch
from human.errors import PosesynError
from lightning_modules import ESTIMATORS, HMR, PoseEstimator
from lightning_modules.backbones import load_lite_weights
from lightning_modules.pooling import POOLS
from tests.lightning_modules.tiny_estimators import FITTED, TINY, make
from tests.tiny import SIZE, rendered_people, tiny_hmr

CASES = [(name, {}) for name in ESTIMATORS.names()]
CASES += [("hmr", {"pool": pool}) for pool in POOLS]
CASES += [("hmr", {"backbone": "test_vit", "pool": pool}) for pool in POOLS]
CASES += [("hmr", {"backbone": "test_resnet", "pool": "avg"})]


@pytest.fixture(params=CASES, ids=lambda c: "-".join([c[0], *map(str, c[1].values())]))
def estimator(request: pytest.FixtureRequest) -> PoseEstimator:
    name, changes = request.param
    return make(name, **changes)


@pytest.fixture(scope="module")
def people() -> PoseBatch:
    return rendered_people(range(6))


def step(estimator: PoseEstimator, batch: PoseBatch) -> torch.Tensor:
    torch.manual_seed(1)
    estimator.zero_grad()
    loss = estimator.training_step(batch, 0)
    loss.backward()
    return loss.detach()


def assert_finite_gradients(estimator: PoseEstimator) -> None:
    gradients = {n: p.grad for n, p in estimator.named_parameters() if p.grad is not None}
    assert gradients
    for name, gradient in gradients.items():
        assert gradient.isfinite().all(), name


def test_every_estimator_is_tested() -> None:
    assert set(TINY) == set(ESTIMATORS.names())


def test_prediction_is_whole_and_consistent(estimator: PoseEstimator, people: PoseBatch) -> None:
    with torch.inference_mode():
        said = estimator.eval().predict(people)
        joints = estimator.body.joints(said.betas, said.body_pose, said.global_orient, None)
    assert said.finite.all()
    assert said.joints3d.shape == (6, 32, 3)
    assert said.joints2d.shape == (6, 32, 2)
    assert (said.joints3d[:, 0] == 0).all()
    off = FITTED.get(type(estimator).__name__, 1e-3)
    torch.testing.assert_close(said.joints3d, joints - joints[:, :1], rtol=0, atol=off)
    camera = (said.joints3d + said.transl[:, None]) @ said.intrinsics.transpose(1, 2)
    torch.testing.assert_close(said.joints2d, camera[..., :2] / camera[..., 2:], rtol=1e-3, atol=1e-2)


def test_an_untrained_estimator_sees_an_upright_person_in_the_crop(estimator: PoseEstimator, people: PoseBatch) -> None:
    with torch.inference_mode():
        said = estimator.eval().predict(people)
    assert (said.joints2d > -0.2 * SIZE).all()
    assert (said.joints2d < 1.2 * SIZE).all()
    head, foot = said.joints2d[:, 30, 1], said.joints2d[:, 10, 1]
    assert (foot - head > 0.4 * SIZE).all()


def test_gradients_reach_every_weight(estimator: PoseEstimator, people: PoseBatch) -> None:
    assert step(estimator, people).isfinite()
    assert_finite_gradients(estimator)
    without = [n for n, p in estimator.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_bfloat16(estimator: PoseEstimator, people: PoseBatch) -> None:
    full = step(estimator, people)
    with torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(1)
        estimator.zero_grad()
        loss = estimator.training_step(people, 0)
    loss.backward()
    assert loss.item() == pytest.approx(full.item(), rel=0.1)
    assert_finite_gradients(estimator)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        said = estimator.eval().predict(people)
    assert said.finite.all()
    assert said.joints3d.dtype == torch.float32


def without_3d(batch: PoseBatch) -> PoseBatch:
    no, blank = torch.zeros(len(batch), dtype=torch.bool), PoseBatch.blank(len(batch), batch.size)
    return batch.replace(
        joints3d=blank.joints3d, joints3d_conf=blank.joints3d_conf, body_pose=blank.body_pose,
        global_orient=blank.global_orient, betas=blank.betas, has_pose=no, has_betas=no, has_transl=no,
    )  # fmt: skip


def test_people_without_3d_labels(estimator: PoseEstimator, people: PoseBatch) -> None:
    flat = step(estimator, without_3d(people))
    assert 0 < flat < step(estimator, people)
    step(estimator, without_3d(people))
    assert_finite_gradients(estimator)


def test_people_without_any_label(estimator: PoseEstimator, people: PoseBatch) -> None:
    nothing = without_3d(people).replace(joints2d_conf=torch.zeros(6, 32))
    assert step(estimator, nothing).isfinite()
    assert_finite_gradients(estimator)


def test_labels_that_are_absent_may_be_anything(estimator: PoseEstimator, people: PoseBatch) -> None:
    # A camera is an input, not a label: it may only be unknown in two ways.
    clean = without_3d(people).replace(intrinsics=PoseBatch.blank(6, SIZE).intrinsics)
    spoilt = clean.replace(**{
        name: torch.full_like(getattr(clean, name), torch.nan)
        for name in ("joints3d", "body_pose", "global_orient", "betas", "transl", "intrinsics")
    })  # fmt: skip
    modes = copy.deepcopy(estimator)  # batch statistics move with a step
    assert torch.equal(step(estimator, spoilt), step(modes, clean))
    assert_finite_gradients(estimator)


def test_the_same_twice(estimator: PoseEstimator, people: PoseBatch) -> None:
    twin = copy.deepcopy(estimator)
    assert torch.equal(step(estimator, people), step(twin, people))
    with torch.inference_mode():
        first, second = (estimator.eval().predict(people) for _ in range(2))
        torch.testing.assert_close(estimator.predict(people[2:3]).joints3d, first.joints3d[2:3], rtol=0, atol=1e-4)
    assert torch.equal(first.joints2d, second.joints2d)
    assert estimator.weights_hash() == twin.eval().weights_hash()
    with torch.no_grad():
        next(iter(estimator.head.parameters())).view(-1)[0] += 1e-6
    assert estimator.weights_hash() != twin.weights_hash()


@pytest.mark.parametrize("pool", list(POOLS))
def test_one_batch_can_be_learnt_by_heart(pool: str) -> None:
    """Labels, crops and cameras agree with each other: both errors on joints fall by 90 %."""
    people = rendered_people(range(4))
    estimator = make("hmr", pool=pool, dropout=0.0, hidden=128, channels=32)
    optimizer = torch.optim.AdamW(estimator.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)

    def errors() -> tuple[float, float]:
        with torch.inference_mode():
            said = estimator.predict(people)
        flat = (said.joints2d - people.joints2d).norm(dim=-1)[people.joints2d_conf > 0]
        return float(flat.mean()), float((said.joints3d - people.joints3d).norm(dim=-1).mean())

    before = errors()
    for _ in range(60):
        optimizer.zero_grad()
        estimator.training_step(people, 0).backward()
        torch.nn.utils.clip_grad_norm_(estimator.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    after = errors()
    assert after[0] < 0.1 * before[0]
    assert after[1] < 0.1 * before[1]


# -- weights ---------------------------------------------------------------------------------------------------------
def test_weights_come_back_from_a_file(estimator: PoseEstimator, people: PoseBatch, tmp_path: Path) -> None:
    with torch.no_grad():
        for p in estimator.parameters():
            p.add_(0.01)
    step(estimator, people)  # batch statistics too
    estimator.save_weights(tmp_path / "w.safetensors")
    torch.save({"state_dict": estimator.state_dict()}, tmp_path / "w.ckpt")
    for name in ("w.safetensors", "w.ckpt"):
        fresh = copy.deepcopy(estimator)
        with torch.no_grad():
            for p in fresh.parameters():
                p.zero_()
        fresh.load_weights(tmp_path / name)
        assert fresh.weights_hash() == estimator.weights_hash()


def test_checkpoint_argument_loads_in_the_constructor(tmp_path: Path) -> None:
    source = tiny_hmr()
    with torch.no_grad():
        source.head.delta.weight.fill_(0.25)
    source.save_weights(tmp_path / "w.safetensors")
    assert tiny_hmr(checkpoint=str(tmp_path / "w.safetensors")).weights_hash() == source.weights_hash()


def test_a_checkpoint_of_another_model_lists_what_differs(tmp_path: Path) -> None:
    other = tiny_hmr(hidden=16, backbone="test_resnet")
    torch.save({"state_dict": other.state_dict()}, tmp_path / "other.ckpt")
    with pytest.raises(PosesynError) as caught:
        tiny_hmr(checkpoint=str(tmp_path / "other.ckpt"))
    text = str(caught.value)
    assert "other.ckpt" in text
    assert "missing ['backbone." in text
    assert "unknown ['backbone." in text
    assert "head.delta.weight (157, 16) != (157, 32)" in text


def test_nothing_changes_when_a_checkpoint_does_not_fit(tmp_path: Path) -> None:
    model = tiny_hmr()
    before = model.weights_hash()
    torch.save({"state_dict": tiny_hmr(hidden=16).state_dict()}, tmp_path / "small.ckpt")
    with pytest.raises(PosesynError):
        model.load_weights(tmp_path / "small.ckpt")
    assert model.weights_hash() == before


class Payload:
    """What a hostile checkpoint would run; unpickling must not come to it."""

    ran = False

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _run, ()


def _run() -> None:
    Payload.ran = True


@pytest.mark.parametrize(
    "name", ["cut.ckpt", "text.ckpt", "empty.ckpt", "list.ckpt", "word.ckpt", "evil.ckpt", "text.safetensors"]
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "cut.ckpt":
        torch.save({"state_dict": tiny_hmr().state_dict()}, path)
        path.write_bytes(path.read_bytes()[:5000])
    elif name == "list.ckpt":
        torch.save([1, 2], path)
    elif name == "word.ckpt":
        torch.save({"state_dict": "weights"}, path)
    elif name == "evil.ckpt":
        torch.save({"state_dict": Payload()}, path)
    else:
        path.write_bytes(b"" if name == "empty.ckpt" else b"weights, honestly")
    with pytest.raises(PosesynError, match=name) as caught:
        tiny_hmr().load_weights(path)
    assert "\n" not in str(caught.value)
    assert not Payload.ran


@pytest.mark.parametrize("name", ["nowhere.ckpt", "packaged:nowhere"])
def test_a_checkpoint_that_is_not_there(name: str) -> None:
    with pytest.raises(PosesynError, match="nowhere"):
        tiny_hmr(checkpoint=name)


# -- what users mistype ----------------------------------------------------------------------------------------------
def test_pictures_of_another_size(people: PoseBatch) -> None:
    with pytest.raises(PosesynError, match=r"64 px.*\(96, 96\)"):
        tiny_hmr().predict(PoseBatch.blank(2, 96))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"backbone": "resnet_18"}, "resnet_18"),
        ({"backbone": "efficientnet_lite"}, "did you mean efficientnet_lite0"),
        ({"pool": "max"}, "avg, flatten"),
        ({"focal": "hmr3"}, "hmr2"),
        ({"frozen": ["stem"]}, "conv_stem"),
        ({"body": "fre"}, "free"),
    ],
)
def test_settings_that_are_mistyped(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(PosesynError, match=says):
        tiny_hmr(**wrong)


# -- frozen parts ----------------------------------------------------------------------------------------------------
def test_frozen_modules_do_not_change(people: PoseBatch) -> None:
    frozen = ["conv_stem", "bn1", "blocks.0"]
    model = tiny_hmr(frozen=frozen)
    before = copy.deepcopy(model.backbone.state_dict())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    for mode in (False, True):  # validation comes between steps
        model.train(mode)
    for _ in range(2):
        optimizer.zero_grad()
        model.training_step(people, 0).backward()
        optimizer.step()
    changed = {k for k, v in model.backbone.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert not [k for k in changed if k.startswith(tuple(f"{f}." for f in frozen))]
    assert any(k.endswith("running_mean") for k in changed)  # of what is not frozen


# -- ImageNet weights ------------------------------------------------------------------------------------------------
@pytest.fixture
def lite0() -> torch.nn.Module:
    if locate("efficientnet_lite0") is None:
        pytest.skip("ImageNet weights are not cached: posesyn assets fetch efficientnet_lite0")
    return timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(-1,))


def test_imagenet_weights_load_whole(lite0: torch.nn.Module) -> None:
    torch.manual_seed(0)
    before = copy.deepcopy(lite0.state_dict())
    load_lite_weights(lite0, "efficientnet_lite0")
    after = lite0.state_dict()
    assert [k for k in after if torch.equal(after[k], before[k]) and not k.endswith("num_batches_tracked")] == []
    assert all(v.isfinite().all() for v in after.values())
    assert (torch.cat([v for k, v in after.items() if k.endswith("running_var")]) >= 0).all()
    # Trained filters answer to edges: far from unit variance, as no initialisation is.
    assert after["bn1.running_var"].std() > 0.1


def test_imagenet_weights_of_another_architecture(lite0: torch.nn.Module) -> None:
    other = timm.create_model("test_efficientnet", pretrained=False, features_only=True, out_indices=(-1,))
    with pytest.raises(PosesynError, match="does not fit"):
        load_lite_weights(other, "efficientnet_lite0")


def test_imagenet_weights_through_the_model(lite0: torch.nn.Module) -> None:
    load_lite_weights(lite0, "efficientnet_lite0")
    model = HMR(image_size=SIZE, channels=8, hidden=16, backbone_asset="efficientnet_lite0", pool="avg")
    for name, value in lite0.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], value), name
