"""``lightning predict`` on pictures: the files, in full-frame coordinates, and going on after a kill."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from callbacks import PredictionWriter
from callbacks.overlay import write_mesh
from callbacks.prediction_table import join_parts, read_part
from datamodules.images import read_picture
from datamodules.pose import PoseDataModule
from datamodules.sources import PoolSource
from human.batch import PoseBatch
from human.body import load_body
from human.camera import project
from human.crop import crop_affine, transform_intrinsics, transform_points
from human.errors import PosesynError
from human.full_frame import crop_to_picture, joints_in_picture, transl_in_picture
from lightning_modules import HMR
from tests.tiny import SIZE, rendered_people, tiny_hmr

PEOPLE = {"a.png": 2, "sub/b.png": 1, "c.png": 0, "cut.png": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered people side by side, one alone, a picture with nobody, and one that is damaged."""
    root = tmp_path_factory.mktemp("pictures") / "photos"
    (root / "sub").mkdir(parents=True)
    people = [p.permute(1, 2, 0).numpy()[..., ::-1] for p in rendered_people(range(3), 96).image]
    cv2.imwrite(str(root / "a.png"), np.hstack(people[:2]))
    cv2.imwrite(str(root / "sub/b.png"), people[2])
    cv2.imwrite(str(root / "c.png"), np.full((40, 60, 3), 90, np.uint8))
    (root / "cut.png").write_bytes((root / "a.png").read_bytes()[:500])
    rows = ["a.png,5,5,90,90", "a.png,100,4,188,92", "sub/b.png,3,3,92,92"]
    (root.parent / "boxes.csv").write_text("\n".join(["file,x1,y1,x2,y2", *rows]))
    return root


def predict(
    folder: Path, out: Path, model: L.LightningModule | None = None, data: dict[str, Any] | None = None, **options: Any
) -> PredictionWriter:
    boxes = {"detector": "boxes", "detector_options": {"path": str(folder.parent / "boxes.csv")}}
    module = PoseDataModule(
        [PoolSource()],
        image_size=SIZE,
        batch_size=2,
        workers=0,
        images=str(folder),
        **(boxes if data is None else data),
    )
    writer = PredictionWriter(str(out), **options)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = L.Trainer(callbacks=[writer], default_root_dir=out, **quiet)  # type: ignore[arg-type]
    assert trainer.predict(model or tiny_hmr(), datamodule=module) in (None, [])
    return writer


