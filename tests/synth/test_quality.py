"""Figures of a pool's pictures beside real ones: what they react to, and ugly pools."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from cli.posesyn import main
from cli.quality import render
from human.batch import PoseBatch
from human.blazepose import Picture
from human.errors import PosesynError
from human.labellers import LABELLERS, Labeller, Labels
from human.skeleton import POSE32
from synth.pool import Pool, encode_image
from synth.quality import FIGURES, Measurer, Quality, QualityConfig, alignment, person_crops, poses_2d, poses_3d
from synth.sample import LABEL_SHAPES, Sample
from tests.synth.people import People
from tests.tiny import rendered_people, write_lspet


class Oracle(Labeller):
    """Says of each picture, known by its bytes, what it was told of it."""

    name = "oracle"
    skeleton = POSE32.name
    known: dict[bytes, list[np.ndarray]] = {}  # noqa: RUF012

    def __call__(self, image_HWC: Picture, file: str) -> Labels:
        people = self.known.get(np.ascontiguousarray(image_HWC).tobytes(), [])
        return Labels.of(people, [1.0] * len(people), 32, *image_HWC.shape[:2])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("features") / "tiny.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=10).state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def batch() -> PoseBatch:
    return rendered_people(range(24))


@pytest.fixture
def config(weights: str, monkeypatch: pytest.MonkeyPatch) -> QualityConfig:
    monkeypatch.setitem(LABELLERS._items, "oracle", Oracle)
    monkeypatch.setattr(Oracle, "known", {})
    return QualityConfig("test_resnet", weights, labeller="oracle", labeller_options={}, crop_size=48, nearest=2)


def samples(batch: PoseBatch, engine: str = "rendered", passed: bool = True) -> list[Sample]:
    out = []
    for k in range(len(batch)):
        if not passed:
            out.append(Sample(engine=engine, passed=False, err3d=300.0, seed=k))
            continue
        labels = {name: getattr(batch, name)[k] for name in LABEL_SHAPES}
        image = encode_image(batch.image[k], "png")
        out.append(Sample(image=image, engine=engine, err3d=100.0, seed=k, **labels))
    return out


def test_people_compared_with_themselves_are_perfect(batch: PoseBatch, config: QualityConfig, tmp_path: Path) -> None:
    pool = Pool(tmp_path / "pool")
    pool.commit(0, samples(batch[:12]) + samples(batch[:4], passed=False))
    (found,) = Measurer(People(batch[:12]), config).measure(pool)
    assert (found.engine, found.generation, found.made, found.passed, found.looked_at) == ("rendered", 0, 16, 12, 12)
    assert found.figures["pass_rate"] == 0.75
    assert found.figures["err3d"] == pytest.approx(150)
    # All but the first pixels, which spell the real person's number.
    assert found.figures["fid"] < 1e-2
    assert found.figures["coverage"] == 1
    assert set(found.figures) == set(FIGURES)
    assert found.figures["apd"] > 30
    assert found.figures["apd_body"] < found.figures["apd"]  # bodies that face one way differ less
    assert any("biased" in note for note in found.notes)
    assert json.loads(json.dumps(found.as_dict()))["undetected"] == 1  # the oracle knows nobody


def test_worse_pictures_have_worse_figures(batch: PoseBatch, config: QualityConfig, tmp_path: Path) -> None:
    dark = batch.replace(image=(batch.image.float() * 0.2).byte())
    pool = Pool(tmp_path / "pool")
    pool.commit(0, samples(batch[12:], "good") + samples(dark[12:], "dark"))
    dull, good = Measurer(People(batch[:12]), config).measure(pool)
    assert (dull.engine, good.engine) == ("dark", "good")
    for figure in ("fid", "fid_crop", "kid", "kid_crop"):
        assert dull.figures[figure] > 2 * max(0, good.figures[figure])
    for figure in ("apd", "apd_body", "coverage"):
        assert dull.figures[figure] == good.figures[figure]


def test_one_pose_again_and_again_is_not_various(batch: PoseBatch, config: QualityConfig, tmp_path: Path) -> None:
    pool = Pool(tmp_path / "pool")
    pool.commit(0, samples(batch[:12]))
    pool.commit(1, samples(batch[[3] * 12]))
    rows = Measurer(People(batch[:12]), config).measure(pool)
    assert [r.generation for r in rows] == [0, 1, None]
    various, same, both = (r.figures for r in rows)
    assert same["apd"] == pytest.approx(0, abs=1e-3)
    assert various["apd"] > both["apd"] > same["apd"]
    assert same["coverage"] < 0.5 < various["coverage"]
    (only,) = Measurer(People(batch[:12]), config).measure(pool, generation=1)
    assert only.figures["fid"] == pytest.approx(same["fid"])


def test_alignment_is_the_distance_that_was_planted(batch: PoseBatch, config: QualityConfig) -> None:
    one = batch[:1]
    label = np.concatenate([one.joints2d[0].double().numpy(), np.ones((32, 1))], 1)
    labelled = one.joints2d_conf[0].numpy() > 0
    side = np.ptp(label[labelled, :2], axis=0).max()
    moved, far = label.copy(), label.copy()
    moved[:, 0] += 0.03 * side
    far[:, 1] += 0.2 * side
    image = one.image[0].permute(1, 2, 0).contiguous().numpy()
    Oracle.known = {image.tobytes(): [far, moved]}  # of two people the nearer one is meant
    assert alignment(Oracle(), one, 0, 0.5) == pytest.approx(0.03, rel=1e-5)
    moved[:, 2] = 0.3  # unsure joints are not compared
    Oracle.known = {image.tobytes(): [moved]}
    assert math.isinf(alignment(Oracle(), one, 0, 0.5))
    Oracle.known = {}
    assert math.isinf(alignment(Oracle(), one, 0, 0.5))
    assert math.isnan(alignment(Oracle(), one.replace(joints2d_conf=torch.zeros(1, 32)), 0, 0.5))


def test_without_a_detector_the_other_figures_are_there(
    batch: PoseBatch, config: QualityConfig, tmp_path: Path
) -> None:
    pool = Pool(tmp_path / "pool")
    pool.commit(0, samples(batch[:6]))
    (found,) = Measurer(People(batch[:6]), replace(config, labeller="nobody")).measure(pool)
    assert math.isnan(found.figures["alignment"])
    assert found.figures["fid"] >= 0
    assert any("not measured: no labeller is called 'nobody'" in note for note in found.notes)


def test_ugly_pools(batch: PoseBatch, config: QualityConfig, tmp_path: Path) -> None:
    measurer = Measurer(People(batch[:6]), config)
    with pytest.raises(PosesynError, match="no generation"):
        measurer.measure(Pool(tmp_path / "none"))
    pool = Pool(tmp_path / "pool")
    pool.commit(0, samples(batch[:3], passed=False))
    pool.commit(1, samples(batch[:1]))
    pool.commit(2, [])
    with pytest.raises(PosesynError, match="no generation 7"):
        measurer.measure(pool, generation=7)
    filtered, single, both = measurer.measure(pool)
    assert filtered.figures["pass_rate"] == 0
    assert filtered.notes == ("no sample passed the filter",)
    assert math.isnan(filtered.figures["fid"])
    assert single.figures["pass_rate"] == 1
    assert math.isnan(single.figures["fid"])
    assert math.isnan(single.figures["apd"])
    assert any("two are needed" in note for note in single.notes)
    assert both.made == 4
    assert "nan" not in json.dumps([r.as_dict() for r in (filtered, single, both)]).lower()
    render([filtered, single, both])
    with pytest.raises(PosesynError, match="2 are needed"):
        Measurer(People(batch[:1]), config).measure(pool)
    unreadable = People(batch[:4].replace(weight=torch.zeros(4)))
    with pytest.raises(PosesynError, match="2 are needed"):
        Measurer(unreadable, config).measure(pool)


def test_people_without_labels_have_no_crop_and_no_pose(batch: PoseBatch) -> None:
    none = batch[:3].replace(joints2d_conf=torch.zeros(3, 32), joints3d_conf=torch.zeros(3, 32))
    assert person_crops(none, 32, 1.2).shape == (0, 3, 32, 32)
    assert len(poses_2d(none)) == 0
    seen, turned = poses_3d(none)
    assert len(seen) == len(turned) == 0
    broken = batch[:2].replace(joints2d=torch.full((2, 32, 2), torch.nan))
    assert len(person_crops(broken, 32, 1.2)) == 0
    assert person_crops(batch[:3], 32, 1.2).float().std() > 10


def test_bodies_that_face_one_way_are_one_pose(batch: PoseBatch) -> None:
    """A body turned about: its joints as seen differ, those of the body do not."""
    from human.body import load_body
    from human.rotations import rotvec_to_matrix

    body = load_body()
    orient = torch.tensor([[0.1, 0.2, 0.3], [2.0, -1.0, 0.5]])
    pose = batch.body_pose[:1].expand(2, -1, -1)
    joints = body.joints(torch.zeros(2, 10), rotvec_to_matrix(pose), rotvec_to_matrix(orient), None)
    two = batch[:2].replace(joints3d=joints - joints[:, :1], global_orient=orient, joints3d_conf=torch.ones(2, 32))
    seen, turned = poses_3d(two)
    torch.testing.assert_close(turned[0], turned[1], atol=1e-2, rtol=0)
    assert (seen[0] - seen[1]).norm(dim=-1).max() > 100


@pytest.mark.parametrize("wrong", [{"limit": -1}, {"kid_subset_size": 1}, {"crop_scale": 0.0}, {"nearest": 0}])
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(PosesynError, match="quality needs"):
        QualityConfig(**wrong)


@pytest.mark.usefixtures("command_process")
def test_the_command_writes_table_and_json(
    batch: PoseBatch, config: QualityConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("POSESYN_CACHE", str(tmp_path / "cache"))
    pool = Pool(tmp_path / "pool")
    pool.commit(0, samples(batch[:6]))
    real = write_lspet(tmp_path / "real", range(50, 58))
    arguments = [str(tmp_path / "pool"), "--real", f"lspet={real}", "--out", str(tmp_path / "out")]
    network = ["--features", "test_resnet", "--feature-weights", str(config.feature_weights)]
    main(["quality", *arguments, *network, "--labeller", "none"])
    assert "rendered" in capsys.readouterr().out
    written = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert written["size"] == 64
    (row,) = written["rows"]
    assert row["fid"] > 0
    assert row["alignment"] is None
    assert row["made"] == row["passed"] == 6
    with pytest.raises(SystemExit):
        main(["quality", str(tmp_path / "nowhere"), *arguments[1:]])
    assert "no pool" in capsys.readouterr().err


def test_a_row_is_json() -> None:
    row = Quality("e", None, 3, 0, 0, {"fid": float("nan"), "kid": 0.5}, ("note",)).as_dict()
    assert row["fid"] is None
    assert row["kid"] == 0.5
    assert row["notes"] == ["note"]
