"""The rendered engine: exact labels, and pictures that are a function of the scene alone."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from human.batch import PELVIS, PoseBatch
from human.camera import project
from human.errors import PosesynError
from human.motion import load_motion_bank
from human.raster import rasterise
from human.skeleton import POSE32
from synth.bystanders import BystanderConfig
from synth.engines import ENGINES, Engine, RenderedEngine
from synth.engines.build import make_engine
from synth.lighting import LightingConfig
from synth.occluders import OccluderConfig
from synth.outfit import OutfitConfig
from synth.scene import SceneConfig, SceneSpec, camera_rotation, frame_person, sample_scene
from synth.sensor import SensorConfig

SIZE = 96
CLEAN = SensorConfig(
    blur_probability=0,
    motion_probability=0,
    downscale_probability=0,
    noise=(0, 0),
    jpeg_probability=0,
    gamma_sigma=0,
    contrast_sigma=0,
    tint_sigma=0,
    grey_probability=0,
)
PLAIN = {
    "backgrounds": "procedural",
    "sensor": CLEAN,
    "light": LightingConfig(shadow_probability=0),
    "occluder": OccluderConfig(probability=0),
    "bystander": BystanderConfig(probability=0),
}
TIGHT = OutfitConfig(
    outfits=(("leotard", 1.0),), looseness=(0, 0), hair=(("bald", 1.0),), hat_probability=0, barefoot_probability=1
)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def engine() -> RenderedEngine:
    return RenderedEngine(size=SIZE, backgrounds="procedural")


@pytest.fixture(scope="module")
def clean() -> RenderedEngine:
    return RenderedEngine(size=SIZE, **PLAIN)


def scenes(engine: RenderedEngine, seeds: range, config: SceneConfig | None = None) -> SceneSpec:
    return sample_scene(seeds, load_motion_bank(), engine.body, engine.size, config)


def masks(engine: RenderedEngine, spec: SceneSpec) -> Tensor:
    """(B,H,W) what the undressed body covers."""
    vertices = engine.body(spec.betas, spec.body_pose, spec.global_orient, spec.transl).vertices
    return rasterise(vertices, engine.body.faces, spec.intrinsics, (engine.size, engine.size)).mask


def assert_same(a: PoseBatch, b: PoseBatch) -> None:
    for name, value in a.as_dict().items():
        assert torch.equal(value, getattr(b, name)), name


def test_registered_engines_render_every_label() -> None:
    for name in (n for n in ENGINES if issubclass(ENGINES.get(n), Engine)):
        engine = make_engine(name, SIZE, "procedural")
        assert isinstance(engine, Engine)
        assert engine.name == name
        spec = sample_scene([3, 4], load_motion_bank(), RenderedEngine(size=SIZE, backgrounds="procedural").body, SIZE)
        batch = engine.render(spec)
        assert batch.image.shape == (2, 3, SIZE, SIZE)
        assert batch.image.dtype == torch.uint8
        assert batch.has_pose.all()
        assert batch.has_betas.all()
        assert batch.has_transl.all()
        assert batch.key.tolist() == [[0, 0, 0, 3], [0, 0, 0, 4]]
        for field in ("betas", "body_pose", "global_orient", "transl", "intrinsics"):
            assert torch.equal(getattr(batch, field), getattr(spec, field))


def test_labels_are_the_bodys_joints(engine: RenderedEngine) -> None:
    spec = scenes(engine, range(6), SceneConfig(truncation_probability=1.0))
    batch = engine.render(spec)
    joints = engine.body(spec.betas, spec.body_pose, spec.global_orient, spec.transl).joints
    torch.testing.assert_close(batch.joints3d, joints - joints[:, [PELVIS]], atol=1e-5, rtol=0)
    uv = torch.einsum("bij,bkj->bki", spec.intrinsics.double(), joints.double())
    uv = uv[..., :2] / uv[..., 2:]
    torch.testing.assert_close(batch.joints2d.double(), uv, atol=2e-3, rtol=0)
    inside = ((uv >= -0.5) & (uv < SIZE - 0.5)).all(-1)
    assert torch.equal(batch.joints2d_conf > 0, inside)
    assert 0 < inside.float().mean() < 1


def test_same_bytes_in_any_batch(engine: RenderedEngine) -> None:
    spec = scenes(engine, range(20, 28))
    whole = engine.render(spec)
    order = [5, 2, 7, 0, 1, 6, 4, 3]
    assert_same(engine.render(spec[order]), whole[order])
    assert_same(PoseBatch.cat([engine.render(spec[i : i + 1]) for i in range(8)]), whole)
    assert_same(PoseBatch.cat([engine.render(scenes(engine, range(s, s + 1))) for s in range(20, 28)]), whole)


def test_same_bytes_in_another_process(engine: RenderedEngine) -> None:
    """There with one thread and another hash seed; here with the tests' two."""
    code = (
        "import sys, hashlib, torch\n"
        "torch.set_num_threads(1)\n"
        "from human.motion import load_motion_bank\n"
        "from synth.engines import RenderedEngine\n"
        "from synth.scene import sample_scene\n"
        f"e = RenderedEngine(size={SIZE}, backgrounds='procedural')\n"
        f"b = e.render(sample_scene(range(40, 43), load_motion_bank(), e.body, {SIZE}))\n"
        "h = hashlib.sha256(b''.join(v.numpy().tobytes() for v in b.as_dict().values()))\n"
        "print(h.hexdigest(), e.config_hash())\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "11"}
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
    ).stdout.split()
    batch = engine.render(scenes(engine, range(40, 43)))
    here = hashlib.sha256(b"".join(v.numpy().tobytes() for v in batch.as_dict().values())).hexdigest()
    assert there == [here, engine.config_hash()]


