"""Files of checkpoints: whole or not there, whatever happens while they are written."""

from __future__ import annotations

import errno
import logging
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.plugins.io import AsyncCheckpointIO

from callbacks import Interrupt
from callbacks.checkpoints import WholeCheckpoints, is_whole, newest_of_run, newest_whole, protect_checkpoints
from human.errors import PosesynError
from tests.callbacks.faults import SLURM


@contextmanager
def full_disk() -> Iterator[None]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def state(number: int) -> dict[str, Any]:
    return {"step": number, "weights": torch.full((5000,), float(number))}


def names(folder: Path) -> list[str]:
    return sorted(f.name for f in folder.iterdir())


def test_a_file_is_written_read_and_removed(tmp_path: Path) -> None:
    files, path = WholeCheckpoints(), tmp_path / "new" / "a.ckpt"
    files.save_checkpoint(state(1), path)
    assert names(path.parent) == ["a.ckpt"]
    assert torch.equal(files.load_checkpoint(path, weights_only=True)["weights"], state(1)["weights"])
    files.remove_checkpoint(path)
    assert names(path.parent) == []


def test_on_a_full_disk_the_old_one_stays_until_its_successor_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = WholeCheckpoints()
    first, second, third, fourth = (tmp_path / f"{n}.ckpt" for n in range(4))
    files.save_checkpoint(state(0), first)
    with full_disk():
        files.save_checkpoint(state(1), second)
        files.remove_checkpoint(first)  # as ModelCheckpoint does next
        assert names(tmp_path) == ["0.ckpt"]
        files.save_checkpoint(state(2), third)
        files.remove_checkpoint(second)
        assert names(tmp_path) == ["0.ckpt"]
    said = [r.message for r in caplog.records if r.levelno == logging.ERROR]
    assert len(said) == 2
    assert "1.ckpt could not be written" in said[0]
    assert str(first) in said[0]
    files.save_checkpoint(state(3), fourth)
    files.remove_checkpoint(third)
    assert names(tmp_path) == ["3.ckpt"]


def test_one_name_written_again_keeps_its_old_content_on_a_full_disk(tmp_path: Path) -> None:
    files, path = WholeCheckpoints(), tmp_path / "last.ckpt"
    files.save_checkpoint(state(0), path)
    with full_disk():
        files.save_checkpoint(state(1), path)
    assert files.load_checkpoint(path, weights_only=True)["step"] == 0
    files.save_checkpoint(state(2), path)
    assert files.load_checkpoint(path, weights_only=True)["step"] == 2
    assert names(tmp_path) == ["last.ckpt"]


def test_what_only_the_user_can_mend_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="file") as caught:
        WholeCheckpoints().save_checkpoint(state(0), tmp_path / "file" / "a.ckpt")
    assert caught.value.errno in (errno.EEXIST, errno.ENOTDIR)


def test_what_cannot_be_saved_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises((AttributeError, TypeError, RuntimeError)):  # a function of a function
        WholeCheckpoints().save_checkpoint({"step": lambda: 0}, tmp_path / "a.ckpt")
    assert names(tmp_path) == []


def test_leftovers_of_a_killed_writer_go_with_the_next_write(tmp_path: Path) -> None:
    (tmp_path / ".a.ckpt.123.part").write_bytes(b"half")
    (tmp_path / ".b.ckpt.123.part").write_bytes(b"another file's, being written")
    (tmp_path / ".c.ckpt.123.part").write_bytes(b"another file's, old")
    os.utime(tmp_path / ".c.ckpt.123.part", (1000, 1000))
    WholeCheckpoints().save_checkpoint(state(0), tmp_path / "a.ckpt")
    assert names(tmp_path) == [".b.ckpt.123.part", "a.ckpt"]


