"""The sensor: JPEG as libjpeg does it, noise with the promised statistics, the same bytes in any batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
import torch

from human.errors import PosesynError
from human.rng import generator
from synth.backgrounds import load_background_bank
from synth.occluders import KINDS, Occluder, OccluderConfig, apply_occluders, draw_occluders
from synth.sensor import Sensor, SensorConfig, apply_sensor, draw_sensor, through_jpeg, through_libjpeg

BANK = load_background_bank("procedural")
QUIET = {
    "blur": 0.0,
    "factor": 1.0,
    "grey": 0.0,
    "gamma": 1.0,
    "contrast": 1.0,
    "noise": 0.0,
    "shot": 0.0,
}


def clean(count: int, **changes: object) -> Sensor:
    """A sensor that does nothing but what ``changes`` say."""
    given = {key: torch.full((count,), value) for key, value in QUIET.items()}
    given |= {"motion": torch.zeros(count, 2), "tint": torch.ones(count, 3), "seed": torch.arange(count)}
    given |= {key: torch.zeros(count, dtype=torch.int32) for key in ("quality", "subsampled")}
    for key, value in changes.items():
        given[key] = torch.as_tensor(value, dtype=given[key].dtype).expand(given[key].shape).contiguous()
    return Sensor(**given)


def pictures(count: int, size: int = 64) -> torch.Tensor:
    return torch.stack([torch.from_numpy(BANK.draw(i, (size, size))) for i in range(count)]).float()


def drawn(count: int, size: int) -> Sensor:
    return Sensor.stack([draw_sensor(generator("sensor", i), SensorConfig(), size) for i in range(count)])


# --- JPEG ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 64), (97, 131), (100, 90), (9, 7), (1, 1), (2, 30)])
@pytest.mark.parametrize("subsampled", [0, 1])
def test_jpeg_is_libjpegs_byte_for_byte(size: tuple[int, int], subsampled: int) -> None:
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if subsampled else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    base = BANK.draw(3, size)
    noisy = np.clip(base + np.random.default_rng(0).normal(0, 25, base.shape), 0, 255).astype(np.uint8)
    for quality in (1, 10, 49, 50, 75, 92, 100):
        for picture in (base, noisy):
            ours = torch.from_numpy(picture.transpose(2, 0, 1).copy())[None]
            through_jpeg(
                ours, torch.tensor([quality], dtype=torch.int32), torch.tensor([subsampled], dtype=torch.int32)
            )
            settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
            _, code = cv2.imencode(".jpg", picture[..., ::-1], settings)
            theirs = cv2.imdecode(code, cv2.IMREAD_COLOR_RGB)
            difference = np.abs(ours[0].permute(1, 2, 0).numpy().astype(int) - theirs)
            # Exact with the libjpeg-turbo this was written against; another build may round some chroma otherwise.
            assert difference.mean() <= 0.02, (quality, difference.max())


def test_libjpeg_and_the_kernels_do_the_same() -> None:
    image = pictures(6, 90).permute(0, 3, 1, 2).to(torch.uint8).contiguous()
    quality = torch.tensor([0, 1, 30, 60, 90, 100], dtype=torch.int32)
    subsampled = torch.tensor([1, 1, 0, 1, 0, 1], dtype=torch.int32)
    ours, theirs = image.clone(), image.clone()
    through_jpeg(ours, quality, subsampled)
    through_libjpeg(theirs, quality, subsampled)
    assert (ours.int() - theirs.int()).abs().float().mean() <= 0.02  # 0 where the build is the same (see above)
    assert (theirs != image).flatten(1).any(1).tolist() == [False, True, True, True, True, True]


@pytest.mark.parametrize("through", [through_jpeg, through_libjpeg])
def test_quality_zero_leaves_a_picture_alone(through: Callable[..., None]) -> None:
    image = pictures(2).permute(0, 3, 1, 2).to(torch.uint8).contiguous()
    out = image.clone()
    through(out, torch.tensor([0, 30], dtype=torch.int32), torch.tensor([1, 1], dtype=torch.int32))
    assert torch.equal(out[0], image[0])
    assert not torch.equal(out[1], image[1])


# --- steps --------------------------------------------------------------------------------------------------------


def test_nothing_asked_nothing_changed() -> None:
    image = pictures(3)
    out = apply_sensor(image, clean(3))
    assert out.dtype == torch.uint8
    assert torch.equal(out, image.permute(0, 3, 1, 2).to(torch.uint8))


def test_noise_has_the_promised_statistics() -> None:
    flat = torch.full((4, 128, 128, 3), 128.0)
    out = apply_sensor(flat, clean(4, noise=6.0)).float() - 128
    assert abs(float(out.mean())) < 0.05
    assert float(out.std()) == pytest.approx(np.sqrt(36 + 1 / 12), rel=0.02)
    kurtosis = float((out**4).mean() / out.var() ** 2)
    assert 2.8 < kurtosis < 3.1, "not normal"
    a, b = out[0], out[1]  # seeds, channels and neighbours are independent
    for x, y in ((a, b), (a[0], a[1]), (a[0], a[2]), (a[:, :, 1:], a[:, :, :-1]), (a[:, 1:], a[:, :-1])):
        assert abs(float((x * y).mean() / 36)) < 0.04


def test_shot_noise_grows_with_light() -> None:
    levels = torch.tensor([20.0, 128.0, 220.0])[:, None, None, None].expand(3, 96, 96, 3)
    spread = apply_sensor(levels, clean(3, noise=6.0, shot=0.9)).float().flatten(1).std(1)
    want = 6 * torch.sqrt(0.1 + 0.9 * torch.tensor([20.0, 128.0, 220.0]) / 128)
    assert torch.allclose(spread, want, rtol=0.04)


def test_blur_is_opencvs_gaussian() -> None:
    image = pictures(2)
    out = apply_sensor(image, clean(2, blur=1.7)).permute(0, 2, 3, 1).numpy().astype(int)
    for got, source in zip(out, image.numpy(), strict=True):
        want = cv2.GaussianBlur(source, (15, 15), 1.7, borderType=cv2.BORDER_REPLICATE)
        assert np.abs(got - want).max() <= 2.0


@pytest.mark.parametrize("stroke", [(9.0, 0.0), (0.0, 9.0), (6.0, 6.0), (-6.0, 4.0), (0.5, 0.1)])
def test_motion_spreads_a_point_along_the_stroke(stroke: tuple[float, float]) -> None:
    image = torch.zeros(1, 41, 41, 3)
    image[0, 20, 20] = 250.0
    image += 2
    out = apply_sensor(image, clean(1, motion=[list(stroke)])).float()[0, 0] - 2
    y, x = torch.meshgrid(torch.arange(41) - 20.0, torch.arange(41) - 20.0, indexing="ij")
    mass = out.sum()
    assert float(mass) == pytest.approx(250, rel=0.12)
    assert abs(float((out * x).sum() / mass)) < 0.3
    assert abs(float((out * y).sum() / mass)) < 0.3
    length = float(np.hypot(*stroke))
    along = (x * stroke[0] + y * stroke[1]) / length
    across = (x * stroke[1] - y * stroke[0]) / length
    if length > 2:
        assert float((out * along**2).sum() / mass) == pytest.approx(length**2 / 12, rel=0.25)
        assert float((out * across**2).sum() / mass) < 0.5


@pytest.mark.parametrize("factor", [1.3, 2.0, 2.5])
def test_lost_resolution_keeps_the_mean_and_loses_detail(factor: float) -> None:
    image = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3))).float()
    out = apply_sensor(image, clean(1, factor=factor)).float()
    assert float(out.mean()) == pytest.approx(float(image.mean()), abs=1.0)
    assert float(out.std()) < float(image.std()) * 0.75
    small = cv2.resize(image[0].numpy(), (round(64 / factor),) * 2, interpolation=cv2.INTER_AREA)
    want = cv2.resize(small, (64, 64), interpolation=cv2.INTER_LINEAR)
    assert np.abs(out[0].permute(1, 2, 0).numpy() - want).mean() < 1.0


def test_tone_tint_and_grey() -> None:
    image = pictures(1)
    out = apply_sensor(image, clean(1, gamma=1.4, contrast=0.9, tint=[[1.1, 1.0, 0.9]]))[0].permute(1, 2, 0).float()
    want = ((255 * (image[0] / 255) ** 1.4 - 128) * 0.9 + 128) * torch.tensor([1.1, 1.0, 0.9])
    assert (out - want.clamp(0, 255)).abs().max() < 1.2
    grey = apply_sensor(image, clean(1, grey=1.0))[0]
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[0], grey[2])


# --- determinism --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [48, 75])
def test_a_row_has_the_same_bytes_in_any_batch(size: int) -> None:
    image, sensor = pictures(24, size), drawn(24, size)
    before = image.clone()
    whole = apply_sensor(image, sensor)
    assert torch.equal(image, before), "the input was changed"
    for rows in ([5], [23, 0, 7], list(range(11, 24))):
        assert torch.equal(apply_sensor(image[rows], sensor[rows]), whole[rows])
    used = [float((getattr(sensor, k) > low).float().mean()) for k, low in (("blur", 0), ("factor", 1), ("quality", 0))]
    assert all(0 < share < 1 for share in used), "the test met no rows with and without a step"


def test_the_seed_names_the_draw_and_probabilities_change_only_their_effect() -> None:
    first, again = (draw_sensor(generator("x", 1), SensorConfig(), 128) for _ in range(2))
    assert all(np.array_equal(first[k], again[k]) for k in first)
    other = draw_sensor(generator("x", 1), SensorConfig(blur_probability=1.0, jpeg_probability=0.0), 128)
    for key in ("noise", "gamma", "tint", "seed"):
        assert np.array_equal(first[key], other[key])
    assert set(first) == {f.name for f in fields(Sensor)}


def test_extreme_and_empty_input() -> None:
    wild = torch.full((1, 16, 16, 3), 1e9)
    assert (apply_sensor(wild, clean(1)) == 255).all()
    assert (apply_sensor(-wild, clean(1)) == 0).all()
    assert apply_sensor(torch.zeros(0, 8, 8, 3), clean(0)).shape == (0, 3, 8, 8)
    with pytest.raises(PosesynError, match="one row per picture"):
        apply_sensor(torch.zeros(2, 8, 8, 3), clean(3))
    with pytest.raises(PosesynError, match=r"\(B, H, W, 3\)"):
        apply_sensor(torch.zeros(2, 3, 8, 8), clean(2))


def test_cuda_agrees() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here: the sensor was NOT compared between CPU and CUDA")
    image, sensor = pictures(16), drawn(16, 64)
    sensor = replace(sensor, quality=torch.zeros_like(sensor.quality))
    there = apply_sensor(image.cuda(), sensor.to("cuda")).cpu()
    assert (there.int() - apply_sensor(image, sensor).int()).abs().max() <= 1


# --- occluders ----------------------------------------------------------------------------------------------------


def occluders(count: int, size: int, **changes: object) -> Occluder:
    config = OccluderConfig(**({"probability": 1.0} | changes))  # type: ignore[arg-type]
    return Occluder.stack(
        [draw_occluders(generator("o", i), config, size, BANK.draw(i, (size, size))) for i in range(count)]
    )


def test_objects_change_the_picture_exactly_where_they_say() -> None:
    image, things = pictures(40), occluders(40, 64)
    joints = torch.from_numpy(np.random.default_rng(1).uniform(10, 54, (40, 32, 2))).float()
    before = image.clone()
    out, visible = apply_occluders(image, things, joints)
    assert torch.equal(image, before), "the input was changed"
    assert visible.shape == (40, 64, 64)
    assert ((visible >= 0) & (visible <= 1)).all()
    untouched = visible == 1
    assert torch.equal(out[untouched], image[untouched])
    assert (visible.flatten(1).amin(1) < 0.5).float().mean() > 0.9
    assert ((out >= 0) & (out <= 400)).all()
    assert len(set(things.kind.flatten().tolist())) == len(KINDS), "some kind was never drawn"
    for rows in ([3], [9, 2, 30]):
        part = apply_occluders(image[rows], things[rows], joints[rows])
        assert torch.equal(part[0], out[rows])
        assert torch.equal(part[1], visible[rows])


def test_an_object_stands_over_its_joint() -> None:
    things = occluders(
        60, 96, spread=0.0, kinds=(1.0, 0.0, 0.0, 0.0, 0.0), pole_probability=0.0, second_probability=0.0
    )
    joints = torch.from_numpy(np.random.default_rng(2).uniform(20, 76, (60, 32, 2))).float()
    _, visible = apply_occluders(torch.zeros(60, 96, 96, 3), things, joints)
    at = joints[torch.arange(60), things.joint[:, 0]].round().long()
    assert (visible[torch.arange(60), at[:, 1], at[:, 0]] < 0.5).all()


def test_most_pictures_have_no_object() -> None:
    things = occluders(200, 32, probability=0.25)
    assert 0.15 < (things.kind > 0).any(1).float().mean() < 0.36
    none = occluders(5, 32, probability=0.0)
    image = pictures(5, 32)
    out, visible = apply_occluders(image, none, torch.zeros(5, 32, 2))
    assert torch.equal(out, image)
    assert (visible == 1).all()
    bad = torch.full((5, 32, 2), float("nan"))
    assert torch.isfinite(apply_occluders(image, occluders(5, 32), bad)[0]).all()
