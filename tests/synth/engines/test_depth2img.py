"""Depth-guided denoising with the real classes at tiny random size, from the job to the labelled picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from human.batch import PoseBatch
from human.body import load_body
from human.errors import PosesynError
from human.motion import load_motion_bank
from synth.diffusion.depth2img import encode
from synth.engines.build import make_engine, make_image_engine
from synth.engines.depth2img import MADE, Depth2ImgEngine
from synth.jobs import Job, Prompt, Reference
from synth.scene import SceneConfig, SceneSpec, sample_scene
from synth.segmenters import SEGMENTERS, Instances, InstanceSegmenter
from tests.synth.diffusion import tiny
from tests.synth.diffusion.tiny_video import drawn_from

SIZE, PICTURE = 48, 64


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    with drawn_from(0):
        return {"model": str(tiny.save_sd_depth(folder / "depth")), "text_model": str(tiny.save_sd(folder / "sd"))}


@pytest.fixture(scope="module")
def scenes() -> SceneSpec:
    scene = SceneConfig(truncation_probability=0.0)
    return sample_scene(range(3), load_motion_bank(), load_body(), SIZE, scene)


def engine(models: dict[str, str], **changes: Any) -> Depth2ImgEngine:
    options = {"resolution": PICTURE, "steps": 4, "device": "cpu", **models, **changes}
    made = make_image_engine("depth2img", SIZE, options=options)
    assert isinstance(made, Depth2ImgEngine)
    return made


def reference(seed: int = 0, side: int = 40, name: str = "lspet/1", body: SceneSpec | None = None) -> Reference:
    """A picture with broad patches, so that its latents differ from place to place."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    image = np.repeat(np.repeat(coarse, -(-side // 5), 0), -(-side // 5), 1)[:side, :side]
    return Reference(name, np.ascontiguousarray(image), body)


def job(scenes: SceneSpec, row: int = 0, **changes: Any) -> Job:
    given = {"seed": 70 + row, "prompt": Prompt(caption="a man runs"), "reference": reference(row)}
    return Job(scene=scenes[row : row + 1], **(given | changes))


def jobs(scenes: SceneSpec) -> list[Job]:
    return [job(scenes, row) for row in range(3)]


def same(one: PoseBatch, two: PoseBatch, pixels: bool = True) -> bool:
    left, right = one.as_dict(), two.as_dict()
    return all(torch.equal(v, right[k]) for k, v in left.items() if pixels or k != "image")


def test_pictures_of_a_seed(models: dict[str, str], scenes: SceneSpec) -> None:
    made = engine(models).make(jobs(scenes))
    assert [m.image.shape for m in made] == [(1, 3, SIZE, SIZE)] * 3
    means = np.array([m.image.float().mean((0, 2, 3)).numpy() for m in made])
    assert np.allclose(means, MEANS, atol=1.0), means


MEANS = [[125.74, 152.0, 146.01], [124.57, 151.61, 145.28], [125.52, 154.93, 146.77]]


def test_a_picture_does_not_depend_on_its_neighbours(models: dict[str, str], scenes: SceneSpec) -> None:
    together = engine(models).make(jobs(scenes))
    alone = engine(models).make([jobs(scenes)[1]])
    assert same(together[1], alone[0])
    in_pairs = engine(models, batch=2)
    pairs, one = in_pairs.make(jobs(scenes)), in_pairs.make([jobs(scenes)[0]])
    assert same(pairs[0], one[0])
    assert (pairs[2].image.int() - together[2].image.int()).abs().max() <= 1
    assert engine(models).config_hash() == in_pairs.config_hash()
    in_pairs.release()
    assert same(in_pairs.make([jobs(scenes)[0]])[0], one[0])


def test_labels_are_every_engines(models: dict[str, str], scenes: SceneSpec) -> None:
    rendered = make_engine("rendered", SIZE, "procedural", {"supersample": 1})
    for mine, theirs in zip(engine(models).make(jobs(scenes)), rendered.make(jobs(scenes)), strict=True):
        assert same(mine, theirs, pixels=False)
        assert not torch.equal(mine.image, theirs.image)
    assert [int(m.key[0, 3]) for m in engine(models).make(jobs(scenes))] == scenes.seed.tolist()


def test_a_clip_gives_a_picture_per_kept_row(models: dict[str, str], scenes: SceneSpec) -> None:
    clip = Job(scenes, seed=9, keep=(2, 0), reference=reference())
    (made,) = engine(models).make([clip])
    assert len(made) == 2
    assert torch.equal(made.body_pose, scenes.body_pose[[2, 0]])
    assert not torch.equal(made.image[0], made.image[1])


