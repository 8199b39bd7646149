"""A motion VQ-VAE and a text-to-motion transformer that were trained for each other, with what belongs to them.

One ``.safetensors`` file: weights, mean and deviation of the features, and sizes and names as JSON in its metadata.
Nothing is pickled, and a file is checked before any memory is taken for the sizes it claims.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from human.checkpoints import check_state, packaged_file
from human.errors import PosesynError
from synth.msm.official import AVERAGES, load_official_transformer, load_official_vqvae
from synth.msm.sampling import row_groups
from synth.msm.transformer import TextToMotion, TransformerConfig, sinusoids
from synth.msm.vqvae import MotionVQVAE, VQVAEConfig

PACKAGED_WEIGHTS = Path(__file__).parent / "weights"
FILE_NAME = "motion_pair.safetensors"
_FORMAT = "posesyn motion pair 1"
_ADVICE = "Was the file changed after it was saved?"


@dataclasses.dataclass
class MotionPair:
    """What turns a text and a motion into a motion.

    Attributes:
        text_encoder: name of the encoder whose embeddings the transformer was trained with.
        mean_F, std_F: float32, of the motion features.
        fps: frames per second of the features.
        layout: "humanml3d" or "kit".
    """

    vqvae: MotionVQVAE
    transformer: TextToMotion
    text_encoder: str
    mean_F: Tensor
    std_F: Tensor
    fps: float = 20.0
    layout: str = "humanml3d"

    def __post_init__(self) -> None:
        features = self.vqvae.config.features
        for name in ("mean_F", "std_F"):
            value = torch.as_tensor(getattr(self, name), dtype=torch.float32)
            if value.shape != (features,) or not bool(value.isfinite().all()):
                raise PosesynError(f"motion pair: {name} must be {features} finite numbers, is {tuple(value.shape)}")
            setattr(self, name, value)
        if not bool((self.std_F > 0).all()):
            raise PosesynError(f"motion pair: std_F has {int((self.std_F <= 0).sum())} numbers that are not positive")
        if self.vqvae.config.codes != self.transformer.config.codes:
            raise PosesynError(
                f"motion pair: the VQ-VAE has {self.vqvae.config.codes} codes, the transformer "
                f"{self.transformer.config.codes}: they were not trained for each other"
            )

    @property
    def unit_length(self) -> int:
        """Frames per code."""
        return self.vqvae.config.unit_length

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> MotionPair:
        """Moves both networks; returns itself. ``dtype``: of their weights, such as bfloat16."""
        self.vqvae.to(device=device, dtype=dtype)
        self.transformer.to(device=device, dtype=dtype)
        self.mean_F, self.std_F = self.mean_F.to(device), self.std_F.to(device)
        return self

    @torch.no_grad()
    def encode(self, features_BTF: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        """(B, T // unit_length) codes of motion features that are not normalised; see ``MotionVQVAE.encode``.

        Among motions as long, a motion's codes are the same whatever batch it is in.
        """
        x_BTF = (features_BTF.to(self.mean_F) - self.mean_F) / self.std_F
        codes = [self.vqvae.encode(x_BTF[:0], lengths_B[:0] if lengths_B is not None else None)]
        for some, count in row_groups(torch.arange(len(x_BTF), device=x_BTF.device)):
            lengths = lengths_B[some] if lengths_B is not None else None
            codes.append(self.vqvae.encode(x_BTF[some], lengths)[:count])
        return torch.cat(codes)

    @torch.no_grad()
    def decode(self, codes_BS: Tensor) -> Tensor:
        """(B, S * unit_length, F) float32 motion features, not normalised; behind a row's end they mean nothing."""
        return self.vqvae.decode(codes_BS).float() * self.std_F + self.mean_F

    def fingerprint(self) -> str:
        """Hex digest of everything that decides what the pair makes."""
        digest = hashlib.blake2b(json.dumps(self._config(), sort_keys=True).encode(), digest_size=16)
        for name, value in sorted(self._tensors().items()):
            digest.update(name.encode())
            digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    # -- files -------------------------------------------------------------------------------------------------------
    def save(self, path: str | Path, dtype: torch.dtype = torch.float32) -> Path:
        """Write a ``.safetensors`` file, or :data:`FILE_NAME` in a folder; whole or not at all.

        Args:
            dtype: of the stored weights: float16 halves the file. Mean and deviation stay float32.
        """
        path = Path(path)
        if path.suffix != ".safetensors":
            path = path / FILE_NAME
        tensors = {}
        for name, value in self._tensors().items():
            stored = torch.float32 if name in ("mean", "std") else dtype
            tensors[name] = value.detach().to("cpu", stored, copy=True).contiguous()
            if not bool(tensors[name].isfinite().all()):
                raise PosesynError(f"motion pair not saved to {path}: {name} is not finite as {stored}")
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, partial, {"format": _FORMAT, "config": json.dumps(self._config())})
            partial.replace(path)
        except (SafetensorError, OSError) as error:
            raise PosesynError(f"motion pair cannot be written to {path}: {error}") from error
        finally:
            if partial.parent.is_dir():
                partial.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: str | Path) -> MotionPair:
        """On the CPU, in eval mode.

        Args:
            path: a file of :meth:`save`, the folder it is in, or ``packaged:NAME`` for what ships with posesyn.

        Raises:
            PosesynError: no such file, or it is damaged, or no motion pair, or weights and sizes do not fit.
        """
        file = packaged_file(path, PACKAGED_WEIGHTS)
        if file.is_dir():
            file = file / FILE_NAME
        if not file.is_file():
            raise PosesynError(f"motion pair not found: {file.absolute()}")
        try:
            with safe_open(file, "pt") as opened:
                metadata = opened.metadata() or {}
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
            raise PosesynError(f"motion pair {file} cannot be read ({type(error).__name__}): it is damaged") from error
        if metadata.get("format") != _FORMAT:
            raise PosesynError(
                f"{file} is not a motion pair (a file of MotionPair.save): its format is not {_FORMAT!r}"
            )
        try:
            config = json.loads(metadata["config"])
            vqvae_config = VQVAEConfig(**config.pop("vqvae"))
            transformer_config = TransformerConfig(**config.pop("transformer"))
            rest = {"text_encoder": str(config["text_encoder"]), "layout": str(config["layout"])}
            fps = float(config["fps"])
            if not 0 < fps < 1000:
                raise PosesynError(f"fps={fps}")
        # RecursionError: brackets within brackets.
        except (
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            ArithmeticError,
            RecursionError,
            PosesynError,
        ) as error:
            raise PosesynError(f"motion pair {file}: its config cannot be used ({error})") from error
        _check_numbers(tensors, file)
        vqvae = _filled(MotionVQVAE, vqvae_config, _under(tensors, "vqvae."), file, AVERAGES)
        vqvae.quantizer.set_codebook(vqvae.quantizer.codebook)
        transformer = _filled(TextToMotion, transformer_config, _under(tensors, "transformer."), file)
        own = {"mean": tensors.get("mean"), "std": tensors.get("std")}
        unknown = [n for n in tensors if not n.startswith(("vqvae.", "transformer.")) and n not in own]
        if own["mean"] is None or own["std"] is None or unknown:
            raise PosesynError(f"motion pair {file}: mean or std is missing, or there is more: {unknown[:5]}")
        try:
            return cls(vqvae, transformer, mean_F=own["mean"], std_F=own["std"], fps=fps, **rest)
        except PosesynError as error:
            raise PosesynError(f"{file}: {error}") from error

    @classmethod
    def from_official(
        cls, vqvae: str | Path, transformer: str | Path, mean: str | Path | np.ndarray, std: str | Path | np.ndarray
    ) -> MotionPair:
        """T2M-GPT's checkpoints (``net_last.pth`` and ``net_best_fid.pth``).

        Args:
            mean, std: what that VQ-VAE's training normalised features with, as arrays or ``.npy`` files:
                ``checkpoints/t2m/VQVAEV3_CB1024_CMT_H1024_NRES3/meta/{mean,std}.npy`` of T2M-GPT's extractors
                (dataset/dataset_VQ.py), not HumanML3D's own ``Mean.npy`` and ``Std.npy``.
        """
        ours = load_official_vqvae(vqvae)
        return cls(
            ours,
            load_official_transformer(transformer),
            "clip-vit-b32",
            _array(mean, "mean"),
            _array(std, "std"),
            fps=12.5 if ours.config.features == 251 else 20.0,
            layout="kit" if ours.config.features == 251 else "humanml3d",
        )

    def _config(self) -> dict[str, Any]:
        return {
            "vqvae": dataclasses.asdict(self.vqvae.config),
            "transformer": dataclasses.asdict(self.transformer.config),
            "text_encoder": self.text_encoder,
            "fps": self.fps,
            "layout": self.layout,
        }

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"vqvae.{k}": v for k, v in self.vqvae.state_dict().items() if k not in AVERAGES}
        tensors |= {f"transformer.{k}": v for k, v in self.transformer.state_dict().items()}
        return tensors | {"mean": self.mean_F, "std": self.std_F}


