"""Sources whose weights follow validation errors: bounded, finite, and the same after a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks import SourceWeights
from callbacks.source_weights import next_factors
from datamodules.pose import PoseDataModule, ReaderConfig
from datamodules.recipe import Recipe, as_schedule
from datamodules.sources import RealSource, RenderedSource
from human.errors import PosesynError
from tests.tiny import CHEAP, STEPS, Recorder, tiny_data, tiny_hmr, tiny_trainer, write_data, write_lspet

NAN = float("nan")


def moved(errors: list[float], before: list[float] | None = None, **options: float) -> list[float]:
    settings = {"alpha": 1.0, "low": 0.5, "high": 2.0, "smoothing": 0.0, **options}
    old = np.array(before or [1.0] * len(errors))
    return next_factors(old, np.array(errors), **settings).tolist()


def test_factors_are_the_errors_relative_to_their_mean() -> None:
    assert moved([30, 60, 90]) == [0.5, 1, 1.5]
    assert moved([30, 60, 90], alpha=0.5) == pytest.approx([0.5**0.5, 1, 1.5**0.5])
    assert moved([30, 60, 90], alpha=0) == [1, 1, 1]
    assert moved([30, 60, 90], alpha=-1, low=0.1) == pytest.approx([2, 1, 1 / 1.5])
    assert moved([1, 1, 1, 97]) == [0.5, 0.5, 0.5, 2]
    assert moved([30, 60, 90], smoothing=0.75) == pytest.approx([0.875, 1, 1.125])


def test_what_has_no_error_stays() -> None:
    assert moved([30, NAN, 90], [1.5, 0.7, 1]) == [0.5, 0.7, 1.5]
    assert moved([NAN, float("inf"), -3], [1.5, 0.7, 1]) == [1.5, 0.7, 1]
    assert moved([0, 0], [1.5, 0.7]) == [1.5, 0.7]
    assert moved([0, 10]) == [0.5, 2]


numbers = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.floats(0, 500))


@given(
    st.lists(st.tuples(numbers, st.floats(0.25, 4), st.floats(0.01, 5)), min_size=1, max_size=6),
    st.floats(-4, 4),
    st.floats(0, 0.99),
)
def test_factors_and_shares_stay_in_bounds(given: list[tuple[float, float, float]], alpha: float, s: float) -> None:
    errors, before, weights = (np.array(column) for column in zip(*given, strict=True))
    factors = next_factors(before, errors, alpha, 0.25, 4.0, s)
    assert np.isfinite(factors).all()
    assert (factors >= 0.25 - 1e-9).all()
    assert (factors <= 4 + 1e-9).all()
    unknown = ~np.isfinite(errors)
    assert (factors[unknown] == before[unknown]).all()
    recipe = Recipe(0, tuple(as_schedule(float(w)) for w in weights), (0,) * len(weights)).with_factors(factors)
    shares = recipe.weights(3)
    assert shares.sum() == pytest.approx(1)
    assert (shares > 0).all()
    assert np.isfinite(shares).all()


@pytest.mark.parametrize(
    "wrong",
    [{"follow": {}}, {"measure": "mpjp"}, {"low": 1.5}, {"high": 0.5}, {"low": 0}, {"smoothing": 1.0}, {"alpha": NAN}],
)
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(PosesynError, match="SourceWeights"):
        SourceWeights(**{"follow": {"real": "val"}, **wrong})


# -- a run -----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def data(own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_data(tmp_path_factory.mktemp("lspet"))
    write_lspet(folder / "other", range(200, 203))
    return folder


def run(data: Path, folder: Path, resume: Path | None = None, **follow: str) -> tuple[PoseDataModule, Recorder]:
    recorder = Recorder()
    rule = SourceWeights(follow or {"real": "val", "rendered": "other"}, measure="pck_box", smoothing=0.3)
    sources = [
        RealSource("lspet", {"root": str(data / "train")}, name="real", weight=0.5),
        RenderedSource(weight=0.5, backgrounds="procedural", options=CHEAP),
    ]
    sets = [ReaderConfig("lspet", {"root": str(data / name)}, name) for name in ("val", "other")]
    module = tiny_data(data, folder, sources=sources, mine=[], validate=sets)
    trainer = tiny_trainer(folder, rule, recorder, epochs=3)
    trainer.fit(tiny_hmr(), datamodule=module, ckpt_path=resume, weights_only=True)
    return module, recorder


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PoseDataModule, Recorder]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, *run(data, folder)


def test_weights_follow_the_sets(whole: tuple[Path, PoseDataModule, Recorder]) -> None:
    factors = whole[1].recipe.factors
    assert len(factors) == 2
    assert all(0.5 <= f <= 2 and f != 1 for f in factors)
    assert factors[0] < 1 < factors[1] or factors[1] < 1 < factors[0]


@pytest.mark.parametrize("name", [f"steps/{2 * STEPS}.ckpt", f"steps/{STEPS + 1}.ckpt", "epochs/0.ckpt"])
def test_a_resumed_run_has_the_same_weights(
    data: Path, whole: tuple[Path, PoseDataModule, Recorder], tmp_path: Path, name: str
) -> None:
    """Also from a checkpoint of an epoch's last step, before its validation."""
    folder, module, recorder = whole
    resumed, rest = run(data, tmp_path, resume=folder / name)
    assert resumed.recipe == module.recipe
    assert rest.batches
    for (_, batch), (_, wanted) in zip(rest.batches, recorder.batches[-len(rest.batches) :], strict=True):
        assert batch.key.tolist() == wanted.key.tolist()


@pytest.mark.parametrize(
    ("follow", "said"), [({"real": "vall"}, "validation set .*vall.*val, other"), ({"reel": "val"}, "source .*reel")]
)
def test_what_is_not_there_is_one_clear_error(data: Path, tmp_path: Path, follow: dict[str, str], said: str) -> None:
    with pytest.raises(PosesynError, match=said):
        run(data, tmp_path, **follow)
