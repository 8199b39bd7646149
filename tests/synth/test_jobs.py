"""Jobs: their names, their files, and labels that no engine changes."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from human.body import load_body
from human.errors import PosesynError
from human.motion import load_motion_bank
from synth.engines import RenderedEngine
from synth.jobs import Canvas, Job, Prompt, Provenance, Reference
from synth.labels import label_scenes
from synth.scene import SceneSpec, sample_scene

SIZE = 48


def scene(*seeds: int) -> SceneSpec:
    return sample_scene(seeds, load_motion_bank(), load_body("free"), SIZE)


def full_job() -> Job:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return Job(
        scene(1, 2, 3),
        seed=7,
        keep=(2, 0),
        fps=12.5,
        prompt=Prompt("a man hops", "man", "hopping", "on a beach"),
        reference=Reference("lspet/4", picture, scene(9)),
        others=(scene(4, 5, 6),),
        canvas=Canvas(torch.eye(3), 96, 64),
        provenance=Provenance("lspet/5", 12.5, "abc"),
    )


def test_a_job_comes_back_from_its_file(tmp_path: Path) -> None:
    job = full_job()
    job.save(tmp_path / "job.safetensors")
    again = Job.load(tmp_path / "job.safetensors")
    assert again.key("engine") == job.key("engine")
    assert (again.prompt, again.provenance, again.keep, again.fps) == (job.prompt, job.provenance, (2, 0), 12.5)
    for f in fields(SceneSpec):
        one, other = getattr(again.scene, f.name), getattr(job.scene, f.name)
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other), f.name
    assert again.reference is not None
    assert job.reference is not None
    assert np.array_equal(again.reference.image, job.reference.image)
    assert [p.name for p in tmp_path.iterdir()] == ["job.safetensors"]  # nothing partial is left


def test_the_key_names_what_decides_the_picture() -> None:
    job = full_job()
    same = replace(job, provenance=Provenance("another", 1.0, "tpe"))
    assert same.key() == job.key()
    others = [
        replace(job, seed=8),
        replace(job, keep=(0, 2)),
        replace(job, prompt=replace(job.prompt, action="lying")),
        replace(job, scene=replace(job.scene, betas=job.scene.betas + 1e-6)),
        replace(job, others=()),
        replace(job, canvas=None),
        replace(job, reference=None),
    ]
    keys = {job.key(), job.key("engine"), *(other.key() for other in others)}
    assert len(keys) == 2 + len(others)


@pytest.mark.parametrize("damage", [b"", b"not a job", None])
def test_a_damaged_job_is_one_clear_error(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "job.safetensors"
    full_job().save(path)
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    with pytest.raises(PosesynError, match="is not a whole job"):
        Job.load(path)
    with pytest.raises(PosesynError, match="there is no job"):
        Job.load(tmp_path / "absent")


def test_what_cannot_be_a_job() -> None:
    for wrong in ((), (0, 0), (3,), (-1,)):
        with pytest.raises(PosesynError, match="name different frames"):
            Job(scene(1, 2, 3), 0, wrong)
    with pytest.raises(PosesynError, match="other people"):
        Job(scene(1, 2), 0, others=(scene(1),))


def test_labels_are_those_of_the_rendering_engine() -> None:
    spec = scene(*range(5))
    rendered = RenderedEngine(size=SIZE, backgrounds="procedural").render(spec)
    made = label_scenes(spec, torch.zeros(5, 3, SIZE, SIZE, dtype=torch.uint8))
    for name, value in made.as_dict().items():
        assert name == "image" or torch.equal(value, getattr(rendered, name)), name
    with pytest.raises(PosesynError, match="as many uint8 pictures"):
        label_scenes(spec, torch.zeros(4, 3, SIZE, SIZE, dtype=torch.uint8))


def test_a_rendering_engine_makes_jobs_as_it_renders_scenes() -> None:
    engine = RenderedEngine(size=SIZE, backgrounds="procedural")
    spec = scene(*range(4))
    picture = torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8)
    jobs = [
        Job(spec[:1], 0),
        Job(replace(spec[1:2], background=picture), 1),
        Job(spec[1:4], 2, keep=(2, 1)),
    ]
    made = engine.make(jobs)
    assert [len(batch) for batch in made] == [1, 1, 2]
    assert torch.equal(made[0].image, engine.render(spec[:1]).image)
    assert torch.equal(made[1].image, engine.render(jobs[1].scene).image)
    assert torch.equal(made[2].image, engine.render(spec[[3, 2]]).image)