def test_words_and_pictures_count_as_the_mode_says(models: dict[str, str], scenes: SceneSpec) -> None:
    start = job(scenes)
    said = replace(start, prompt=Prompt(caption="a horse in the snow"))
    shown = replace(start, reference=reference(5))

    def pixels(mode: str, one: Job) -> torch.Tensor:
        return engine(models, mode=mode).make([one])[0].image

    assert not torch.equal(pixels("TR", start), pixels("TR", said))
    assert not torch.equal(pixels("TR", start), pixels("TR", shown))
    assert torch.equal(pixels("R", start), pixels("R", said))
    assert not torch.equal(pixels("R", start), pixels("R", shown))
    assert not torch.equal(pixels("T", start), pixels("T", said))
    words = pixels("T", start)
    assert torch.equal(words, pixels("T", shown))
    assert torch.equal(words, pixels("T", replace(start, reference=None)))
    # A picture that a planner made from words is not made again.
    made = engine(models, mode="T").initial(start)
    assert torch.equal(words, pixels("T", replace(start, reference=Reference(f"{MADE}0/0/0", made))))


def test_the_words_of_a_job(models: dict[str, str]) -> None:
    plain = engine(models)
    assert plain.prompt(Prompt(caption="a diver")) == "a diver"
    assert plain.prompt(Prompt(gender="woman", action="dives", environment="in a pool")) == (
        "a photo of a woman dives in a pool"
    )
    assert plain.prompt(Prompt()) == "a photo of a person"
    assert engine(models, mode="R").prompt(Prompt(caption="a diver")) == ""


def test_people_start_as_noise_and_the_place_as_it_is(models: dict[str, str], scenes: SceneSpec) -> None:
    one = job(scenes)
    noised, kept = engine(models), engine(models, human_latents="picture")
    initial = noised.initial(one)
    guidance = noised.guidance_of(one, 0, initial)
    shape = (4, PICTURE // 8, PICTURE // 8)
    mine = noised._latents(noised._loaded(), one, 0, initial, guidance, shape)
    theirs = kept._latents(kept._loaded(), one, 0, initial, guidance, shape)
    people = guidance.people.bool().expand(4, -1, -1)
    assert 0 < people.float().mean() < 1
    assert torch.equal(mine[0][~people], theirs[0][~people])
    assert (mine[0][people] != theirs[0][people]).all()
    pixels = torch.from_numpy(initial).permute(2, 0, 1)[None].float() / 255
    middle = encode(noised._loaded(), pixels, torch.zeros(1, *shape))
    vae = noised._loaded().vae
    assert torch.allclose(middle, vae.encode(2 * pixels - 1).latent_dist.mean * vae.config.scaling_factor, atol=1e-6)


def test_the_depth_map_reaches_the_denoiser(models: dict[str, str], scenes: SceneSpec) -> None:
    """As given: neither shrunk to an eighth nor spread over the range, twice for the guidance."""
    one = job(scenes)
    made = engine(models)
    pipeline = made._loaded()
    seen: list[torch.Tensor] = []
    hook = pipeline.unet.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    made.make([one])
    hook.remove()
    wanted = made.guidance_of(one, 0, made.initial(one)).depth
    assert len(seen) == int(4 * 0.7)
    for given in seen:
        assert given.shape == (2, 5, PICTURE // 8, PICTURE // 8)
        assert torch.equal(given[0, 4:], wanted)
        assert torch.equal(given[1, 4:], wanted)


def test_the_body_decides_the_picture(models: dict[str, str], scenes: SceneSpec) -> None:
    other = replace(job(scenes), scene=replace(scenes[0:1], body_pose=scenes.body_pose[1:2]))
    first, second = engine(models).make([job(scenes), other])
    assert not torch.equal(first.image, second.image)


def test_the_fitted_body_is_masked_out(models: dict[str, str], scenes: SceneSpec) -> None:
    """The person of the initial picture goes, also where the new one does not stand."""
    there = replace(scenes[1:2], transl=scenes.transl[1:2] + torch.tensor([[0.4, 0.0, 0.0]]))
    known = job(scenes, reference=reference(body=there, side=SIZE))
    made = engine(models)
    bare = made.guidance_of(job(scenes), 0, made.initial(job(scenes))).people
    more = made.guidance_of(known, 0, made.initial(known)).people
    assert (more >= bare).all()
    assert more.sum() > bare.sum()
    broken = replace(there, transl=there.transl * torch.nan)
    lost = made.guidance_of(job(scenes, reference=reference(body=broken)), 0, made.initial(known))
    assert torch.equal(lost.people, bare)


class _Scripted(InstanceSegmenter):
    """Finds what it is told to: people and objects as boxes in shares of the picture."""

    def __init__(self, boxes: list[list[Any]]) -> None:
        self.boxes = boxes

    def config(self) -> dict[str, Any]:
        return {"segmenter": "scripted", "boxes": self.boxes}

    def __call__(self, image_HWC: np.ndarray, body_HW: np.ndarray | None = None) -> Instances:
        size = image_HWC.shape[:2]
        masks = np.zeros((len(self.boxes), *size), bool)
        for mask, (_, *box) in zip(masks, self.boxes, strict=True):
            x0, y0, x1, y1 = (round(v * size[0]) for v in box)
            mask[y0:y1, x0:x1] = True
        return Instances.of(masks, [b[0] for b in self.boxes], np.ones(len(masks)), size)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known for one test only: the registry's own tests see what ships."""
    monkeypatch.setitem(SEGMENTERS._items, "scripted", _Scripted)


@pytest.mark.parametrize(
    "boxes",
    [
        [],
        [["person", 0.1, 0.1, 0.9, 0.9]],
        [["person", 0.0, 0.0, 0.2, 0.2], ["person", 0.8, 0.8, 1.0, 1.0], ["horse", 0.45, 0.0, 0.55, 1.0]],
    ],
)
@pytest.mark.usefixtures("scripted")
def test_whatever_the_segmenter_finds(models: dict[str, str], scenes: SceneSpec, boxes: list[list[Any]]) -> None:
    made = engine(models, segmenter="scripted", segmenter_options={"boxes": boxes}, hidden_at_most=0.9)
    one = job(scenes)
    guidance = made.guidance_of(one, 0, made.initial(one))
    assert guidance.depth.isfinite().all()
    if any(b[0] == "horse" for b in boxes):
        assert guidance.people[0, 0, 0] == guidance.people[0, -1, -1] == 1
        assert guidance.hidden > 0
    assert made.make([one])[0].image.float().std() > 1


def test_blur_is_the_jobs(models: dict[str, str], scenes: SceneSpec) -> None:
    sharp, soft = engine(models), engine(models, blur=[1.0, 2.5])
    assert soft.make([job(scenes)])[0].image.float().std() < sharp.make([job(scenes)])[0].image.float().std()
    assert same(soft.make([job(scenes)])[0], soft.make([job(scenes)])[0])


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "R"}, {"steps": 5}, {"strength": 0.8}, {"guidance": 3.0}, {"negative_prompt": "ugly"},
        {"human_latents": "picture"}, {"floor": 0.2}, {"hidden_at_most": 0.2}, {"blur": [1, 2]}, {"resolution": 128},
        {"template": "{gender}"}, {"segmenter_options": {"margin": 0.1}}, {"dtype": "bf16"}, {"tiling": True},
    ],
)  # fmt: skip
def test_settings_that_decide_pixels_are_named(models: dict[str, str], change: dict[str, Any]) -> None:
    assert engine(models, **change).config_hash() != engine(models).config_hash()