def _filled(
    network: type[Any], config: Any, state: dict[str, Tensor], file: Path, without: tuple[str, ...] = ()
) -> Any:
    """A network with these weights as float32; built without memory first, so that a lie about sizes costs nothing."""
    with torch.device("meta"):
        built = network(config)
    own = {k: v for k, v in built.state_dict().items() if k not in without}
    check_state(state, own, file, network.__name__, _ADVICE)
    # Every number a module holds beside its weights is set by the caller or below.
    built.to_empty(device="cpu")
    built.load_state_dict({k: v.float() for k, v in state.items()}, strict=not without)
    if isinstance(built, TextToMotion):
        built.places.copy_(sinusoids(config.block_size, config.width))
    if isinstance(built, MotionVQVAE):
        built.quantizer.updates.zero_()
    return built.eval()


def _check_numbers(tensors: Mapping[str, Tensor], file: Path) -> None:
    for name, value in tensors.items():
        if not value.is_floating_point() or not bool(value.isfinite().all()):
            raise PosesynError(f"motion pair {file} is damaged: {name} holds something else than finite numbers")


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _array(value: str | Path | np.ndarray, name: str) -> Tensor:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.astype(np.float32))
    try:
        return torch.from_numpy(np.load(value, allow_pickle=False).astype(np.float32))
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise PosesynError(f"{name} of the motion features cannot be read from {value}: {error}") from error
