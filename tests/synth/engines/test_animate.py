"""Human animation with the real pipelines at tiny random size, from condition to pool."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from human.body import load_body
from human.errors import PosesynError
from human.motion import load_motion_bank
from synth.engines import ENGINES, AnimateDiffEngine, AnimateEngine, RenderedEngine
from synth.engines.animatediff import spaced_rows
from synth.engines.build import make_engine, make_image_engine
from synth.engines.video import VideoEngine
from synth.jobs import Job, Prompt, Reference
from synth.pool import Pool, Sample, encode_image
from synth.sample import LABEL_SHAPES
from synth.scene import SceneSpec, sample_scene
from tests.synth.diffusion import tiny_video
from tests.synth.test_clips import job_of, walk

SIZE, AREA = 32, 32 * 32


def person(*seeds: int) -> SceneSpec:
    return sample_scene(seeds, load_motion_bank(), load_body("free"), SIZE)


def reference(seed: int = 3) -> Reference:
    picture = np.random.default_rng(seed).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    return Reference(f"people/{seed}", picture, person(9))


def clip(frames: int = 6, keep: tuple[int, ...] = (4, 2), **changes: Any) -> Job:
    job = job_of(walk(), size=SIZE, reference=reference(), prompt=Prompt("a man walks"))
    return replace(job, scene=job.scene[:frames], keep=keep, **changes)


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_video.save_wan_animate(tmp_path_factory.mktemp("wan")))


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tiny_video.save_animatediff(tmp_path_factory.mktemp("animatediff"))


@pytest.fixture(scope="module")
def animate(wan: str) -> Callable[..., AnimateEngine]:
    """Engines that share their weights."""
    loaded = AnimateEngine(SIZE, wan, area=AREA, steps=2)

    def make(**options: Any) -> AnimateEngine:
        engine = AnimateEngine(SIZE, wan, **{"area": AREA, "steps": 2} | options)
        engine._pipeline = loaded.pipeline
        return engine

    return make


@pytest.fixture(scope="module")
def animatediff(light: dict[str, Any]) -> Callable[..., AnimateDiffEngine]:
    loaded = AnimateDiffEngine(SIZE, area=AREA, steps=2, **light)

    def make(**options: Any) -> AnimateDiffEngine:
        engine = AnimateDiffEngine(SIZE, **{"area": AREA, "steps": 2} | light | options)
        engine._pipeline = loaded.pipeline
        return engine

    return make


Make = Callable[..., VideoEngine]


@pytest.fixture(params=["animate", "animatediff"])
def engine(request: pytest.FixtureRequest) -> VideoEngine:
    make: Make = request.getfixturevalue(request.param)
    return make()


#: Mean red, green and blue of both samples of clip(): what this seed has always given.
EXPECTED = {
    "animate": [[65.74, 137.47, 60.10], [71.79, 134.14, 44.35]],
    "animatediff": [[110.17, 164.07, 130.13], [117.09, 174.17, 139.73]],
}


def test_samples_of_a_seed_are_what_they_were(engine: VideoEngine) -> None:
    (made,) = engine.make([clip()])
    assert made.image.shape == (2, 3, SIZE, SIZE)
    got = made.image.float().mean((2, 3))
    torch.testing.assert_close(got, torch.tensor(EXPECTED[engine.name]), rtol=0, atol=1.0)
    assert (made.image.float().std((1, 2, 3)) > 10).all()
    assert not torch.equal(made.image[0], made.image[1])


def test_labels_are_those_of_any_other_engine(engine: VideoEngine) -> None:
    job = clip()
    (made,) = engine.make([job])
    (rendered,) = RenderedEngine(size=SIZE, backgrounds="procedural").make([job])
    for name, value in made.as_dict().items():
        assert name == "image" or torch.equal(value, getattr(rendered, name)), name


def test_a_clip_does_not_depend_on_its_company(engine: VideoEngine) -> None:
    one, other = clip(5), clip(5, (3,), seed=8)
    together = engine.make([one, other])
    assert torch.equal(together[1].image, engine.make([other])[0].image)
    assert not torch.equal(together[0].image[:1], engine.make([replace(one, seed=9)])[0].image[:1])


def test_pose_and_reference_decide_the_picture(engine: VideoEngine) -> None:
    job = clip(5, (4,))
    still = replace(job, scene=replace(job.scene, body_pose=job.scene.body_pose * 0))
    someone = replace(job, reference=replace(reference(4), body=None))
    (a,), (b,), (c,) = (engine.make([j]) for j in (job, still, someone))
    assert (a.image.int() - b.image.int()).abs().float().mean() > 0.5
    assert (a.image.int() - c.image.int()).abs().float().mean() > 0.5


def test_a_single_picture_is_a_clip_of_one_frame(engine: VideoEngine) -> None:
    job = Job(person(5), 5, reference=reference())
    (made,) = engine.make([job])
    assert made.image.shape == (1, 3, SIZE, SIZE)
    assert made.image.float().std() > 5


def test_frames_become_samples_of_a_pool(engine: VideoEngine, tmp_path: Path) -> None:
    job = clip(5, (4, 1))
    (made,) = engine.make([job])

    def sample(row: int) -> Sample:
        labels = {name: getattr(made, name)[row].numpy() for name in LABEL_SHAPES}
        picture = made.image[row].permute(1, 2, 0).contiguous().numpy()
        return Sample(
            image=encode_image(picture, "png"),
            passed=True,
            engine=engine.name,
            engine_config=engine.config_hash(),
            reference_id="people/3",
            seed=int(made.key[row, 3]),
            **labels,
        )

    pool = Pool(tmp_path / "pool")
    pool.commit(0, (sample(row) for row in range(2)))
    back = pool.read(0, [0, 1], source=0)
    assert torch.equal(back.image, made.image)
    assert torch.equal(back.joints3d, made.joints3d)
    assert back.key[:, 3].tolist() == job.kept.seed.tolist()


def test_released_engines_load_again(light: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    engine = AnimateDiffEngine(SIZE, area=AREA, steps=1, **light)
    job = clip(3, (1,))
    with caplog.at_level(logging.INFO, "synth.engines.video"):
        (first,) = engine.make([job])
        engine.release()
        assert engine._pipeline is None
        (again,) = engine.make([job])
    assert torch.equal(first.image, again.image)
    assert sum("animatediff loads" in line for line in caplog.messages) == 2  # the choice is in the log


# -- Wan-Animate -----------------------------------------------------------------------------------------------------
def test_long_clips_are_made_in_segments(animate: Make) -> None:
    whole, parts = animate(), animate(segment=5)
    assert whole._lengths(6) == (9, 9)
    assert parts._lengths(6) == (9, 5)
    assert (whole._lengths(1), whole._lengths(77), whole._lengths(78)) == ((5, 5), (77, 77), (153, 77))
    assert animate(segment=9, overlap=5)._lengths(10) == (13, 9)
    (made,) = parts.make([clip(6, (5, 0))])
    assert made.image.float().std((1, 2, 3)).min() > 5
    assert not torch.equal(made.image[0], made.image[1])


def test_replacing_keeps_to_the_reference_place(animate: Make) -> None:
    job = clip(5, (2,))
    (animated,), (replaced,) = animate().make([job]), animate(mode="replace").make([job])
    assert not torch.equal(animated.image, replaced.image)
    for name, value in animated.as_dict().items():
        assert name == "image" or torch.equal(value, getattr(replaced, name)), name
    unknown = replace(job, reference=replace(reference(), body=None))
    with pytest.raises(PosesynError, match=r"job 5.*people/3.*mode 'animate'"):
        animate(mode="replace").make([unknown])


def test_the_face_and_the_guidance_count(animate: Make) -> None:
    job = clip(5, (2,))
    pictures = [animate(**o).make([job])[0].image for o in ({}, {"face": "none"}, {"guidance": 3.0}, {"prompt": "x"})]
    assert len({p.numpy().tobytes() for p in pictures}) == 4


def test_without_a_reference_wan_says_what_to_do(animate: Make) -> None:
    for broken, message in (
        (clip(reference=None), "no reference picture"),
        (clip(reference=Reference("people/1", np.zeros((4, 4), np.uint8))), "no RGB picture"),
    ):
        with pytest.raises(PosesynError, match=f"job 5.*{message}"):
            animate().make([broken])


# -- AnimateDiff -----------------------------------------------------------------------------------------------------
def test_without_a_reference_words_decide(animatediff: Make) -> None:
    jobs = [clip(3, (1,), reference=None, prompt=p) for p in (Prompt("a man walks"), Prompt("a woman jumps"))]
    one, other = animatediff().make(jobs)
    assert not torch.equal(one.image, other.image)
    (shown,) = animatediff().make([clip(3, (1,), prompt=Prompt("a man walks"))])
    assert not torch.equal(shown.image, one.image)


def test_frames_are_chosen_about_the_kept_ones() -> None:
    assert spaced_rows(41, (20,), 5, 2) == [16, 18, 20, 22, 24]
    assert spaced_rows(41, (40,), 4, 3) == [31, 34, 37, 40]
    assert spaced_rows(3, (1,), 16, 1) == [0, 1, 2]
    assert spaced_rows(1, (0,), 16, 2) == [0]
    assert set(spaced_rows(30, (3, 17), 6, 2)) >= {3, 17}
    with pytest.raises(PosesynError, match="raise frames"):
        spaced_rows(9, (1, 2, 3), 2, 1)


# -- settings and what goes wrong ------------------------------------------------------------------------------------
def test_settings_that_decide_pixels_make_the_hash(wan: str, light: dict[str, Any]) -> None:
    changes: list[dict[str, Any]] = [
        {}, {"area": 64 * 64}, {"mode": "replace"}, {"face": "none"}, {"steps": 3}, {"guidance": 2.0}, {"prompt": "x"},
        {"segment": 9}, {"overlap": 5}, {"vae_fp32": False}, {"dtype": "bf16"}, {"model": "a/b"}, {"revision": "c"},
    ]  # fmt: skip
    base = {"size": SIZE, "model": wan}
    hashes = [AnimateEngine(**base | c).config_hash() for c in changes]  # type: ignore[arg-type]
    # A folder has no revision.
    assert len(set(hashes)) == len(changes) - 1
    assert AnimateEngine(**base, offload="model", slicing=True).config_hash() == hashes[0]  # type: ignore[arg-type]
    more: list[dict[str, Any]] = [
        {}, {"ip_adapter": None}, {"ip_adapter_scale": 0.3}, {"frames": 8}, {"stride": 1}, {"suffix": ""},
        {"template": "{caption}"},
        {"control_scale": {"depth": 0.5}}, {"controls": {"pose": light["controls"]["pose"]}}, {"motion_adapter": "a/b"},
    ]  # fmt: skip
    assert len({AnimateDiffEngine(SIZE, **light | c).config_hash() for c in more}) == len(more)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("animate", {"mode": "dance"}, "animate, replace"),
        ("animate", {"face": "mine"}, "reference, none"),
        ("animate", {"overlap": 2}, "1, 5"),
        ("animate", {"segment": 8}, "4n \\+ 1"),
        ("animate", {"segment": 1}, "4n \\+ 1"),
        ("animate", {"steps": 0}, "steps"),
        ("animate", {"area": 100}, "256 pixels"),
        ("animate", {"offload": "disk"}, "sequential"),
        ("animatediff", {"controls": {"canny": "a/b"}}, "pose, depth"),
        ("animatediff", {"control_scale": {"depth": 1.0}}, "of those alone"),
        ("animatediff", {"frames": 0}, "frames"),
        ("animatediff", {"template": "{age}"}, "age"),
    ],
)
def test_settings_that_make_no_sense(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PosesynError, match=message):
        make_image_engine(name, SIZE, options=options)


@pytest.mark.parametrize("name", ["animate", "animatediff"])
def test_weights_that_are_not_there_are_one_error(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    absent = make_image_engine(name, SIZE, options={"model": "someone/no-such-model", "area": AREA})
    with pytest.raises(PosesynError, match=f"(?s)engine '{name}'.*(hf download|posesyn assets fetch).*'rendered'"):
        absent.make([clip(3, (1,))])
    with pytest.raises(PosesynError, match=f"(?s)engine '{name}'.*GB.*'rendered'"):
        make_image_engine(name, SIZE, options={"area": AREA}).make([clip(3, (1,))])


def test_damaged_weights_and_a_lost_ip_adapter(light: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match=r"IP-Adapter.*nothing\.safetensors"):
        AnimateDiffEngine(SIZE, **light, ip_adapter_file="models/nothing.safetensors").make([clip(3, (1,))])
    with pytest.raises(PosesynError, match="only safetensors"):
        AnimateDiffEngine(SIZE, **light, ip_adapter_file="models/ip.bin").make([clip(3, (1,))])


def test_pictures_that_are_nan_are_an_error(animate: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = animate()
    decoder = engine.pipeline.vae.decoder.conv_out
    whole = decoder.bias.detach().clone()
    with torch.no_grad():
        decoder.bias.fill_(torch.nan)
    try:
        with pytest.raises(PosesynError, match="numbers that are none"):
            engine.make([clip(5, (2,))])
    finally:
        with torch.no_grad():
            decoder.bias.copy_(whole)


def test_the_example_experiment_names_settings_that_exist() -> None:
    whole = yaml.safe_load((Path(__file__).parents[3] / "configs/engines/animate.yaml").read_text(encoding="utf-8"))
    refresh = next(c["init_args"] for c in whole["trainer"]["callbacks"] if c["class_path"] == "callbacks.Refresh")
    engine = make_image_engine(refresh["engine"], whole["data"]["image_size"], options=refresh["engine_options"])
    assert isinstance(engine, AnimateEngine)
    assert engine.config_hash() == AnimateEngine(128).config_hash()  # the example shows the defaults


def test_they_are_engines_for_the_pool_alone() -> None:
    for name in ("animate", "animatediff"):
        kind = ENGINES.get(name)
        assert (kind.wants_clips, kind.wants_references) == (True, True)
        with pytest.raises(PosesynError, match="too slow"):
            make_engine(name, SIZE)
    assert ENGINES.get("animatediff").wants_prompts
