"""Sources: every registered one is a pure function of keys; what cannot be read is weightless or named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from datamodules.crops import Augmentation
from datamodules.readers import READERS, PoseReader
from datamodules.readers.base import make_reader
from datamodules.sources import SOURCES, PoolSource, RealSource, SampleSource
from human.batch import PoseBatch
from human.errors import PosesynError
from human.rng import generator
from synth.pool import Pool
from synth.sample import LABEL_SHAPES, Sample, encode_image

SIZE = 48


def pool_samples(count: int, size: int = SIZE) -> list[Sample]:
    samples = []
    for seed in range(count):
        rng = generator(seed)
        labels = {name: rng.normal(size=shape).astype(np.float32) for name, shape in LABEL_SHAPES.items()}
        samples.append(Sample(image=encode_image(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)), **labels))
    return samples


# How each registered source is made at test size: LSPET folder -> arguments. "pool" holds generations 0 and 4.
ARGUMENTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "real": lambda lspet: {"reader": "lspet", "options": {"root": str(lspet)}},
    "pool": lambda lspet: {},
    "rendered": lambda lspet: {"backgrounds": "procedural", "options": {"supersample": 1}},
}


def make(name: str, lspet_root: Path, tmp_path: Path) -> SampleSource:
    source = SOURCES.get(name)(**ARGUMENTS[name](lspet_root))
    source.prepare(SIZE, tmp_path / "pool")
    return source


def some_keys(source: SampleSource) -> np.ndarray:
    """Six keys that the source can serve, one person or sample twice under two seeds."""
    seeds = np.array([11, 12, 13, 14, 15, 2**53 - 1])
    index = np.full(6, -1) if source.size == 0 else np.array([2, 0, 2, 1, 3, 0])
    generation = np.array([4, 0, 4, 4, 0, 0]) if source.size < 0 else np.full(6, -1)
    return np.stack([np.full(6, 1), generation, index, seeds], 1)


@pytest.mark.parametrize("name", SOURCES.names())
def test_every_source_is_a_function_of_its_keys(name: str, lspet_root: Path, tmp_path: Path) -> None:
    for generation in (0, 4):
        Pool(tmp_path / "pool").commit(generation, pool_samples(4))
    source = make(name, lspet_root, tmp_path)
    key = some_keys(source)
    batch = source.fetch(key)
    assert (len(batch), batch.size, batch.image.dtype) == (6, SIZE, torch.uint8)
    assert (batch.weight > 0).all()
    assert (batch.joints2d_conf > 0).any(1).all()
    assert all(v.isfinite().all() for v in batch.as_dict().values())
    assert not torch.equal(batch.image[0], batch.image[2])  # the seed counts
    other = make(name, lspet_root, tmp_path)  # never asked before
    for rows in ([3], [5, 0, 3], [4, 4]):
        again = other.fetch(key[rows])
        for field, value in again.as_dict().items():
            if field != "key":  # the mixture writes the key
                assert torch.equal(value, batch.as_dict()[field][rows]), f"{name}: {field} of {rows}"


def test_every_source_has_a_weight_and_a_name() -> None:
    for name in SOURCES:
        arguments = ARGUMENTS[name](Path("nowhere"))
        source = SOURCES.get(name)(**arguments, name="mine", weight=[[0, 1], [5, 2]])
        assert (source.name, source.weight) == ("mine", [[0, 1], [5, 2]])


# ----------------------------------------------------------------------------------------------------------- real


def keys_of(*rows: int) -> np.ndarray:
    return np.array([[0, -1, row, 100 + row] for row in rows])


def real(root: Path, **options: Any) -> RealSource:
    source = RealSource("lspet", {"root": str(root)}, **options)
    source.prepare(SIZE, root / "pool")
    return source


def test_unreadable_pictures_have_weight_0_and_leave_the_others_alone(lspet_root: Path) -> None:
    expected = real(lspet_root).fetch(keys_of(0, 1, 2))
    (lspet_root / "images" / "im00002.jpg").write_bytes(b"not a picture")
    batch = real(lspet_root).fetch(keys_of(0, 1, 2))
    assert batch.weight.tolist() == [1, 0, 1]
    assert torch.equal(batch.image[[0, 2]], expected.image[[0, 2]])
    assert batch.image[1].sum() == batch.joints2d_conf[1].sum() == 0
    for file in (lspet_root / "images").iterdir():
        file.unlink()
    nothing = real(lspet_root).fetch(keys_of(0, 1, 2))
    assert (nothing.size, nothing.weight.tolist()) == (SIZE, [0, 0, 0])
    assert PoseBatch.cat([batch, nothing]).size == SIZE


def test_augmentation_and_3d_are_the_configs(lspet_root: Path) -> None:
    still = Augmentation(scale=0, shift=0, rotation_p=0, flip_p=0, colour=0, low_res_p=0, erase_p=0)
    a = real(lspet_root, augmentation=still).fetch(np.array([[0, -1, 3, 1], [0, -1, 3, 2]]))
    assert torch.equal(a.image[0], a.image[1])
    wide = real(lspet_root, augmentation=still, box_scale=2.5).fetch(np.array([[0, -1, 3, 1]]))
    spread = [float((b.joints2d[0, b.joints2d_conf[0] > 0] - (SIZE - 1) / 2).abs().max()) for b in (a, wide)]
    assert spread[0] == pytest.approx(2 * spread[1], rel=1e-3)


class Lifted(PoseReader):
    """LSPET persons that stand, flat, two metres away."""

    name, licence, skeleton = "lifted", "none", "lsp14"

    def __init__(self, root: str) -> None:
        self.inner = READERS.get("lspet")(root=root)  # type: ignore[call-arg]
        self.index = self.inner.index
        self.index.joints3d[..., 2] = 2
        self.index.joints3d[..., 3] = 1

    def read_image(self, i: int) -> np.ndarray:
        return self.inner.read_image(i)


def test_3d_labels_can_be_hidden(lspet_root: Path) -> None:
    for use_3d, expected in ((True, 1), (False, 0)):
        source = RealSource("lspet", use_3d=use_3d)
        source.__dict__["reader"] = Lifted(str(lspet_root))
        source.prepare(SIZE, lspet_root)
        batch = source.fetch(keys_of(0, 1))
        assert (batch.joints3d_conf == expected).all()
        assert (batch.joints2d_conf.sum(1) == 14).all()


def test_data_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match=r"no-such-folder"):
        _ = real(tmp_path / "no-such-folder").size
    with pytest.raises(PosesynError, match=r"no reader is called 'cocoa'; known: .*lspet"):
        _ = RealSource("cocoa").size


@pytest.mark.parametrize(
    ("options", "word"),
    [({}, "root"), ({"root": "x", "part": "val"}, "part"), ({"root": "x", "split": "test"}, "split 'test'")],
)
def test_options_that_do_not_fit_the_reader_are_named(options: dict[str, Any], word: str) -> None:
    with pytest.raises(PosesynError, match=f"lspet.*{word}"):
        make_reader("lspet", options)


def test_a_data_set_without_persons_is_refused(lspet_root: Path) -> None:
    joints = loadmat(lspet_root / "joints.mat")["joints"]
    joints[:, 2] = 0
    savemat(lspet_root / "joints.mat", {"joints": joints})
    with pytest.raises(PosesynError, match=r"source 'leeds' has no usable person: lspet: 0 persons"):
        _ = real(lspet_root, name="leeds").size


# ----------------------------------------------------------------------------------------------------------- pool


def pool_source(path: Path) -> PoolSource:
    source = PoolSource()
    source.prepare(SIZE, path)
    return source


def test_pool_pictures_of_another_size_are_refused(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "pool")
    pool.commit(0, pool_samples(2))
    pool.commit(1, pool_samples(2, size=32))
    key = np.array([[0, 0, 1, 5], [0, 1, 1, 6]])
    assert pool_source(pool.path).fetch(key[:1]).size == SIZE
    for wrong in (key[1:], key, key[::-1]):  # also beside samples that fit
        with pytest.raises(PosesynError, match=f"generation 1 .*{tmp_path}.* 32 px.*{SIZE} px"):
            pool_source(pool.path).fetch(wrong)


def test_a_pool_that_lacks_the_generation_costs_its_samples(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = pool_source(tmp_path / "pool")
    batch = source.fetch(np.array([[0, 0, 0, 5], [0, 0, 1, 5]]))
    assert batch.weight.tolist() == [0, 0]
    assert batch.size == SIZE
    source.fetch(np.array([[0, 0, 0, 5]]))
    assert caplog.text.count("no generation 0") == 1  # told once


@pytest.mark.parametrize("damage", ["byte", "file"])
def test_damaged_samples_of_the_pool_have_no_weight(tmp_path: Path, damage: str) -> None:
    pool = Pool(tmp_path / "pool")
    pool.commit(0, pool_samples(3))
    old = set((pool.path / "data").iterdir())
    pool.commit(1, pool_samples(4))
    key = np.array([[0, 1, 0, 5], [0, 0, 1, 6], [0, 1, 3, 7], [0, 1, 2, 8], [0, 0, 2, 9]])
    whole = pool_source(pool.path).fetch(key)
    (file,) = set((pool.path / "data").iterdir()) - old
    if damage == "file":
        file.unlink()
    else:
        raw = bytearray(file.read_bytes())
        raw[raw.index(pool_samples(4)[3].image) + 300] ^= 1
        file.write_bytes(raw)
    lost = np.array([damage == "file", False, True, damage == "file", False])
    batch = pool_source(pool.path).fetch(key)
    assert (batch.weight == 0).tolist() == lost.tolist()
    for name, value in batch.as_dict().items():
        assert torch.equal(value[~lost], whole.as_dict()[name][~lost]), name
    assert batch.joints2d_conf[lost].sum() == 0
    assert not batch.has_pose[lost].any()


def test_pool_labels_are_kept_and_pictures_vary(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "pool")
    pool.commit(3, pool_samples(2))
    batch = pool_source(pool.path).fetch(np.array([[0, 3, 1, 5], [0, 3, 1, 6], [0, 3, 0, 5]]))
    stored = pool.read(3, [1, 1, 0])
    assert not torch.equal(batch.image[0], batch.image[1])
    for field, value in batch.as_dict().items():
        if field != "image":
            assert torch.equal(value, stored.as_dict()[field]), field
