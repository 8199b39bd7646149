"""Two CPU ranks: one refreshes, both train on their halves of the global batches that one rank would see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from synth.pool import Pool
from tests.tiny import Recorder, tiny_data, tiny_hmr, tiny_refresh, tiny_trainer, write_data


def test_two_ranks_share_batches_weights_and_one_pool(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    two, one = tmp_path / "two", tmp_path / "one"
    two.mkdir()
    subprocess.run([sys.executable, "-m", "tests.two_ranks", str(data), str(two)], check=True, timeout=300)
    first, second = (torch.load(two / f"rank_{r}.pt", weights_only=True) for r in (0, 1))
    assert [g.generation for g in Pool(two / "pool").generations()] == [0, 1]
    for name, value in first["weights"].items():
        if "running_" not in name:  # batch statistics are each rank's own
            assert torch.equal(value, second["weights"][name]), name

    # The first epoch's generation is made by the same weights, so its keys are those of a run on one rank.
    recorder = Recorder()
    tiny_trainer(one, tiny_refresh(), recorder, epochs=1, num_sanity_val_steps=0).fit(
        tiny_hmr(), datamodule=tiny_data(data, one)
    )
    alone = torch.stack([b.key for _, b in recorder.batches])
    together = torch.stack([first["keys"], second["keys"]], 2).flatten(1, 2)
    assert torch.equal(together[: len(alone)], alone)
