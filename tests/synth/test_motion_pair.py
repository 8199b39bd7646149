"""The file of a motion pair: what is saved comes back; what is damaged or forged is one clear error."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from human.errors import PosesynError
from synth.msm import pair as pair_module
from synth.msm.pair import FILE_NAME, MotionPair
from synth.msm.transformer import TextToMotion, TransformerConfig
from synth.msm.vqvae import MotionVQVAE, VQVAEConfig
from tests.lightning_modules.seeded import seeded_tensor

VQVAE = VQVAEConfig(features=11, codes=24, code_dim=8, width=16)
TRANSFORMER = TransformerConfig(codes=24, text_dim=12, width=32, heads=4, layers=2, block_size=21)


def small_pair() -> MotionPair:
    torch.manual_seed(0)
    vqvae = MotionVQVAE(VQVAE)
    vqvae(seeded_tensor([16, 32, 11], 1))
    transformer = TextToMotion(TRANSFORMER)
    mean, std = seeded_tensor([11], 2), seeded_tensor([11], 3).exp()
    return MotionPair(vqvae.eval(), transformer.eval(), "minilm", mean, std, fps=12.5, layout="kit")


@pytest.fixture
def pair() -> MotionPair:
    return small_pair()


@pytest.fixture
def file(pair: MotionPair, tmp_path: Path) -> Path:
    return pair.save(tmp_path / "pair.safetensors")


def test_what_is_saved_comes_back(pair: MotionPair, tmp_path: Path) -> None:
    file = pair.save(tmp_path / "a" / "b")
    assert file == tmp_path / "a" / "b" / FILE_NAME
    assert [f.name for f in file.parent.iterdir()] == [FILE_NAME]
    for path in (file, file.parent, str(file)):
        again = MotionPair.load(path)
        assert (again.vqvae.config, again.transformer.config) == (VQVAE, TRANSFORMER)
        assert (again.text_encoder, again.fps, again.layout, again.unit_length) == ("minilm", 12.5, "kit", 4)
        assert again.fingerprint() == pair.fingerprint()
    assert not again.vqvae.training
    assert not again.transformer.training
    motion, text = seeded_tensor([3, 30, 11], 4) * pair.std_F + pair.mean_F, seeded_tensor([3, 12], 5)
    codes = pair.encode(motion)
    assert torch.equal(codes, again.encode(motion))
    assert torch.equal(pair.decode(codes), again.decode(codes))
    made = [p.transformer.generate(text, codes, seeds=range(3))[0] for p in (pair, again)]
    assert torch.equal(*made)


def test_features_are_normalised(pair: MotionPair) -> None:
    normal = seeded_tensor([2, 16, 11], 4)
    codes = pair.encode(normal * pair.std_F + pair.mean_F)
    assert torch.equal(codes, pair.vqvae.encode(normal))
    torch.testing.assert_close(pair.decode(codes), pair.vqvae.decode(codes) * pair.std_F + pair.mean_F)
    lengths = torch.tensor([16, 9])
    assert (pair.encode(normal, lengths)[1] >= 0).tolist() == [True, True, False, False]


def test_codes_whatever_the_batch(pair: MotionPair) -> None:
    motion = seeded_tensor([37, 30, 11], 6)
    codes = pair.encode(motion)
    assert codes.shape == (37, 7)
    assert all(torch.equal(pair.encode(motion[i : i + 1])[0], codes[i]) for i in (0, 15, 16, 36))
    assert pair.encode(motion[:0]).shape == (0, 7)


def test_a_loaded_pair_trains_on(file: Path) -> None:
    """What the file leaves out (the quantizer's averages, the table of positions) is as new."""
    pair = MotionPair.load(file)
    assert int(pair.vqvae.quantizer.updates) == 0
    assert torch.equal(pair.vqvae.quantizer.code_sum, pair.vqvae.quantizer.codebook)
    assert torch.equal(pair.transformer.places, TextToMotion(TRANSFORMER).places)
    before = pair.vqvae.quantizer.codebook.clone()
    output = pair.vqvae.train()(seeded_tensor([16, 32, 11], 1))
    output.recon_BTF.mean().backward()
    assert all(p.grad is not None for p in pair.vqvae.decoder.parameters())
    assert pair.vqvae.quantizer.codebook.isfinite().all()
    assert (pair.vqvae.quantizer.codebook - before).abs().max() < 5


def test_half_the_file(pair: MotionPair, file: Path, tmp_path: Path) -> None:
    small = pair.save(tmp_path / "half.safetensors", torch.float16)
    assert small.stat().st_size < 0.6 * file.stat().st_size
    again = MotionPair.load(small)
    assert next(again.transformer.parameters()).dtype == torch.float32
    assert torch.equal(again.mean_F, pair.mean_F)
    codes = torch.tensor([[3, 4]])
    torch.testing.assert_close(again.decode(codes), pair.decode(codes), atol=0.02, rtol=0.02)


def test_fingerprints_differ(pair: MotionPair) -> None:
    known = {pair.fingerprint(), replace(pair, text_encoder="clip-vit-b32").fingerprint()}
    pair.mean_F = pair.mean_F + 1e-3
    known.add(pair.fingerprint())
    with torch.no_grad():
        pair.transformer.head.weight[0, 0] += 1e-3
    assert len(known | {pair.fingerprint()}) == 4


def test_a_failed_save_leaves_the_old_file(pair: MotionPair, file: Path) -> None:
    before = file.read_bytes()
    with torch.no_grad():
        pair.transformer.head.weight[0, 0] = 1e6
    with pytest.raises(PosesynError, match=r"transformer.head.weight is not finite as torch.float16"):
        pair.save(file, torch.float16)
    (file.parent / "in the way").write_text("")
    with pytest.raises(PosesynError, match="in the way"):
        pair.save(file.parent / "in the way" / "x.safetensors")
    assert file.read_bytes() == before
    assert sorted(f.name for f in file.parent.iterdir()) == ["in the way", "pair.safetensors"]


def test_packaged(pair: MotionPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_module, "PACKAGED_WEIGHTS", tmp_path / "weights")
    pair.save(tmp_path / "weights" / "tiny.safetensors")
    pair.save(tmp_path / "outside.safetensors")
    assert MotionPair.load("packaged:tiny").fingerprint() == pair.fingerprint()
    for name in ("huge", "../outside", ""):
        with pytest.raises(PosesynError, match="there: tiny"):
            MotionPair.load(f"packaged:{name}")


def test_parts_that_do_not_belong_together(pair: MotionPair) -> None:
    with pytest.raises(PosesynError, match="24 codes, the transformer 30"):
        replace(pair, transformer=TextToMotion(replace(TRANSFORMER, codes=30)))
    with pytest.raises(PosesynError, match="mean_F must be 11 finite numbers"):
        replace(pair, mean_F=torch.zeros(12))
    with pytest.raises(PosesynError, match="mean_F must be 11 finite"):
        replace(pair, mean_F=torch.full((11,), torch.nan))
    with pytest.raises(PosesynError, match="1 numbers that are not positive"):
        replace(pair, std_F=torch.arange(11.0))


def test_mean_and_deviation_files(tmp_path: Path) -> None:
    pickled = tmp_path / "mean.npy"
    np.save(pickled, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for path in (pickled, tmp_path / "none.npy"):
        with pytest.raises(PosesynError, match=f"std of the motion features cannot be read from {path}"):
            pair_module._array(path, "std")


# -- damaged and forged files ----------------------------------------------------------------------------------------
def contents(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(file, "pt") as opened:
        return {k: opened.get_tensor(k) for k in opened.keys()}, opened.metadata()  # noqa: SIM118


Change = Callable[[dict[str, Tensor], dict[str, str]], Any]


def config(metadata: dict[str, str], *path: str, value: object) -> None:
    """Sets a part of the config."""
    root = json.loads(metadata["config"])
    inner = root
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    metadata["config"] = json.dumps(root)


FORGED: dict[str, tuple[Change, str]] = {
    "another file": (lambda t, m: m.pop("format"), "not a motion pair"),
    "no config": (lambda t, m: m.pop("config"), "config cannot be used"),
    "no JSON": (lambda t, m: m.update(config="{"), "config cannot be used"),
    "a list": (lambda t, m: m.update(config="[1, 2]"), "config cannot be used"),
    "brackets": (lambda t, m: m.update(config="[" * 100_000), "config cannot be used"),
    "unknown size": (lambda t, m: config(m, "vqvae", "more", value=1), "config cannot be used.*more"),
    "wide": (lambda t, m: config(m, "transformer", "width", value=8192), r"shapes \['blocks"),
    "wider": (lambda t, m: config(m, "transformer", "width", value=10**30), "width="),
    "deep": (lambda t, m: config(m, "transformer", "layers", value=200), r"missing \['blocks.10"),
    "text": (lambda t, m: config(m, "transformer", "heads", value="4"), "heads='4'"),
    "null": (lambda t, m: config(m, "vqvae", value=None), "config cannot be used"),
    "fps": (lambda t, m: config(m, "fps", value=float("nan")), "fps=nan"),
    "huge fps": (lambda t, m: config(m, "fps", value=10**400), "config cannot be used"),
    "decay": (lambda t, m: config(m, "vqvae", "decay", value="x"), "config cannot be used"),
    "dilation": (lambda t, m: config(m, "vqvae", "dilation", value=-1), "dilation=-1"),
    "missing": (lambda t, m: t.pop("vqvae.decoder.mix.bias"), r"missing \['decoder.mix.bias'\] \(1\)"),
    "additional": (lambda t, m: t.update({"vqvae.x": torch.ones(1)}), r"unknown \['x'\]"),
    "elsewhere": (lambda t, m: t.update({"x": torch.ones(1)}), "there is more: "),
    "no mean": (lambda t, m: t.pop("mean"), "mean or std is missing"),
    "zero std": (lambda t, m: t.update(std=torch.zeros(11)), "not positive"),
    "NaN": (lambda t, m: t["transformer.head.weight"].fill_(torch.nan), "head.weight holds something else"),
    "integers": (lambda t, m: t.update(mean=torch.ones(11).long()), "mean holds something else"),
    "shape": (lambda t, m: t.update({"transformer.norm.bias": torch.ones(33)}), r"norm.bias \(33,\) != \(32,\)"),
    "mean of another size": (lambda t, m: t.update(mean=torch.ones(12)), "mean_F must be 11"),
}


@pytest.mark.parametrize("kind", list(FORGED))
def test_forged(file: Path, kind: str) -> None:
    tensors, metadata = contents(file)
    change, says = FORGED[kind]
    change(tensors, metadata)
    save_file(tensors, file, metadata)
    with pytest.raises(PosesynError, match=says) as caught:
        MotionPair.load(file)
    assert "pair.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 5, 200, 0.5, 0.999])
def test_cut_short(file: Path, keep: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(keep if keep >= 1 else keep * len(data))])
    with pytest.raises(PosesynError, match=r"pair.safetensors cannot be read .*damaged"):
        MotionPair.load(file)


def test_bytes_of_anything_else(file: Path) -> None:
    for data in (pickle.dumps([1]), b"\xff" * 5000, struct.pack("<Q", 2**62) + b"{}", b"PK\x03\x04" + bytes(100)):
        file.write_bytes(data)
        with pytest.raises(PosesynError, match="cannot be read"):
            MotionPair.load(file)


def test_not_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.safetensors"):
        with pytest.raises(PosesynError, match=f"not found: {tmp_path}"):
            MotionPair.load(path)