def test_table_arrays_and_pictures(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict(folder, tmp_path)
    table = pq.read_table(tmp_path / "predictions.parquet")
    assert table["picture"].to_pylist() == ["a.png", "a.png", "sub/b.png"]
    assert table["person"].to_pylist() == [1, 0, 0] or table["person"].to_pylist() == [0, 1, 0]
    with np.load(tmp_path / "predictions.npz") as arrays:
        assert arrays["joints3d"].shape == (3, 32, 3)
        for name in arrays.files:
            column = np.array(table[name].to_pylist())
            np.testing.assert_array_equal(arrays[name].reshape(column.shape), column.astype(arrays[name].dtype))
    with (tmp_path / "pictures.csv").open() as stream:
        lines = {row["picture"]: row for row in csv.DictReader(stream)}
    assert {name: int(row["people"]) for name, row in lines.items()} == PEOPLE
    assert "cannot be read" in lines["cut.png"]["error"]
    assert not (tmp_path / "parts").exists()
    said = capsys.readouterr().out
    assert "3 people in 4 pictures" in said
    assert "1 without people" in said
    assert "1 could not be read" in said


def test_numbers_are_the_estimators(folder: Path, tmp_path: Path) -> None:
    """Of the batch that one makes by hand from the box."""
    predict(folder, tmp_path)
    with np.load(tmp_path / "predictions.npz") as arrays:
        table = dict(arrays)
    image, _ = read_picture(folder / "sub/b.png")
    from human.crop import square_box, warp_image

    row = table["picture"].tolist().index("sub/b.png")
    cx, cy, side = square_box(table["box"][row], 1.25)
    affine = crop_affine((cx, cy), side, SIZE)
    batch = PoseBatch.blank(1, SIZE)
    batch.image[0] = torch.from_numpy(warp_image(image, affine, SIZE)).permute(2, 0, 1)
    with torch.no_grad():
        said = tiny_hmr().eval().predict(batch)
    for name in ("betas", "global_orient", "body_pose", "joints3d"):
        np.testing.assert_allclose(table[name][row], getattr(said, name)[0], atol=1e-5)
    back = transform_points(affine, table["joints2d"][row])
    np.testing.assert_allclose(back, said.joints2d[0], atol=1e-3)


def test_an_estimator_that_says_the_truth_is_right_in_the_whole_picture() -> None:
    """Full-frame translation: known people, off the middle, before a known camera."""
    generator = torch.Generator().manual_seed(0)
    camera = torch.tensor([[900.0, 0, 319.5], [0, 900.0, 239.5], [0, 0, 1]])
    transl = torch.rand(5, 3, generator=generator) * torch.tensor([2.0, 1.0, 3.0]) + torch.tensor([-1.0, -0.5, 4.0])
    affines = [crop_affine((200 + 30 * k, 150 + 20 * k), 100 + 20 * k, 64) for k in range(5)]
    own = torch.stack([torch.from_numpy(transform_intrinsics(a, camera.numpy())).float() for a in affines])
    back, cameras = torch.stack([crop_to_picture(a) for a in affines]), camera.expand(5, 3, 3)
    torch.testing.assert_close(transl_in_picture(transl, own, back, cameras), transl, atol=1e-4, rtol=0)
    points = torch.rand(5, 32, 3, generator=generator) + transl[:, None]
    in_crop, in_picture = project(points, own), project(points, cameras)
    torch.testing.assert_close(joints_in_picture(in_crop, back), in_picture, atol=1e-3, rtol=0)


def test_full_frame_translation_is_that_of_the_papers_codes() -> None:
    """CLIFF's and 4D-Humans' formula, tx + 2 (cx - W/2) / (s b) and 2 f / (s b), with pixels counted as they do."""
    size, width, height, focal = 64, 640, 480, 800.0
    center, side = (250.0, 260.0), 160.0
    s, tx, ty = 0.9, 0.1, -0.2
    expected = [
        tx + 2 * (center[0] + 0.5 - width / 2) / (s * side),
        ty + 2 * (center[1] + 0.5 - height / 2) / (s * side),
        2 * focal / (s * side),
    ]
    from human.camera import make_intrinsics, weak_to_translation

    crop_focal = torch.tensor([5000.0 / 256 * size])
    transl = weak_to_translation(torch.tensor([[s, tx, ty]]), crop_focal, size)
    camera = torch.tensor([[[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]]])
    back = crop_to_picture(crop_affine(center, side, size))[None]
    found = transl_in_picture(transl, make_intrinsics(crop_focal, size), back, camera)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)


def test_a_killed_run_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict(folder, tmp_path / "whole")
    import callbacks.prediction_writer as module

    monkeypatch.setattr(module, "PART_PICTURES", 1)

    class Dies(HMR):
        steps = 0

        def predict_step(self, batch: PoseBatch, batch_idx: int, dataloader_idx: int = 0) -> Any:
            if batch_idx == 1:
                raise KeyboardInterrupt
            return super().predict_step(batch, batch_idx, dataloader_idx)

    torch.manual_seed(0)
    dying = Dies(backbone="test_efficientnet", image_size=SIZE, hidden=32, channels=8)
    dying.load_state_dict(tiny_hmr().state_dict(), strict=False)
    dying.__class__.__name__ = "HMR"  # the same estimator, to those who ask
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        predict(folder, tmp_path / "killed", dying)
    parts = list((tmp_path / "killed" / "parts").glob("*.parquet"))
    assert parts
    assert not (tmp_path / "killed" / "predictions.parquet").exists()
    half = join_parts(read_part(p) for p in parts)
    assert "a.png" in {line.file for line in half.pictures}
    assert half.table.num_rows == 2
    writer = predict(folder, tmp_path / "killed")
    assert writer._before == len(half.pictures)
    with np.load(tmp_path / "killed/predictions.npz") as one, np.load(tmp_path / "whole/predictions.npz") as other:
        for name in one.files:
            assert one[name].shape == other[name].shape
            if one[name].dtype.kind == "f":
                np.testing.assert_allclose(one[name], other[name], atol=1e-5)


def test_a_second_run_does_only_what_is_new_or_changed(folder: Path, tmp_path: Path) -> None:
    import shutil

    mine = tmp_path / "photos"
    shutil.copytree(folder, mine)
    shutil.copy(folder.parent / "boxes.csv", tmp_path / "boxes.csv")
    assert predict(mine, tmp_path / "out")._before == 0
    assert predict(mine, tmp_path / "out")._before == 4
    shutil.copy(mine / "a.png", mine / "cut.png")  # repaired
    (mine / "c.png").unlink()
    assert predict(mine, tmp_path / "out")._before == 2
    whole = read_part(tmp_path / "out" / "predictions.parquet")
    assert {line.file: line.error for line in whole.pictures if line.error} == {}


