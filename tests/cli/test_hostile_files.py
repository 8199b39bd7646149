"""Hostile checkpoints, configs, pools, job folders and caches: nothing in them runs, each ends in one clear error.

Label files of data sets: tests/datamodules/readers/test_hostile.py; body files: tests/human/test_smpl_files.py.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml

from cli.lightning import main
from cli.report.gather import gather
from datamodules.crops import CropSet
from datamodules.readers import make_reader
from datamodules.readers.index_store import open_index
from human.errors import PosesynError
from human.motion import load_motion_bank
from synth.fleet.folder import JobFolder
from synth.jobs import Job
from synth.pool import Pool
from tests.cli.test_lightning_cli import tiny_config
from tests.synth.fleets import place
from tests.tiny import tiny_hmr, write_data

pytestmark = pytest.mark.usefixtures("command_process")


class Bomb:
    """Makes the folder ``mark`` when somebody unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "mark"


@pytest.fixture(scope="module")
def data(own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("lspet"))


def test_the_bomb_goes_off_where_nobody_takes_care(mark: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.is_dir()


def an_array_of(bomb: Bomb) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([bomb], object), allow_pickle=True)
    return buffer.getvalue()


# -- checkpoints -----------------------------------------------------------------------------------------------------
def bombed_checkpoint(path: Path, bomb: Bomb, where: str) -> Path:
    state = {"state_dict": dict(tiny_hmr().state_dict()), "callbacks": {}, "epoch": 0, "global_step": 0}
    if where == "weights":
        state["state_dict"]["x"] = bomb  # type: ignore[index]
    elif where == "callbacks":
        state["callbacks"] = {"Refresh": {"history": [bomb]}}
    else:
        state["hyper_parameters"] = bomb
    torch.save(state, path)
    return path


@pytest.mark.parametrize("where", ["weights", "callbacks", "hyper_parameters"])
def test_a_checkpoint_to_resume_from(
    data: Path, tmp_path: Path, mark: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    path = bombed_checkpoint(tmp_path / "bomb.ckpt", Bomb(mark), where)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(tiny_config(data, tmp_path / "run")))
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", str(config), "--ckpt_path", str(path)])
    assert stopped.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "bomb.ckpt" in said[-1]
    assert "Traceback" not in "".join(said)
    assert not mark.exists()


@pytest.mark.parametrize("raw", [False, True])
def test_weights_to_start_from(tmp_path: Path, mark: Path, raw: bool) -> None:
    path = bombed_checkpoint(tmp_path / "bomb.ckpt", Bomb(mark), "weights")
    if raw:
        path.write_bytes(pickle.dumps({"state_dict": Bomb(mark)}))
    if raw:
        with pytest.raises(PosesynError, match=r"bomb.ckpt"):
            tiny_hmr(checkpoint=str(path))
    else:  # the weights are taken, and nothing else
        tiny_hmr(checkpoint=str(path))
    assert not mark.exists()


# -- configs ---------------------------------------------------------------------------------------------------------
def in_slot(config: dict[str, Any], slot: str, value: Any) -> dict[str, Any]:
    """The config with ``value`` where ``slot`` says; a number is an item of a list."""
    *path, last = [int(p) if p.isdigit() else p for p in slot.split(".")]
    place: Any = config
    for part in path:
        place = place[part]
    place[last] = value
    return config


SLOTS = [
    "model",
    "model.init_args.domain",
    "model.init_args.loss",
    "model.init_args.optimisation",
    "data.sources.0",
    "data.sources.0.init_args.augmentation",
    "trainer.callbacks.1",
    "trainer.callbacks.1.init_args.eem",
    "trainer.callbacks.1.init_args.fleet",
    "trainer.callbacks.1.init_args.miner",
    "trainer.logger",
    "trainer.strategy",
    "trainer.profiler",
    "trainer.plugins",
]


@pytest.mark.parametrize(("slot", "kind"), list(zip(SLOTS, itertools.cycle(["os.mkdir", "subprocess.Popen"]))))
def test_a_class_that_is_none_of_ours(
    data: Path, tmp_path: Path, mark: Path, capsys: pytest.CaptureFixture[str], slot: str, kind: str
) -> None:
    arguments = {"path": str(mark)} if kind == "os.mkdir" else {"args": ["mkdir", str(mark)]}
    config = in_slot(tiny_config(data, tmp_path / "run"), slot, {"class_path": kind, "init_args": arguments})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", str(tmp_path / "config.yaml")])
    assert stopped.value.code == 2
    assert "error:" in capsys.readouterr().err
    assert not mark.exists()


TAGS = [
    "!!python/object/apply:os.mkdir ['{mark}']",
    "!!python/object/new:os.mkdir ['{mark}']",
    "!!python/object/apply:subprocess.Popen [[mkdir, '{mark}']]",
    "!!python/name:os.mkdir",
    "!!python/module:os",
]


