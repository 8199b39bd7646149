"""What of the pool a run draws from: policies, damage, other runs' generations, another miner."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from callbacks import Refresh
from datamodules.pose import PoseDataModule
from human.errors import PosesynError
from synth.pool import Pool
from tests.tiny import STEPS, Recorder, tiny_data, tiny_hmr, tiny_refresh, tiny_trainer

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 3
POLICY = [{"name": "cap", "options": {"samples": 2}}, {"name": "hardest", "options": {"samples": 5}}]


@dataclass
class Run:
    folder: Path
    data: PoseDataModule
    refresh: Refresh
    seen: Recorder
    weights: dict[str, torch.Tensor]

    @property
    def pooled(self) -> list[tuple[int, int, int, float]]:
        """(epoch, generation, row, weight) of each sample that came from the pool."""
        return [
            (epoch, generation, row, weight)
            for epoch, batch in self.seen.batches
            for (source, generation, row, _), weight in zip(batch.key.tolist(), batch.weight.tolist(), strict=True)
            if source == 1
        ]


def run(data: Path, folder: Path, *more: Callback, resume: Path | None = None, **options: Any) -> Run:
    epochs, module = options.pop("epochs", EPOCHS), tiny_data(data, folder, **options.pop("module", {}))
    refresh, recorder, model = tiny_refresh(**options), Recorder(), tiny_hmr()
    trainer = tiny_trainer(folder, refresh, recorder, *more, epochs=epochs, num_sanity_val_steps=0)
    trainer.fit(model, datamodule=module, ckpt_path=resume, weights_only=True)
    return Run(folder, module, refresh, recorder, {k: v.clone() for k, v in model.state_dict().items()})


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(data, tmp_path_factory.mktemp("whole"), pool_policy=POLICY)


# -- policies --------------------------------------------------------------------------------------------------------
def test_the_mixture_is_what_the_policies_leave(whole: Run) -> None:
    recipe = whole.data.recipe
    rows = {g: recipe.rows_of(g).tolist() for g, _ in recipe.generations}
    assert sum(map(len, rows.values())) == 5
    assert whole.refresh.mixture.entered == {0: 6, 1: 6, 2: 6}
    last = [(g, r) for e, g, r, _ in whole.pooled if e == EPOCHS - 1]
    assert last
    assert set(last) <= {(g, r) for g, chosen in rows.items() for r in chosen}
    for entry in whole.refresh.history:
        assert entry["policy"]["kept"] == 5
        assert entry["stages"]["policy"] <= entry["seconds"]
        assert entry["policy"]["err3d_mean"] > 0
    first, _, third = (entry["policy"] for entry in whole.refresh.history)
    assert (first["candidates"], first["scored"], first["removed/1/cap"]) == (6, 6, 0)
    assert (third["candidates"], third["removed/2/hardest"]) == (18, third["scored"] - 5)
    json.dumps(whole.refresh.history, allow_nan=False)


@pytest.mark.parametrize("name", [f"steps/{2 * STEPS}.ckpt", f"steps/{STEPS + 2}.ckpt"])
def test_a_resumed_run_chooses_the_same(data: Path, whole: Run, tmp_path: Path, name: str) -> None:
    part = run(
        data,
        tmp_path,
        resume=whole.folder / name,
        pool_policy=POLICY,
        module={"pool": str(whole.folder / "pool")},
    )
    assert part.data.recipe == whole.data.recipe
    assert part.seen.batches
    for (_, batch), (_, wanted) in zip(part.seen.batches, whole.seen.batches[-len(part.seen.batches) :], strict=True):
        assert torch.equal(batch.key, wanted.key)
        assert torch.equal(batch.image, wanted.image)
    for name, value in whole.weights.items():
        assert torch.equal(part.weights[name], value), name
    kept = [e["policy"]["kept"] for e in part.refresh.history]
    assert kept == [e["policy"]["kept"] for e in whole.refresh.history]


def test_when_everything_is_learned_the_others_share_the_batches(data: Path, tmp_path: Path) -> None:
    done = run(data, tmp_path, epochs=1, pool_policy=[{"name": "retire", "options": {"below": 1e6}}])
    assert done.refresh.history[0]["policy"]["kept"] == 0
    assert done.data.recipe.generations == ()
    assert not done.pooled


@pytest.mark.parametrize(
    "wrong", [{"pool_policy": ["newest"]}, {"rescored": 0}, {"pool_policy": [{"name": "cap", "options": {"k": 3}}]}]
)
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(PosesynError, match=r"newest|rescored|'k'"):
        tiny_refresh(**wrong)


# -- damage ----------------------------------------------------------------------------------------------------------
class Damage(Callback):
    """Deletes the file of a generation within an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == self.epoch:
            files = (trainer.datamodule.pool_path / "data").iterdir()  # type: ignore[attr-defined]
            newest = max(files, key=lambda path: path.stat().st_mtime_ns)
            newest.unlink()


