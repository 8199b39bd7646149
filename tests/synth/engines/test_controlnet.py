"""The ControlNet engine, from condition to pool, with the real classes at tiny random size."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from human.body import load_body
from human.errors import PosesynError
from human.motion import load_motion_bank
from synth.diffusion.control_pictures import control_pictures, scale_camera
from synth.engines import ControlNetEngine
from synth.engines.build import make_engine, make_image_engine
from synth.jobs import Job, Prompt
from synth.labels import label_scenes
from synth.pool import Pool
from synth.sample import LABEL_SHAPES, Sample, encode_image
from synth.scene import SceneSpec, sample_scene
from tests.synth.diffusion import tiny

SIZE = 32


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)  # biases are drawn when networks are built, the rest by each one's own seed
    sd, sdxl = tiny.unet(), tiny.unet_sdxl()
    saved = {
        "sd": tiny.save_sd(folder / "sd"),
        "sdxl": tiny.save_sdxl(folder / "sdxl"),
        "sd_depth": tiny.save(tiny.controlnet(sd, 10), folder / "sd_depth"),
        "sd_keypoints": tiny.save(tiny.controlnet(sd, 11), folder / "sd_keypoints"),
        "depth": tiny.save(tiny.controlnet(sdxl, 12), folder / "depth"),
        "keypoints": tiny.save(tiny.controlnet(sdxl, 13), folder / "keypoints"),
        "union": tiny.save(tiny.controlnet_union(sdxl, 14), folder / "union"),
        "distilled": tiny.save(tiny.unet_sdxl(15), folder / "distilled"),
    }
    return {name: str(path) for name, path in saved.items()}


def engine(models: dict[str, str], **more: object) -> ControlNetEngine:
    given: dict[str, object] = {
        "model": models["sdxl"], "depth": models["depth"], "keypoints": models["keypoints"],
        "resolution": tiny.SIDE, "steps": 2, "device": "cpu", "dtype": "fp32",
    }  # fmt: skip
    made = make_image_engine("controlnet", SIZE, options=given | more)
    assert isinstance(made, ControlNetEngine)
    return made


def scene(*seeds: int) -> SceneSpec:
    return sample_scene(seeds, load_motion_bank(), load_body("free"), SIZE)


def job(seed: int = 3, **more: object) -> Job:
    return Job(scene(seed), seed=seed, **more)  # type: ignore[arg-type]


def sums(image: torch.Tensor) -> torch.Tensor:
    """(3,2,2) means of the picture's quarters."""
    return torch.nn.functional.adaptive_avg_pool2d(image.float(), 2)


# One picture of each kind of engine: means of red, green and blue in the four quarters.
EXPECTED: dict[str, list[float]] = {
    "sdxl": [107.0, 119.2, 113.5, 121.9, 162.4, 144.1, 146.3, 149.7, 134.9, 128.5, 130.7, 138.4],
    "union": [124.2, 110.2, 115.4, 118.4, 133.8, 168.3, 151.6, 166.5, 128.9, 144.4, 127.0, 135.4],
    "sd": [103.8, 119.7, 114.5, 130.7, 178.7, 170.1, 171.6, 161.1, 140.2, 144.1, 135.1, 142.8],
    "lcm": [110.2, 128.1, 100.0, 121.7, 161.8, 138.7, 154.4, 149.2, 141.7, 129.1, 122.4, 131.7],
    "lightning": [103.4, 112.1, 107.3, 118.7, 158.6, 144.5, 139.2, 145.1, 129.8, 129.6, 123.8, 136.6],
}
KINDS: dict[str, dict[str, str]] = {
    "sdxl": {},
    "union": {"union": "@union"},
    "sd": {"family": "sd", "model": "@sd", "depth": "@sd_depth", "keypoints": "@sd_keypoints"},
    "lcm": {"schedule": "lcm", "distilled": "@distilled"},
    "lightning": {"schedule": "lightning"},
}


def of_kind(models: dict[str, str], kind: str, **more: object) -> ControlNetEngine:
    named = {k: models[v[1:]] if v.startswith("@") else v for k, v in KINDS[kind].items()}
    return engine(models, **(named | more))


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_what_they_were(models: dict[str, str], kind: str) -> None:
    (batch,) = of_kind(models, kind).make([job()])
    found = sums(batch.image[0]).flatten()
    assert torch.allclose(found, torch.tensor(EXPECTED[kind]), atol=1.5), str([round(float(v), 1) for v in found])