def test_same_bytes_in_a_thread_of_lances(engine: RenderedEngine, tmp_path: Path) -> None:
    """The pool is written by threads that Python did not start and that draw while they write: nothing kept per thread
    may live there."""
    specs = [scenes(engine, range(s, s + 20)) for s in (0, 20, 40, 60)]
    drawn: list[PoseBatch] = []
    schema = pa.schema([("row", pa.int64())])

    def rows() -> Iterator[pa.RecordBatch]:
        for spec in specs:
            drawn.append(engine.render(spec))
            yield pa.record_batch([pa.array(np.arange(20))], schema=schema)

    lance.write_dataset(pa.RecordBatchReader.from_batches(schema, rows()), tmp_path / "rows.lance")
    for spec, batch in zip(specs, drawn, strict=True):
        assert_same(engine.render(spec), batch)


def test_joints_lie_on_the_person(clean: RenderedEngine) -> None:
    """Kinematic joints are inside the body, so whatever the view they project onto it."""
    spec = scenes(clean, range(60, 76), SceneConfig(truncation_probability=0))
    batch, mask = clean.render(spec), masks(clean, spec)
    inner = POSE32.indices(
        "pelvis", "left_hip", "right_knee", "left_knee", "right_elbow", "left_elbow", "spine2", "head", "neck"
    )
    x, y = batch.joints2d[:, inner].round().long().clamp(0, SIZE - 1).unbind(-1)
    hit = mask[torch.arange(len(batch))[:, None], y, x]
    assert hit.float().mean() > 0.99


def test_the_picture_changes_where_the_body_is(clean: RenderedEngine) -> None:
    """Pixels and labels agree: the drawn person covers the rasterised body, and little else."""
    grey = torch.full((8, SIZE, SIZE, 3), 120, dtype=torch.uint8)
    tight = RenderedEngine(size=SIZE, outfit=TIGHT, **PLAIN)
    spec = replace(scenes(clean, range(80, 88)), background=grey)
    changed = (tight.render(spec).image.int() - 120).abs().amax(1) > 3
    body = masks(tight, spec)
    union, overlap = (changed | body).sum((1, 2)), (changed & body).sum((1, 2))
    assert (overlap / union > 0.85).all()


def test_clothes_change_the_outline_and_no_label(clean: RenderedEngine) -> None:
    grey = torch.full((4, SIZE, SIZE, 3), 120, dtype=torch.uint8)
    spec = replace(scenes(clean, range(90, 94)), background=grey)
    loose = RenderedEngine(size=SIZE, outfit=OutfitConfig(outfits=(("casual", 1.0),), looseness=(0.04, 0.04)), **PLAIN)
    bare = RenderedEngine(size=SIZE, outfit=TIGHT, **PLAIN)
    a, b = loose.render(spec), bare.render(spec)
    area = [((batch.image.int() - 120).abs().amax(1) > 3).sum() for batch in (a, b)]
    assert area[0] > 1.05 * area[1]
    for field in ("joints2d", "joints3d", "transl"):
        assert torch.equal(getattr(a, field), getattr(b, field))


def test_background_is_kept_outside_the_person(clean: RenderedEngine) -> None:
    rng = np.random.default_rng(0)
    background = torch.from_numpy(rng.integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8))
    spec = replace(scenes(clean, range(100, 104)), background=background)
    image = clean.render(spec).image.permute(0, 2, 3, 1)
    near = torch.nn.functional.max_pool2d(masks(clean, spec).float()[:, None], 15, 1, 7)[:, 0] > 0
    assert (near.float().mean((1, 2)) < 0.9).all()
    assert (image[~near].int() - background[~near].int()).abs().max() <= 1
    assert (image[masks(clean, spec)].int() - background[masks(clean, spec)].int()).abs().float().mean() > 20