def test_memory_options_are_not(models: dict[str, str]) -> None:
    for change in ({"batch": 4}, {"offload": "model"}, {"slicing": True}, {"compile": True}):
        assert engine(models, **change).config_hash() == engine(models).config_hash()


def test_memory_options_run(models: dict[str, str], scenes: SceneSpec) -> None:
    plain = engine(models).make([job(scenes)])[0].image.int()
    made = engine(models, slicing=True, offload="sequential").make([job(scenes)])[0].image.int()
    assert (made - plain).abs().max() <= 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mode": "RT"}, "mode"),
        ({"human_latents": "none"}, "human_latents"),
        ({"resolution": 60}, "multiple of 8"),
        ({"batch": 0}, "batch"),
        ({"strength": 0.1}, "at least one"),
        ({"strength": 1.5}, "strength"),
        ({"floor": 1.0}, "floor"),
        ({"blur": [3, 1]}, "blur"),
        ({"offload": "disk"}, "offload"),
    ],
)
def test_options_that_are_mistyped(models: dict[str, str], change: dict[str, Any], says: str) -> None:
    with pytest.raises(PosesynError, match=says):
        engine(models, **change)


def test_jobs_that_cannot_be_made(models: dict[str, str], scenes: SceneSpec) -> None:
    made, fine = engine(models), job(scenes)
    lost = replace(fine, scene=replace(fine.scene, transl=fine.scene.transl + torch.tensor([[900.0, 0.0, 0.0]])))
    broken = replace(fine, scene=replace(fine.scene, body_pose=fine.scene.body_pose * torch.nan))
    wide = replace(fine, reference=Reference("wide", np.zeros((40, 60, 3), np.uint8)))
    unreferenced = replace(fine, reference=None)
    for bad, says in (
        (lost, "nobody is in the picture of job 1"),
        (broken, "job 1 .* not finite"),
        (wide, "job 1 .*square"),
        (unreferenced, "job 1 brings no reference"),
    ):
        with pytest.raises(PosesynError, match=says):
            made.make([fine, bad])
    assert made.make([]) == []


def test_missing_and_wrong_weights(models: dict[str, str], scenes: SceneSpec, tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="cannot be loaded"):
        engine(models, model=str(tmp_path / "nowhere")).make([job(scenes)])
    with pytest.raises(PosesynError, match="posesyn assets fetch sd2_depth"):
        engine({}, model="sd2_depth").make([job(scenes)])
    with pytest.raises(PosesynError, match="not a depth-to-image model"):
        engine(models, model=models["text_model"]).make([job(scenes)])
    with pytest.raises(PosesynError, match="cannot be loaded"):
        engine(models, mode="T", text_model=str(tmp_path / "nowhere")).make([job(scenes)])
