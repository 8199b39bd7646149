"""The fine-tuning comparison: kept samples are the source's, finished estimators are taken over, others are not."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.finetune import SIZES, KeptRendered, Plan, run, sources_of, table
from datamodules.sources import RenderedSource
from human.batch import PoseBatch
from lightning_modules import ESTIMATORS


def test_every_estimator_has_a_size() -> None:
    assert set(SIZES) == set(ESTIMATORS.names())


def test_kept_samples_are_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeptRendered, "kept", {})
    options = {"backgrounds": "procedural", "options": {"supersample": 1}, "limit": 3}
    kept, plain = KeptRendered(**options), RenderedSource(**options)
    for source in (kept, plain):
        source.prepare(32, tmp_path)
    keys = np.array([[0, 0, k, 7] for k in (2, 0, 2)])
    first, again, expected = kept.fetch(keys), kept.fetch(keys[::-1]), plain.fetch(keys)
    assert isinstance(first, PoseBatch)
    assert isinstance(again, PoseBatch)
    assert isinstance(expected, PoseBatch)
    assert len(KeptRendered.kept) == 2
    assert torch.equal(first.image, expected.image)
    assert torch.equal(first.joints3d, expected.joints3d)
    assert torch.equal(again.image, expected.image.flip(0))


def test_the_mixture_is_the_quickstarts() -> None:
    sources = sources_of(Plan(), real=True)
    assert {s.name: round(float(s.weight), 6) for s in sources} == {"real3d": 0.25, "real2d": 0.15, "rendered": 0.6}  # type: ignore[arg-type]
    assert [s.name for s in sources_of(Plan(), real=False)] == ["rendered"]


def test_what_is_finished_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(pretrain_steps=1, finetune_steps=1)
    figures = {"pose2sim": {"mpjpe": 412.34, "pa_mpjpe": 200.0, "pck_torso": 0.1234}}
    line = {"estimator": "hmr", "million_parameters": 4.69, "before": figures, "after": figures, **asdict(plan)}
    (tmp_path / "hmr.json").write_text(json.dumps(line))
    wanted = {"plan": asdict(plan), "size": repr(SIZES["hmr"])}
    (tmp_path / "hmr.plan").write_text(json.dumps(wanted, sort_keys=True))
    assert run("hmr", plan, tmp_path) == line
    text = table([line])
    assert "| hmr | 4.69 | 412.3 → 412.3 | 200.0 → 200.0 | 0.123 → 0.123 |" in text
    assert "LSPET" not in text

    def trained(*_: object) -> float:
        raise InterruptedError

    monkeypatch.setattr("benchmarks.finetune.train", trained)
    monkeypatch.setattr("benchmarks.finetune.make", lambda *_, **__: None)
    with pytest.raises(InterruptedError):
        run("hmr", replace(plan, seed=1), tmp_path)
    assert not (tmp_path / "hmr.json").exists()