def test_seed_changes_looks_but_no_geometry(engine: RenderedEngine) -> None:
    spec = scenes(engine, range(1))
    many = SceneSpec.cat([spec] * 6)
    batch = engine.render(replace(many, seed=torch.arange(6)))
    assert torch.equal(batch.joints2d[0], batch.joints2d[5])
    flat = batch.image.float().flatten(1)
    distance = torch.cdist(flat, flat) / flat.shape[1] ** 0.5
    assert distance[~torch.eye(6, dtype=torch.bool)].min() > 10


def test_parameters_that_are_not_numbers_name_the_scene(engine: RenderedEngine) -> None:
    spec = scenes(engine, range(200, 203))
    pose = spec.body_pose.clone()
    pose[1, 4, 2] = float("nan")
    with pytest.raises(PosesynError, match=r"scene 1 of 3 \(seed 201\) has a body_pose"):
        engine.render(replace(spec, body_pose=pose))


def test_a_person_out_of_the_picture_leaves_the_background(clean: RenderedEngine) -> None:
    grey = torch.full((2, SIZE, SIZE, 3), 77, dtype=torch.uint8)
    spec = replace(scenes(clean, range(2)), background=grey)
    behind = spec.transl.clone()
    behind[0, 2], behind[1, 0] = -5.0, 40.0
    batch = clean.render(replace(spec, transl=behind))
    assert (batch.image.int() - 77).abs().max() <= 1
    assert batch.joints2d_conf.sum() == 0
    assert torch.isfinite(batch.joints2d).all()


def test_config_hash_follows_the_configuration(engine: RenderedEngine) -> None:
    assert engine.config_hash() == RenderedEngine(size=SIZE, backgrounds="procedural").config_hash()
    others = [
        RenderedEngine(size=SIZE, **PLAIN),
        RenderedEngine(size=SIZE, backgrounds="procedural", light=LightingConfig(gloss=0.5)),
        RenderedEngine(size=64, backgrounds="procedural"),
        RenderedEngine(size=SIZE, backgrounds="procedural", looks=3),
    ]
    assert len({e.config_hash() for e in (engine, *others)}) == 5


def test_options_come_from_a_file_as_well() -> None:
    options = {"sensor": {"noise": [0, 1]}, "outfit": {"hair": [["bald", 1.0]]}}
    engine = make_engine("rendered", SIZE, "procedural", options)
    same = RenderedEngine(
        size=SIZE,
        backgrounds="procedural",
        sensor=SensorConfig(noise=(0, 1)),
        outfit=OutfitConfig(hair=(("bald", 1.0),)),
    )
    assert engine.config_hash() == same.config_hash()
    with pytest.raises(PosesynError, match="'sensor' has no field 'noize'"):
        make_engine("rendered", SIZE, "procedural", {"sensor": {"noize": [0, 1]}})


def test_a_number_of_looks_is_kept_to() -> None:
    """With one look, two seeds show one person in one light each: the same outfit and paint."""
    engine = RenderedEngine(size=SIZE, looks=1, **PLAIN)
    shot = engine.stage(scenes(engine, range(6)))
    assert (shot.person.paint.fabric == shot.person.paint.fabric[:1]).all()
    assert (shot.person.outfit.params == shot.person.outfit.params[:1]).all()
    free = RenderedEngine(size=SIZE, **PLAIN)
    assert not (free.stage(scenes(free, range(6))).person.paint.fabric == shot.person.paint.fabric[:1]).all()


def test_a_bystander_is_in_the_picture_and_not_in_the_labels(clean: RenderedEngine) -> None:
    grey = torch.full((12, SIZE, SIZE, 3), 120, dtype=torch.uint8)
    spec = replace(scenes(clean, range(500, 512)), background=grey)
    crowd = RenderedEngine(size=SIZE, **{**PLAIN, "bystander": BystanderConfig(probability=1, aside=(0.3, 0.5))})
    alone, together = clean.render(spec), crowd.render(spec)
    assert set(crowd.stage(spec).place.tolist()) == {1, 2}
    changed = ((alone.image.int() - together.image.int()).abs().amax(1) > 8).flatten(1).float().mean(1)
    assert (changed > 0.02).sum() >= 8, "most stand in the picture"
    for name in ("joints2d", "joints3d", "transl", "betas", "joints2d_conf"):
        assert torch.equal(getattr(alone, name), getattr(together, name))