@pytest.mark.parametrize("tag", TAGS)
def test_yaml_with_tags_of_python(
    data: Path, tmp_path: Path, mark: Path, capsys: pytest.CaptureFixture[str], tag: str
) -> None:
    text = yaml.safe_dump({**tiny_config(data, tmp_path / "run"), "seed_everything": "HERE"})
    path = tmp_path / "config.yaml"
    path.write_text(text.replace("HERE", tag.format(mark=mark)))
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", str(path)])
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not mark.exists()


# -- pool ------------------------------------------------------------------------------------------------------------
def test_a_pool_with_a_pickled_type(tmp_path: Path, mark: Path) -> None:
    """Arrow's types once had parameters that were pickles."""
    bomb = pickle.dumps(Bomb(mark), 0)
    field = pa.field(
        "image",
        pa.binary(),
        metadata={b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": bomb},
    )
    info = {"generation": 0, "version": 2, "count": 1, "passed": 1, "start": 0, "synthesiser": ""}
    schema = pa.schema([field], {b"posesyn.pool": b"1", b"posesyn.generation.0": json.dumps(info).encode()})
    lance.write_dataset(pa.table([pa.array([bomb], pa.binary())], schema=schema), tmp_path / "pool")
    pool = Pool(tmp_path / "pool")
    assert [i.generation for i in pool.generations()] == [0]
    with pytest.raises(PosesynError, match="generation 0 cannot be read"):
        pool.read(0, [0])
    assert not mark.exists()


@pytest.mark.parametrize(
    "said", [b"cos\nmkdir\n.", b"not json", b'{"generation": 0}', b"[1]", b'{"generation": "0", "evil": 1}']
)
def test_a_table_of_generations_that_is_none(tmp_path: Path, said: bytes) -> None:
    schema = pa.schema([pa.field("x", pa.int64())], {b"posesyn.pool": b"1", b"posesyn.generation.0": said})
    lance.write_dataset(pa.table([pa.array([1])], schema=schema), tmp_path / "pool")
    with pytest.raises(PosesynError, match="table of generations"):
        Pool(tmp_path / "pool").generations()


# -- what else is read -----------------------------------------------------------------------------------------------
def test_jobs_and_orders(tmp_path: Path, mark: Path) -> None:
    placed = place(tmp_path / "jobs", 1)
    (key,) = placed.order.keys
    bomb = pickle.dumps(Bomb(mark))
    for content in (bomb, an_array_of(Bomb(mark))):
        (placed.path / "jobs" / key).write_bytes(content)
        with pytest.raises(PosesynError, match=key):
            Job.load(placed.path / "jobs" / key)
        placed.put(key, content)
        assert placed.check_results()
        (placed.path / "order.json").write_bytes(content)
        (again,) = JobFolder(tmp_path / "jobs").orders()
        with pytest.raises(PosesynError, match="is no order of jobs"):
            again.order  # noqa: B018
    assert not mark.exists()


@pytest.mark.parametrize("dtype", ["|O", [["a", "|O"]], "O", "object"])
def test_an_index_that_claims_to_hold_objects(tmp_path: Path, dtype: Any) -> None:
    """Mapped as objects, its bytes would be addresses."""
    (tmp_path / "x.bin").write_bytes(b"\x41" * 16)
    meta = {"rows": 2, "numbers": {"x": {"dtype": dtype, "shape": []}}, "text": [], "skipped": []}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(PosesynError, match=f"the index in {tmp_path} is damaged"):
        open_index(tmp_path)


def test_a_cache_of_crops(data: Path, tmp_path: Path, mark: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is made anew: nothing is lost by that."""
    reader = make_reader("lspet", {"root": str(data / "val")})
    whole = CropSet(reader, 32, 1.25, cache=tmp_path / "crops").crops(np.arange(3))
    (sizes,) = (tmp_path / "crops").glob("*.npy")
    sizes.write_bytes(an_array_of(Bomb(mark)))
    again = CropSet(reader, 32, 1.25, cache=tmp_path / "crops").crops(np.arange(3))
    assert torch.equal(again.image, whole.image)
    assert torch.equal(again.weight, whole.weight)
    assert "is damaged" in caplog.text
    assert not mark.exists()


READERS: dict[str, Callable[[Path], Any]] = {
    "motion.npz": lambda path: load_motion_bank(str(path)),
    "epochs.json": lambda path: gather(path.parent),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pickle", "array", "archive"])
def test_motions_and_runs(tmp_path: Path, mark: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"v_template": Bomb(mark), "poses": Bomb(mark)}))
    elif kind == "array":
        path.write_bytes(an_array_of(Bomb(mark)))
    else:
        with path.open("wb") as file:
            np.savez(file, **{n: np.array([Bomb(mark)], object) for n in ("poses", "root", "trans", "v_template")})
    with pytest.raises(PosesynError):
        READERS[name](path)
    assert not mark.exists()
