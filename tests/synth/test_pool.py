"""The pool: atomic generations, readers that nothing disturbs, writers that die."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
import torch

from human.errors import PosesynError
from human.rng import generator
from synth.pool import Damaged, Pool, Sample, encode_image
from synth.sample import LABEL_SHAPES
from tests.synth.pool_samples import SIZE, data_files, make_sample, make_samples, same


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(tmp_path / "pool")


def test_what_is_committed_is_read(pool: Pool) -> None:
    samples = make_samples(200)  # more than one batch of the writer
    info = pool.commit(7, samples)
    kept = [s for s in samples if s.passed]
    assert (info.generation, info.count, info.passed, info.start) == (7, 200, len(kept), 0)
    order = [5, 0, len(kept) - 1, 5, 80]
    batch = pool.read(7, order, source=3)
    assert batch.image.dtype == torch.uint8
    assert batch.image.shape == (5, 3, SIZE, SIZE)
    for row, i in enumerate(order):
        for name in LABEL_SHAPES:
            assert np.array_equal(getattr(batch, name)[row].numpy(), getattr(kept[i], name)), name
        assert batch.key[row].tolist() == [3, 7, i, kept[i].seed]
        picture = generator(kept[i].seed)
        for shape in LABEL_SHAPES.values():
            picture.normal(size=shape)
        expected = picture.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        assert np.array_equal(batch.image[row].permute(1, 2, 0).numpy(), expected), "RGB order"
    assert (batch.has_pose & batch.has_betas & batch.has_transl).all()


def test_missing_body_labels_are_masked(pool: Pool) -> None:
    samples = [make_sample(0), make_sample(1, betas=None, transl=None), make_sample(2, body_pose=None)]
    pool.commit(0, samples)
    batch = pool.read(0, [0, 1, 2])
    assert batch.has_pose.tolist() == [True, True, False]
    assert batch.has_betas.tolist() == [True, False, True]
    assert batch.has_transl.tolist() == [True, False, True]
    assert batch.betas[1].eq(0).all()
    assert np.array_equal(batch.betas[2].numpy(), samples[2].betas)


def test_filtered_rows_keep_provenance_not_pixels(pool: Pool) -> None:
    pool.commit(0, make_samples(9))
    rows = pool.provenance(0).to_pylist()
    assert [r["passed"] for r in rows] == [True] * 6 + [False] * 3
    assert [r["index"] for r in rows] == list(range(9))
    assert [r["seed"] for r in rows] == [0, 1, 3, 4, 6, 7, 2, 5, 8]
    assert rows[8]["challenge_id"] == "c8"
    assert rows[8]["err3d"] == 58.0
    stored = lance.dataset(str(pool.path)).to_table(columns=["image", "betas"]).to_pylist()
    assert all(r["image"] == b"" and r["betas"] is None for r in stored[6:])
    assert all(r["image"] for r in stored[:6])
    with pytest.raises(PosesynError, match=r"generation 0 has samples 0 to 5"):
        pool.read(0, [6])


def test_generations_survive_and_are_immutable(pool: Pool) -> None:
    assert pool.generations() == []
    infos = [pool.commit(g, make_samples(n, first=100 * g)) for g, n in ((3, 4), (0, 6), (9, 0), (4, 5))]
    before = pool.read(0, [1, 2])
    with pytest.raises(PosesynError, match=r"generation 0 is committed already"):
        pool.commit(0, make_samples(6))
    again = Pool(pool.path)
    assert again.generations() == sorted(infos, key=lambda i: i.generation)
    assert [i.count for i in again.generations()] == [6, 4, 5, 0]
    assert same(again.read(0, [1, 2]), before)
    assert again.provenance(9).num_rows == 0
    assert [r["generation"] for r in again.provenance(4).to_pylist()] == [4] * 5


def test_bad_indices(pool: Pool) -> None:
    pool.commit(0, make_samples(6))
    for indices in ([], [-1], [0, 4]):
        with pytest.raises(PosesynError, match=r"generation 0 has samples 0 to 3"):
            pool.read(0, indices)


def test_unknown_generation(pool: Pool) -> None:
    with pytest.raises(PosesynError, match=r"no generation 0; it has none"):
        pool.read(0, [0])
    pool.commit(2, make_samples(3))
    with pytest.raises(PosesynError, match=r"no generation 0; it has \[2\]"):
        pool.provenance(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": b"GIF89a"}, "sample 1 passed the filter but its image"),
        ({"joints3d": None}, "sample 1 passed the filter but has no joints3d"),
        ({"betas": np.zeros(11)}, r"sample 1: betas must be finite with shape \(10,\)"),
        ({"transl": np.array([0, np.nan, 1])}, r"sample 1: transl must be finite"),
    ],
)
def test_malformed_samples_leave_no_trace(pool: Pool, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PosesynError, match=message):
        pool.commit(0, [make_sample(0), make_sample(1, **changes)])
    assert pool.generations() == []
    assert pool.commit(0, make_samples(3)).count == 3


def test_exception_in_the_generator_propagates(pool: Pool) -> None:
    pool.commit(0, make_samples(3))

    def engine() -> Iterator[Sample]:
        yield from make_samples(300)
        raise ZeroDivisionError("engine broke")

    with pytest.raises(ZeroDivisionError, match="engine broke"):
        pool.commit(1, engine())
    assert [i.generation for i in pool.generations()] == [0]
    assert pool.commit(1, make_samples(4)).start == 3


def test_mixed_sizes_and_undecodable_pictures(pool: Pool) -> None:
    broken = make_sample(2, image=b"\x89PNG but no more")
    pool.commit(0, [make_sample(0), make_sample(1, size=24), broken])
    with pytest.raises(PosesynError, match=r"generation 0 mixes pictures of 16x16, 24x24"):
        pool.read(0, [0, 1])
    with pytest.raises(PosesynError, match=r"generation 0, sample 2: the picture cannot be decoded"):
        pool.read(0, [0, 2])
    assert pool.read(0, [1, 1]).size == 24


def test_encode_image() -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    as_tensor = torch.from_numpy(red).permute(2, 0, 1)
    assert encode_image(red, "png") == encode_image(as_tensor, "png")
    assert encode_image(red)[:3] == b"\xff\xd8\xff"
    with pytest.raises(PosesynError, match="uint8 RGB"):
        encode_image(red.astype(np.float32))


def test_folders_that_are_not_pools(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(PosesynError, match=r"is not a readable pool"):
        Pool(tmp_path).generations()
    with pytest.raises(PosesynError, match=r"is not a readable pool"):
        Pool(tmp_path / "holiday.jpg").commit(0, [])
    lance.write_dataset(pa.table({"a": [1]}), str(tmp_path / "other"))
    with pytest.raises(PosesynError, match=r"is a Lance dataset but not a pool"):
        Pool(tmp_path / "other").generations()
    (tmp_path / "empty").mkdir()
    assert Pool(tmp_path / "empty").generations() == []


@pytest.mark.parametrize("damage", ["delete", "truncate", "zero", "flip"])
def test_damage_is_named_and_stays_local(pool: Pool, damage: str) -> None:
    pool.commit(0, make_samples(30))
    (old,) = data_files(pool)
    pool.commit(1, make_samples(30, first=50))
    (new,) = set(data_files(pool)) - {old}
    good = pool.read(0, [0, 1])
    raw = bytearray(new.read_bytes())
    if damage == "delete":
        new.unlink()
    elif damage == "truncate":
        new.write_bytes(raw[: len(raw) // 2])
    elif damage == "zero":
        new.write_bytes(bytes(len(raw)))
    else:
        at = raw.index(make_sample(50).image) + 400  # inside the first picture
        raw[at] ^= 1
        new.write_bytes(raw)
    reader = Pool(pool.path)
    assert len(reader.generations()) == 2
    assert same(reader.read(0, [0, 1]), good)
    with pytest.raises(PosesynError, match=r"generation 1\b.*(damaged|gone)") as caught:
        reader.read(1, [0, 1])
    assert str(pool.path) in str(caught.value)


def test_damaged_labels_are_noticed(pool: Pool) -> None:
    sample = make_sample(0)
    pool.commit(0, [sample])
    (path,) = data_files(pool)
    raw = bytearray(path.read_bytes())
    raw[raw.index(sample.joints3d.tobytes()) + 2] ^= 64
    path.write_bytes(raw)
    with pytest.raises(PosesynError, match=r"samples \[0\] are damaged"):
        Pool(pool.path).read(0, [0])


def test_forgotten_generations_keep_their_provenance(pool: Pool) -> None:
    for generation, count in ((0, 70), (1, 0), (2, 9), (5, 4)):
        pool.commit(generation, make_samples(count, first=100 * generation))
    before = {g: pool.provenance(g).to_pylist() for g in (0, 1, 2, 5)}
    kept, size = pool.read(2, [0, 5]), sum(f.stat().st_size for f in data_files(pool))
    reader = Pool(pool.path)
    reader.generations()
    assert pool.forget([0, 5, 77]) > 0
    assert sum(f.stat().st_size for f in data_files(pool)) < 0.6 * size
    assert len(list((pool.path / "_versions").glob("*.manifest"))) == 1
    assert pool.forget([0, 5]) == 0
    again = Pool(pool.path)
    assert [(i.generation, i.forgotten) for i in again.generations()] == [(0, True), (1, False), (2, False), (5, True)]
    assert {g: again.provenance(g).to_pylist() for g in before} == before
    for one in (again, reader):
        assert same(one.read(2, [0, 5]), kept)
    with pytest.raises(Damaged, match="generation 0 were deleted to save room"):
        again.read(0, [0])
    with pytest.raises(Damaged, match="generation 0"):  # opened before
        reader.read(0, [0])
    again.commit(7, make_samples(5))
    assert again.read(7, [0, 1]).key[:, 3].tolist() == [0, 1]
    assert same(again.read(2, [0, 5]), kept)
