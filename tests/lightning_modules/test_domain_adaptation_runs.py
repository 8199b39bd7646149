"""Domain adaptation in whole runs at tiny size: what each step moves, resuming, two ranks, unusable mixtures."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from datamodules.sources import RealSource, RenderedSource
from human.batch import PoseBatch
from human.errors import PosesynError
from lightning_modules import HMR, DomainConfusion, GradientReversal
from lightning_modules.domain_adaptation import DomainAdaptation
from tests.lightning_modules.domains import STRATEGIES, two_domains
from tests.tiny import CHEAP, tiny_data, tiny_hmr, tiny_trainer, write_data


@pytest.fixture(scope="module")
def both() -> PoseBatch:
    return two_domains()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSESYN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield write_data(tmp_path_factory.mktemp("lspet"))


def guided(data: Path) -> list[Any]:
    """Labels from rendered people alone; the pictures on disk guide."""
    return [
        RealSource("lspet", {"root": str(data / "train")}, name="guidance", weight=0.5, labels=False),
        RenderedSource(weight=0.5, backgrounds="procedural", options=CHEAP),
    ]


class Moves(Callback):
    """Which weights each step moved, and whether every one of them did."""

    def __init__(self) -> None:
        self.moved: list[tuple[bool, bool]] = []
        self.before: dict[str, Tensor] = {}

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.before = {n: p.detach().clone() for n, p in pl_module.named_parameters()}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        def any_moved(mixer: bool) -> bool:
            names = [n for n in self.before if n.startswith("domain.") == mixer]
            return any(not torch.equal(self.before[n], pl_module.get_parameter(n)) for n in names)

        self.moved.append((any_moved(True), any_moved(False)))


def fit(data: Path, run: Path, domain: DomainAdaptation | None, *more: Callback, **options: Any) -> tuple[HMR, Any]:
    resume, sources = options.pop("resume", None), options.pop("sources", None) or guided(data)
    trainer = tiny_trainer(run, *more, **{"num_sanity_val_steps": 0, **options})
    trainer.callbacks = [c for c in trainer.callbacks if type(c).__name__ != "Gallery"]  # there is no refresh to show
    model = tiny_hmr(domain=domain)
    trainer.fit(model, datamodule=tiny_data(data, run, sources=sources, mine=[]), ckpt_path=resume, weights_only=True)
    return model, trainer


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_a_run_and_its_resumption(data: Path, tmp_path: Path, name: str) -> None:
    moves = Moves()
    whole, trainer = fit(data, tmp_path / "whole", STRATEGIES[name](), moves)
    wanted = [(True, False), (False, True)] * 4 if name == "alternating" else [(True, True)] * 8
    assert moves.moved == wanted
    assert 0 <= trainer.callback_metrics["domain/accuracy"] <= 1
    assert trainer.callback_metrics["domain/confusion"] >= 0
    # Within an epoch (the next step is of stage 2) and at the end of one.
    for step in (3, 4) if name == "alternating" else (3,):
        part, _ = fit(data, tmp_path / f"from{step}", STRATEGIES[name](), resume=tmp_path / f"whole/steps/{step}.ckpt")
        for key, value in whole.state_dict().items():
            assert torch.equal(part.state_dict()[key], value), key


def test_accumulated_batches_are_of_one_stage(data: Path, tmp_path: Path) -> None:
    moves = Moves()
    fit(data, tmp_path, DomainConfusion(period=1), moves, accumulate_grad_batches=2, epochs=1)
    assert moves.moved == [(False, False), (True, False), (False, False), (False, True)]


def test_the_mixer_is_no_part_of_what_predicts(data: Path, tmp_path: Path, both: PoseBatch) -> None:
    model, _ = fit(data, tmp_path, DomainConfusion(period=0), epochs=1)
    assert any(k.startswith("domain.mixer.") for k in model.state_dict())
    assert not any(k.startswith("domain.") for k in model.trained_state())
    said, name = model.eval().predict(both), model.weights_hash()
    with torch.no_grad():
        for p in model.domain.parameters():
            p.fill_(torch.nan)
    assert model.weights_hash() == name
    assert torch.equal(model.predict(both).joints3d, said.joints3d)
    # Weights go from an adapted estimator to one that is not, and back.
    saved = torch.load(tmp_path / "epochs" / "0.ckpt", weights_only=True)
    assert saved["PoseDataModule"]["synthetic"] == [False, True]
    plain = tiny_hmr(checkpoint=str(tmp_path / "epochs" / "0.ckpt"))
    torch.save({"state_dict": plain.state_dict()}, tmp_path / "plain.ckpt")
    again = tiny_hmr(checkpoint=str(tmp_path / "plain.ckpt"), domain=GradientReversal())
    assert again.weights_hash() == plain.weights_hash()


def test_it_starts_from_the_same_weights_as_without() -> None:
    assert tiny_hmr(domain=DomainConfusion()).weights_hash() == tiny_hmr().weights_hash()


@pytest.mark.slow
@pytest.mark.parametrize("period", [0, 1])
def test_two_ranks(data: Path, tmp_path: Path, period: int) -> None:
    """No weight is waited for in vain, in either stage, and the ranks stay alike."""
    command = [sys.executable, "-m", "tests.two_ranks", str(data), str(tmp_path), str(period)]
    subprocess.run(command, check=True, timeout=300)
    first, second = (torch.load(tmp_path / f"rank_{r}.pt", weights_only=True) for r in (0, 1))
    start = tiny_hmr(domain=DomainConfusion())
    for part, old in (("weights", start.trained_state()), ("mixer", start.domain.state_dict())):
        for name, value in first[part].items():
            if "running_" not in name:  # batch statistics are each rank's own
                assert torch.equal(value, second[part][name]), name
        assert any(not torch.equal(value, old[name]) for name, value in first[part].items())


def test_both_domains_must_be_named(data: Path, tmp_path: Path) -> None:
    real, rendered = guided(data)
    with pytest.raises(PosesynError, match="all real: add one"):
        fit(data, tmp_path, DomainConfusion(), sources=[real])
    with pytest.raises(PosesynError, match=r"all synthetic.*labels: false"):
        fit(data, tmp_path, DomainConfusion(), sources=[rendered])
    with pytest.raises(PosesynError, match="synthetic_sources"):
        tiny_hmr(domain=DomainConfusion()).tell_domain(None)


def test_domains_cannot_change_when_resuming(data: Path, tmp_path: Path) -> None:
    fit(data, tmp_path, DomainConfusion(), epochs=1)
    sources = guided(data)
    sources[0].synthetic, sources[1].synthetic = True, False
    with pytest.raises(PosesynError, match=r"synthetic.*\[False, True\], now it is \[True, False\]"):
        fit(data, tmp_path, DomainConfusion(), sources=sources, resume=tmp_path / "steps" / "2.ckpt")