@pytest.mark.parametrize("how", ["cut", "empty", "missing", "text"])
def test_a_broken_file_names_the_newest_whole_one(tmp_path: Path, how: str) -> None:
    files = WholeCheckpoints()
    for n in range(3):
        files.save_checkpoint(state(n), tmp_path / f"{n}.ckpt")
        os.utime(tmp_path / f"{n}.ckpt", (1000 + n, 1000 + n))
    broken = tmp_path / "2.ckpt"
    if how == "missing":
        broken.unlink()
    else:
        whole = broken.read_bytes()
        broken.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}[how])
    assert not is_whole(broken)
    assert newest_whole(broken) == tmp_path / "1.ckpt"
    what = "is not there" if how == "missing" else "is cut off or empty"
    with pytest.raises(PosesynError, match=rf"2.ckpt {what}: the newest whole one near it is .*1.ckpt"):
        files.load_checkpoint(broken, weights_only=True)
    for n in range(2):
        (tmp_path / f"{n}.ckpt").unlink()
    with pytest.raises(PosesynError, match="no whole one near it"):
        files.load_checkpoint(broken, weights_only=True)


def test_a_file_in_the_format_of_before_still_loads(tmp_path: Path) -> None:
    torch.save(state(7), tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert WholeCheckpoints().load_checkpoint(tmp_path / "old.ckpt", weights_only=True)["step"] == 7


def test_a_file_that_runs_code_is_refused_as_before(tmp_path: Path) -> None:
    torch.save({"step": Path("x")}, tmp_path / "a.ckpt")  # a class that is not on the list
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        WholeCheckpoints().load_checkpoint(tmp_path / "a.ckpt", weights_only=True)


def trainer(folder: Path, **options: Any) -> L.Trainer:
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    options = {"limit_train_batches": 2, "limit_val_batches": 0, "max_epochs": 4, **options}
    return L.Trainer(default_root_dir=folder, accelerator="cpu", **quiet, **options)


def test_a_strategy_that_writes_plain_files_gets_it_and_a_choice_stays(tmp_path: Path) -> None:
    one = trainer(tmp_path)
    protect_checkpoints(one)
    assert type(one.strategy.checkpoint_io) is WholeCheckpoints

    class Own(TorchCheckpointIO):
        pass

    chosen = trainer(tmp_path, plugins=[Own()])
    protect_checkpoints(chosen)
    assert type(chosen.strategy.checkpoint_io) is Own
    later = trainer(tmp_path, plugins=[AsyncCheckpointIO()])
    protect_checkpoints(later)
    assert type(later.strategy.checkpoint_io) is AsyncCheckpointIO
    assert type(later.strategy.checkpoint_io.checkpoint_io) is WholeCheckpoints


class Full(L.Callback):
    """The disk is full in one epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        limit = 1000 if trainer.current_epoch == self.epoch else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def test_model_checkpoints_survive_an_epoch_without_room(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = ModelCheckpoint(tmp_path / "files", filename="{step}", save_last=True, save_top_k=1, every_n_epochs=1)
    run = trainer(tmp_path, callbacks=[Full(2), files, Interrupt()], plugins=[WholeCheckpoints()], max_epochs=3)
    try:
        run.fit(BoringModel())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert run.global_step == 6
    assert names(tmp_path / "files") == ["last.ckpt", "step=4.ckpt"]
    assert caplog.text.count("could not be written") == 2
    for file in ("last.ckpt", "step=4.ckpt"):
        assert torch.load(tmp_path / "files" / file, weights_only=True)["global_step"] == 4
    again = ModelCheckpoint(tmp_path / "files", filename="{step}", save_last=True, save_top_k=1, every_n_epochs=1)
    more = trainer(tmp_path, callbacks=[again], plugins=[WholeCheckpoints()])
    assert newest_of_run(more) is not None
    more.fit(BoringModel(), ckpt_path=newest_of_run(more), weights_only=True)
    assert torch.load(tmp_path / "files" / "last.ckpt", weights_only=True)["global_step"] == 8


def test_on_slurm_the_state_of_a_stopped_job_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WholeCheckpoints().save_checkpoint(state(1), tmp_path / "checkpoints" / "last.ckpt")
    WholeCheckpoints().save_checkpoint(state(2), tmp_path / "hpc_ckpt_1.ckpt")
    os.utime(tmp_path / "checkpoints" / "last.ckpt", (1000, 1000))
    one = trainer(tmp_path)
    assert newest_of_run(one) == tmp_path / "checkpoints" / "last.ckpt"
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert newest_of_run(one) == tmp_path / "hpc_ckpt_1.ckpt"


def test_no_checkpoint_yet_is_a_beginning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert newest_of_run(trainer(tmp_path)) is None
    assert "starting from the beginning" in caplog.text