def test_a_reference_is_worn(clean: RenderedEngine) -> None:
    """A red atlas makes a red person, in the light that is given."""
    grey = torch.full((3, SIZE, SIZE, 3), 120, dtype=torch.uint8)
    atlas = torch.tensor([200, 30, 30, 255], dtype=torch.uint8).expand(3, 64, 64, 4).contiguous()
    light = torch.zeros(3, 9, 3)
    light[:, 0] = 1 / 0.282095
    spec = replace(scenes(clean, range(520, 523)), background=grey, atlas=atlas, light=light)
    batch = clean.render(spec)
    inner = -torch.nn.functional.max_pool2d(-masks(clean, spec).float()[:, None], 5, 1, 2)[:, 0] > 0
    colour = batch.image.permute(0, 2, 3, 1)[inner].float()
    assert (colour[:, 0] > 1.8 * colour[:, 1]).float().mean() > 0.95
    assert torch.equal(clean.render(spec[1:2]).image, batch.image[1:2])


def test_scenes_frame_the_person(engine: RenderedEngine) -> None:
    spec = scenes(engine, range(300, 332), SceneConfig(truncation_probability=0))
    joints = engine.body.joints(spec.betas, spec.body_pose, spec.global_orient, spec.transl)
    uv = project(joints, spec.intrinsics)
    low, high = uv.amin(1), uv.amax(1)
    side = (high - low).amax(1) / SIZE
    assert ((side > 0.64) & (side < 0.91)).all()
    assert (((low + high) / 2 - (SIZE - 1) / 2).abs() < 0.051 * SIZE).all()
    assert joints[:, PELVIS, 2].min() > 1.0


def test_frame_person_meets_a_wanted_box(engine: RenderedEngine) -> None:
    joints = engine.body.joints(torch.zeros(2, 10), torch.zeros(2, 23, 3), torch.tensor([[torch.pi, 0, 0]] * 2), None)
    box = torch.tensor([[10.0, 20.0, 70.0, 60.0], [30.0, -20.0, 140.0, 70.0]])
    fill = (box[:, 2:] - box[:, :2]).amax(1) / SIZE
    shift = ((box[:, :2] + box[:, 2:]) / 2 - (SIZE - 1) / 2) / SIZE
    transl, intrinsics = frame_person(joints, SIZE, torch.tensor([40.0, 55.0]), fill, shift)
    uv = project(joints + transl[:, None], intrinsics)
    low, high = uv.amin(1), uv.amax(1)
    torch.testing.assert_close((high - low).amax(1), fill * SIZE, atol=0.5, rtol=0)
    torch.testing.assert_close((low + high) / 2, (box[:, :2] + box[:, 2:]) / 2, atol=0.5, rtol=0)


def test_frame_person_keeps_its_distance(engine: RenderedEngine) -> None:
    joints = engine.body.joints(torch.zeros(1, 10), torch.zeros(1, 23, 3), torch.tensor([[0.0, 0.0, 0.0]]), None)
    transl, _ = frame_person(joints, SIZE, torch.tensor([90.0]), torch.tensor([20.0]))
    assert (joints + transl[:, None])[..., 2].min() > 0.29
    with pytest.raises(PosesynError, match="fill > 0"):
        frame_person(joints, SIZE, torch.tensor([90.0]), torch.tensor([0.0]))


def test_camera_is_upright_and_faces_the_person() -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    upright = camera_rotation(zero, zero, zero)
    torch.testing.assert_close(upright[0], torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)))
    above = camera_rotation(zero, zero + 30, zero)[0]
    head = above @ torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    assert head[2] < 0  # seen from above, the head is nearer than the feet


def test_scene_spec_cuts_and_joins(engine: RenderedEngine) -> None:
    spec = scenes(engine, range(4))
    joined = SceneSpec.cat([spec[:1], spec[1:]])
    assert torch.equal(joined.body_pose, spec.body_pose)
    assert joined.background is None
    with pytest.raises(PosesynError, match="no seeds"):
        sample_scene([], load_motion_bank(), engine.body, SIZE)


def test_supersampling_smooths_the_outline_only(clean: RenderedEngine) -> None:
    spec = replace(scenes(clean, range(400, 402)), background=torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8))
    coarse = RenderedEngine(size=SIZE, supersample=1, **PLAIN)
    a, b = clean.render(spec), coarse.render(spec)
    assert torch.equal(a.joints2d, b.joints2d)
    assert (a.image.float() - b.image.float()).abs().mean() < 4
    assert not torch.equal(a.image, b.image)
    with pytest.raises(PosesynError, match="supersample is 0"):
        RenderedEngine(size=SIZE, supersample=0, backgrounds="procedural")