@pytest.mark.parametrize("policy", [None, POLICY])
def test_a_damaged_generation_leaves_the_mixture(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, policy: Any
) -> None:
    sources = tiny_data(data, tmp_path).sources
    sources[1].weight = 1.0  # the pool: half of the batches and more
    done = run(data, tmp_path, Damage(1), pool_policy=policy, module={"sources": sources})
    assert len(done.seen.batches) == EPOCHS * STEPS
    lost = [(e, g) for e, g, _, weight in done.pooled if weight == 0]
    assert set(lost) == {(1, 1)}
    assert caplog.text.count("samples of generation 1 of the pool cannot be read, they are skipped") == 1
    assert "of generation 1 of the pool cannot be read: they leave the mixture" in caplog.text
    assert done.refresh.mixture.skipped == {1: len(lost)}
    assert 1 not in {g for e, g, _, _ in done.pooled if e == 2}
    assert {g for e, g, _, _ in done.pooled if e == 2} <= {0, 2}
    assert all(np.isfinite(v.numpy()).all() for v in done.weights.values() if v.is_floating_point())
    state = torch.load(tmp_path / "epochs" / "1.ckpt", weights_only=True)
    saved = next(v for k, v in state["callbacks"].items() if k.startswith("Refresh"))
    assert saved["skipped"] == [[1, len(lost)]]


# -- several runs ----------------------------------------------------------------------------------------------------
def test_another_run_s_generations_are_not_ours_unless_named(data: Path, whole: Run, tmp_path: Path) -> None:
    """The same weights and seeds, and another filter: nothing of it is taken for what this run would make."""
    shutil.copytree(whole.folder / "pool", tmp_path / "pool")
    own = run(data, tmp_path / "own", epochs=1, module={"pool": str(tmp_path / "pool")})
    assert {g for _, g, _, _ in own.pooled} == {3}
    named = run(data, tmp_path / "named", epochs=1, also=[0, 2], keep=9, module={"pool": str(tmp_path / "pool")})
    assert [g for g, _ in named.data.recipe.generations] == [0, 2, 4]
    assert {g for _, g, _, _ in named.pooled} <= {0, 2, 4}
    with pytest.raises(PosesynError, match=r"refresh.also names generation 77, the pool .* has \[0, 1"):
        run(data, tmp_path / "wrong", epochs=1, also=[77], module={"pool": str(tmp_path / "pool")})


TWO = """
import sys
from pathlib import Path
import torch
from tests.callbacks.test_mixture_choice import run
torch.set_num_threads(1)
data, folder, pool = map(Path, sys.argv[1:])
done = run(data, folder, epochs=2, module={"pool": str(pool)})
print(sorted({g for _, g, _, _ in done.pooled}), [e["generation"] for e in done.refresh.history])
"""


@pytest.mark.slow
def test_two_processes_share_one_pool(data: Path, tmp_path: Path) -> None:
    """Both want the same numbers; each gets its own, and draws from its own only."""
    both = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, str(data), str(tmp_path / name), str(tmp_path / "pool")],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    made: list[set[int]] = []
    for process in both:
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert "failed" not in errors, errors
        drawn, committed = (json.loads(part) for part in out.strip().splitlines()[-1].replace("] [", "]|[").split("|"))
        assert set(drawn) <= set(committed)
        made.append(set(committed))
    assert made[0] | made[1] == {0, 1, 2, 3}
    assert not made[0] & made[1]
    infos = Pool(tmp_path / "pool").generations()
    assert [i.generation for i in infos] == [0, 1, 2, 3]
    assert len({i.synthesiser for i in infos}) == 2  # which tells the runs apart
    assert not list((tmp_path / "pool").glob(".writing-*"))


# -- another miner ---------------------------------------------------------------------------------------------------
def test_another_estimator_is_mined(data: Path, whole: Run, tmp_path: Path) -> None:
    other = tiny_hmr(checkpoint=str(whole.folder / "epochs" / "2.ckpt"))
    done = run(data, tmp_path, miner=other, epochs=2)
    first, second = done.refresh.history
    assert first["challenge_error"] == second["challenge_error"]  # it does not learn
    eem, mined = done.refresh.eem, done.data.mining_data
    worst = np.sort(eem.score(other, mined, eem.eligible(mined))[0])[::-1][: eem.challenges]
    assert first["challenge_error"] == pytest.approx(float(worst.mean()), rel=1e-5)
    assert done.pooled
    saved = torch.load(tmp_path / "epochs" / "1.ckpt", weights_only=True)["state_dict"]
    assert not any("miner" in key for key in saved)