def test_other_weights_do_not_mix(folder: Path, tmp_path: Path) -> None:
    predict(folder, tmp_path)
    other = tiny_hmr()
    with torch.no_grad():
        other.head.delta.bias += 0.1
    with pytest.raises(PosesynError, match=r"made differently \(weights\)"):
        predict(folder, tmp_path, other)
    before = (tmp_path / "predictions.npz").read_bytes()
    assert predict(folder, tmp_path, other, overwrite=True)._before == 0
    assert (tmp_path / "predictions.npz").read_bytes() != before


def test_overlays_and_meshes(folder: Path, tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh", reason="pip install 'posesyn[meshes]'")
    predict(folder, tmp_path)
    again = predict(folder, tmp_path, overlays=True, meshes="glb", overlay_size=150)
    assert again._before == 2  # those with nobody: the others lack what is asked for now
    image, _ = read_picture(folder / "a.png")
    drawn = cv2.imread(str(tmp_path / "overlays" / "a.png.png"))[..., ::-1]
    assert drawn.shape == (75, 150, 3)
    small = cv2.resize(image, (150, 75), interpolation=cv2.INTER_AREA)
    changed = (np.abs(drawn.astype(int) - small).max(-1) > 24).mean()
    assert 0.03 < changed < 0.6
    assert not (tmp_path / "overlays" / "c.png.png").exists()
    with np.load(tmp_path / "predictions.npz") as arrays:
        table = dict(arrays)
    body = load_body()
    for k, (name, person) in enumerate(zip(table["picture"], table["person"], strict=True)):
        mesh = trimesh.load(tmp_path / "meshes" / f"{name}.{person}.glb", force="mesh", process=False)
        assert len(mesh.faces) == len(body.faces)
        out = body(*(torch.from_numpy(table[n][k : k + 1]) for n in ("betas", "body_pose", "global_orient")))
        vertices = (out.vertices - out.joints[:, :1])[0].numpy() + table["transl"][k]
        np.testing.assert_allclose(mesh.vertices * [1, -1, -1], vertices, atol=1e-4)


def test_a_drawn_body_lies_where_its_joints_are(folder: Path, tmp_path: Path) -> None:
    """The overlay covers the predicted hips, knees and shoulders that lie in the picture."""
    predict(folder, tmp_path, overlays=True)
    from human.skeleton import POSE32

    with np.load(tmp_path / "predictions.npz") as arrays:
        table = dict(arrays)
    image, _ = read_picture(folder / "sub/b.png")
    drawn = cv2.imread(str(tmp_path / "overlays" / "sub/b.png.png"))[..., ::-1]
    row = table["picture"].tolist().index("sub/b.png")
    names = ("pelvis", "left_hip", "right_hip", "left_shoulder", "right_shoulder", "left_knee", "right_knee")
    joints = table["joints2d"][row][[POSE32.index(n) for n in names]]
    inside = [(round(x), round(y)) for x, y in joints if 0 <= x < 96 and 0 <= y < 96]
    assert len(inside) >= 3
    assert all(np.abs(drawn[y, x].astype(int) - image[y, x]).max() > 0 for x, y in inside)


def test_meshes_can_be_ply(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh", reason="pip install 'posesyn[meshes]'")
    vertices = np.array([[0, 0, 1], [1, 0, 1], [0, 1, 1.5]], np.float32)
    write_mesh(tmp_path / "x.ply", vertices, np.array([[0, 1, 2]]))
    mesh = trimesh.load(tmp_path / "x.ply", process=False)
    np.testing.assert_allclose(mesh.vertices, vertices * [1, -1, -1])


def test_wrong_settings_are_one_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="choose one of ply, glb"):
        PredictionWriter(meshes="obj")
    with pytest.raises(PosesynError, match="no folder of pictures"):
        predict(folder / "nowhere", tmp_path, data={"crops": True})
    with pytest.raises(PosesynError, match="no detector is called 'yolo'"):
        predict(folder, tmp_path, data={"detector": "yolo"})
    (tmp_path / "predictions.parquet").write_bytes(b"something else")
    with pytest.raises(PosesynError, match="not a file of predictions"):
        predict(folder, tmp_path)


def test_crops_need_no_detector(folder: Path, tmp_path: Path) -> None:
    predict(folder, tmp_path, data={"crops": True})
    table = pq.read_table(tmp_path / "predictions.parquet")
    assert table["picture"].to_pylist() == ["a.png", "c.png", "sub/b.png"]
