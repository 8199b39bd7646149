"""Two CPU ranks, with whole weights (ddp) and with shards of them (fsdp2), do what one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import torch

from callbacks import EMA
from human.errors import PosesynError
from lightning_modules import ESTIMATORS, DomainConfusion
from tests.lightning_modules.strategies import BATCH, STEPS, Parts
from tests.lightning_modules.tiny_estimators import make
from tests.tiny import rendered_people


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strategies")
    torch.save(rendered_people(range(STEPS * BATCH)).as_dict(), folder / "people.pt")
    return folder


def train(strategy: str, ranks: int, folder: Path, *names: str) -> None:
    (folder / strategy).mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.lightning_modules.strategies", strategy, str(ranks), str(folder), *names]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]


def assert_as_alone(name: str, strategy: str, folder: Path) -> None:
    start = {k: v.clone() for k, v in make(name).trained_state().items()}
    alone, together = (
        torch.load(folder / s / f"{name}.ckpt", weights_only=True)["state_dict"] for s in ("auto", strategy)
    )
    assert alone.keys() == together.keys()
    moved = 0.0
    for key in start:
        moved = max(moved, (alone[key].float() - start[key].float()).abs().max().item())
        torch.testing.assert_close(together[key], alone[key], rtol=1e-3, atol=1e-4, msg=lambda m, k=key: f"{k}: {m}")
    assert moved > 1e-3  # else nothing was compared
    fresh = make(name)
    fresh.load_weights(folder / strategy / f"{name}.ckpt")
    said = torch.load(folder / strategy / f"{name}.pt", weights_only=True)
    assert fresh.weights_hash() == said["hash"]  # of whole weights, on one rank alone
    ours = torch.load(folder / "auto" / f"{name}.pt", weights_only=True)
    torch.testing.assert_close(said["joints3d"], ours["joints3d"], rtol=0, atol=1e-3)


def test_shards_do_what_one_rank_does(folder: Path) -> None:
    train("auto", 1, folder, "hmr")
    train("fsdp2", 2, folder, "hmr")
    assert_as_alone("hmr", "fsdp2", folder)


@pytest.mark.slow
def test_every_estimator_on_two_ranks(folder: Path) -> None:
    names = ESTIMATORS.names()
    train("auto", 1, folder, *names)
    for strategy in ("ddp", "fsdp2"):
        train(strategy, 2, folder, *names)
        for name in names:
            assert_as_alone(name, strategy, folder)


@pytest.mark.parametrize(
    ("strategy", "callbacks", "domain", "says"),
    [
        ("fsdp2", [EMA()], None, "remove EMA"),
        ("fsdp2", [], DomainConfusion(), "domain adaptation"),
        ("fsdp", [], None, "say fsdp2"),
    ],
)
def test_what_does_not_go_with_shards(
    folder: Path, strategy: str, callbacks: list[L.Callback], domain: DomainConfusion | None, says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from lightning.pytorch.strategies import FSDPStrategy

    class OnCPU(FSDPStrategy):  # Lightning wants a GPU for it, by its exact class
        pass

    trainer = L.Trainer(
        accelerator="cpu", devices=1, strategy=OnCPU() if strategy == "fsdp" else strategy, callbacks=callbacks,
        max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    model = make("hmr", domain=domain)
    monkeypatch.setattr(Parts, "synthetic_sources", [True, False], raising=False)
    people = rendered_people(range(STEPS * BATCH))
    try:
        with pytest.raises(PosesynError, match=says):
            trainer.fit(model, datamodule=Parts(people))
    finally:
        torch.distributed.destroy_process_group()