def test_from_job_to_pool(models: dict[str, str], tmp_path: Path) -> None:
    jobs = [job(3), job(4, prompt=Prompt(caption="a man waves"))]
    made = engine(models).make(jobs)
    samples = [
        Sample(
            image=encode_image(batch.image[0], "png"),
            engine="controlnet",
            seed=int(batch.key[0, 3]),
            **{name: getattr(batch, name)[0] for name in LABEL_SHAPES},  # type: ignore[arg-type]
        )
        for batch in made
    ]
    pool = Pool(tmp_path / "pool")
    pool.commit(0, samples)
    again = pool.read(0, [0, 1])
    assert torch.equal(again.image, torch.cat([b.image for b in made]))
    for one, batch in zip(jobs, made, strict=True):
        assert torch.equal(batch.joints2d, label_scenes(one.scene, batch.image).joints2d)
    rendered = make_engine("rendered", SIZE, "procedural").render(SceneSpec.cat([j.scene for j in jobs]))
    for name in LABEL_SHAPES:  # identical labels whatever the engine
        assert torch.equal(getattr(again, name), getattr(rendered, name)), name


def test_a_picture_does_not_depend_on_its_neighbours(models: dict[str, str]) -> None:
    for kind in ("sdxl", "lcm"):  # LCM draws noise on its way
        one = of_kind(models, kind)
        (alone,) = one.make([job(3)])
        neighbours = one.make([job(5), job(3), job(6)])
        assert torch.equal(alone.image, neighbours[1].image)
        assert not torch.equal(alone.image, neighbours[0].image)
        # Rows of one convolution round differently: at once, pictures are equal but for that.
        for other in of_kind(models, kind, batch=2).make([job(5), job(3), job(6)])[1:2]:
            assert int((other.image.int() - alone.image.int()).abs().max()) <= 2


def test_everything_in_a_job_reaches_the_picture(models: dict[str, str]) -> None:
    made = engine(models)
    base = job(3, prompt=Prompt(action="walking", gender="man", environment="in a park"))
    others = [
        replace(base, prompt=replace(base.prompt, action="lying")),
        replace(base, scene=replace(base.scene, body_pose=-base.scene.body_pose)),
        replace(base, seed=4),
        replace(base, others=(replace(base.scene, transl=base.scene.transl + torch.tensor([0.4, 0.0, 0.3])),)),
    ]
    first, *rest = (b.image for b in made.make([base, *others]))
    for other in rest:
        assert not torch.equal(first, other)
    for off in ({"depth": None}, {"keypoints": None}, {"depth_scale": 0.1}, {"guidance": 2.0}):
        (changed,) = engine(models, **off).make([base])
        assert not torch.equal(first, changed.image), off


def test_every_kept_row_is_a_picture(models: dict[str, str]) -> None:
    (batch,) = engine(models).make([Job(scene(3, 4, 5), seed=1, keep=(2, 0))])
    assert len(batch) == 2
    assert batch.key[:, 3].tolist() == [5, 3]
    assert torch.equal(batch.joints2d, label_scenes(scene(5, 3), batch.image).joints2d)


def test_config_names_what_decides_pixels(models: dict[str, str]) -> None:
    base = engine(models)
    for same in ({"slicing": True}, {"offload": "model"}, {"batch": 3}, {"local_files_only": False}):
        assert engine(models, **same).config_hash() == base.config_hash(), same
    for other in (
        {"steps": 3}, {"guidance": 3.0}, {"depth_scale": 0.7}, {"union": models["union"]}, {"schedule": "dpm"},
        {"resolution": 128}, {"template": "{caption}"}, {"negative_prompt": ""}, {"dtype": "bf16"}, {"tiling": True},
        {"distilled": models["distilled"]}, {"hidden_joints": False}, {"environments": []},
    ):  # fmt: skip
        assert engine(models, **other).config_hash() != base.config_hash(), other


def test_release_and_load_again(models: dict[str, str]) -> None:
    made = engine(models)
    (first,) = made.make([job()])
    made.release()
    assert made._pipeline is None
    (again,) = made.make([job()])
    assert torch.equal(first.image, again.image)


# ------------------------------------------------------------------------------------------------------ conditions
def test_conditions_lie_under_the_labels() -> None:
    spec = scene(3, 11)
    seen = control_pictures(spec, [], SIZE, 128)
    labels = label_scenes(spec, torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8))
    for row in range(2):
        inside = labels.joints2d_conf[row] > 0
        at = ((labels.joints2d[row, inside] + 0.5) * 128 / SIZE - 0.5).round().long().clamp(0, 127)
        covered = torch.nn.functional.max_pool2d(seen.mask[row][None, None].float(), 9, 1, 4)[0, 0]
        assert covered[at[:, 1], at[:, 0]].mean() > 0.9
        pose = seen.skeletons[row].any(-1)
        assert (pose & covered.bool()).sum() / pose.sum() > 0.9
    camera = scale_camera(spec.intrinsics, SIZE, 128)
    assert torch.allclose(camera[:, 0, 2], torch.full((2,), (128 - 1) / 2))


