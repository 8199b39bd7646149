"""Steps that would spoil the weights: one NaN picture, gradients that explode, and too many of either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from callbacks import Guard
from human.errors import PosesynError
from tests.tiny import tiny_data, tiny_hmr, tiny_refresh, tiny_trainer


class Spoil(Callback):
    """From step ``start`` on ``count`` batches have gradients times ``factor``, NaN among them where it is NaN: by a
    hook on the network's last features, so that everything behind it is real.
    """

    def __init__(self, start: int, count: int, factor: float) -> None:
        self.steps, self.factor = range(start, start + count), factor
        self.weights: dict[int, dict[str, torch.Tensor]] = {}
        self._on = False

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        def spoil(module: torch.nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            return output * self.factor if self._on else output

        first = next(m for m in pl_module.modules() if isinstance(m, torch.nn.Conv2d))
        first.register_forward_hook(spoil)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._on = trainer.fit_loop.total_batch_idx in self.steps
        self.weights[trainer.fit_loop.total_batch_idx] = {k: v.clone() for k, v in pl_module.state_dict().items()}

    def on_train_batch_end(self, *args: Any) -> None:
        self._on = False


def fit(data: Path, run: Path, guard: Guard, spoil: Spoil, **changes: Any) -> Any:
    trainer = tiny_trainer(run, tiny_refresh(), guard, spoil, epochs=2)
    model = tiny_hmr(**changes)
    module = tiny_data(data, run)
    trainer.fit(model, datamodule=module)
    return model, module


def test_a_bad_step_leaves_nothing_behind(lspet_parts: Path, tmp_path: Path) -> None:
    guard, spoil = Guard(), Spoil(2, 1, float("nan"))
    model, data = fit(lspet_parts, tmp_path, guard, spoil)
    assert (guard.skipped, guard.in_a_row) == (1, 0)
    before, after = spoil.weights[2], spoil.weights[3]
    assert any("running_mean" in name for name in before)
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
    assert any(not torch.equal(value, spoil.weights[4][name]) for name, value in after.items())
    assert all(bool(v.isfinite().all()) for v in model.state_dict().values() if v.is_floating_point())
    (line,) = (data.run_dir / "guard.jsonl").read_text().splitlines()
    told = json.loads(line)
    assert (told["step"], told["norm"]) == (2, "nan")
    assert len(told["keys"]) == 6
    assert all(len(key) == 4 for key in told["keys"])


def test_exploding_gradients_are_skipped(lspet_parts: Path, tmp_path: Path) -> None:
    guard, spoil = Guard(explode=1.0001, window=2, most=5), Spoil(0, 0, 1.0)
    fit(lspet_parts, tmp_path, guard, spoil)
    assert guard.skipped > 0  # every norm above the median of the last two counts here


def test_too_many_end_the_run_and_name_the_samples(lspet_parts: Path, tmp_path: Path) -> None:
    guard, spoil = Guard(most=2), Spoil(1, 9, float("nan"))
    with pytest.raises(
        PosesynError, match=r"2 bad steps in a row, 2 in all.*\(source, generation, index, seed\): \[\["
    ):
        fit(lspet_parts, tmp_path, guard, spoil)


def test_what_was_counted_is_kept_in_the_checkpoint() -> None:
    guard = Guard(window=3)
    guard.load_state_dict({"skipped": 4, "in_a_row": 1, "norms": [1.0, 2.0, 3.0, 4.0]})
    assert guard.state_dict() == {"skipped": 4, "in_a_row": 1, "norms": [2.0, 3.0, 4.0]}
    json.dumps(guard.state_dict())


@pytest.mark.parametrize("wrong", [{"explode": 1.0}, {"window": 1}, {"most": 0}, {"most_in_all": 0}])
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(PosesynError, match="the guard needs"):
        Guard(**wrong)