def test_the_nearer_person_is_in_front() -> None:
    first = scene(11)
    behind = replace(first, transl=first.transl + torch.tensor([[0.1, 0.0, 0.6]]))
    before = replace(first, transl=first.transl - torch.tensor([[0.1, 0.0, 0.6]]))
    alone = control_pictures(first, [], SIZE, 128)
    with_behind, with_before = (control_pictures(first, [p], SIZE, 128) for p in (behind, before))
    assert torch.equal(with_behind.mask, alone.mask)
    assert torch.equal(with_behind.depth[alone.mask], alone.depth[alone.mask])
    assert (with_behind.depth > 0).sum() > (alone.depth > 0).sum()
    assert with_before.mask.sum() < alone.mask.sum()
    shown = (alone.skeletons > 0).any(-1)
    assert torch.equal(with_behind.skeletons[shown], alone.skeletons[shown])
    assert not torch.equal(with_before.skeletons[shown], alone.skeletons[shown])
    assert int(with_before.depth_picture.max()) == 255  # one scale for both: the nearest point of all
    assert int(with_before.depth_picture[with_before.mask].max()) < 255


# --------------------------------------------------------------------------------------------------- ugly cases
def test_missing_weights_say_what_to_get() -> None:
    made = make_image_engine("controlnet", SIZE)  # the shipped defaults; nothing of it is on this machine
    with pytest.raises(PosesynError) as caught:
        made.make([job()])
    for part in ("sdxl_controlnet_depth", "posesyn assets fetch sdxl_controlnet_depth", "GB", "local_files_only=false"):
        assert part in str(caught.value)


def test_damaged_weights_are_named(models: dict[str, str], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models["depth"], tmp_path / "depth"))
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(PosesynError, match="damaged weights"):
        engine(models, depth=str(folder)).make([job()])
    with pytest.raises(PosesynError, match="does not fit"):
        engine(models, depth=models["union"]).make([job()])


def test_scenes_that_cannot_be_drawn_are_named(models: dict[str, str]) -> None:
    made, good = engine(models), scene(3)
    for field in ("betas", "body_pose", "global_orient", "transl", "intrinsics"):
        value = getattr(good, field).clone()
        value.flatten()[0] = float("nan")
        with pytest.raises(PosesynError, match=rf"job with seed 9.*seed 3.*{field} that is not finite"):
            made.make([Job(replace(good, **{field: value}), seed=9)])
    for away in ([50.0, 0.0, 5.0], [0.0, 0.0, -5.0]):
        lost = replace(good, transl=torch.tensor([away]))
        with pytest.raises(PosesynError, match="nowhere in the picture"):
            made.make([Job(lost, seed=9)])
    bad = replace(good, transl=good.transl * float("inf"))
    with pytest.raises(PosesynError, match="not finite"):
        made.make([Job(good, seed=9, others=(bad,))])
    # Another person may be elsewhere; the labels are not about them.
    made.conditions(Job(good, seed=9, others=(replace(good, transl=torch.tensor([[50.0, 0.0, 5.0]])),)))


def test_no_jobs_no_pictures(models: dict[str, str]) -> None:
    made = engine(models)
    assert made.make([]) == []
    assert made._pipeline is None


def test_a_model_of_the_other_family_is_one_error(models: dict[str, str]) -> None:
    other = engine(models, model=models["sd"], depth=models["sd_depth"], keypoints=models["sd_keypoints"])
    with pytest.raises(PosesynError, match=r"is no SDXL .*: set family to sd"):
        other.make([job()])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": "flux"}, "family is 'flux'"),
        ({"schedule": "magic"}, "schedule is 'magic'"),
        ({"family": "sd", "union": "x"}, "sdxl only"),
        ({"depth": None, "keypoints": None}, "name a depth or a keypoints"),
        ({"resolution": 100}, "multiple of 8"),
        ({"batch": 0}, "at least 1"),
        ({"steps": 0}, "at least 1"),
        ({"template": "A {colour} man"}, "colour"),
        ({"template": "A {gender"}, "cannot be read"),
        ({"offload": "disk"}, "offload is 'disk'"),
    ],
)
def test_settings_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(PosesynError, match=message):
        make_image_engine("controlnet", SIZE, options=options)
