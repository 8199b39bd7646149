"""Diffusion models from a folder, from the hub's cache or by the name of an asset, placed as memory allows.

Weights are safetensors and nothing else. Nothing is downloaded unless ``local_files_only`` is false; what is missing is
one error that says what to get, how large it is and how.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from human.assets import Asset, load_manifest, locate
from human.errors import PosesynError
from human.pins import tell_unpinned

_DTYPES = {
    "bf16": torch.bfloat16, "bfloat16": torch.bfloat16,
    "fp16": torch.float16, "float16": torch.float16,
    "fp32": torch.float32, "float32": torch.float32,
}  # fmt: skip
OFFLOADS = ("none", "model", "sequential")


@dataclass(frozen=True)
class DiffusionModel:
    """Which weights.

    Attributes:
        model: a folder in diffusers' layout, a hub id ("owner/name"), or the name of an asset of kind "hub".
        revision: commit, tag or branch of the hub id; an asset brings its own.
        variant: of the files: "fp16" reads ``*.fp16.safetensors``; an asset brings its own.
        local_files_only: read only what is here already; false lets the hub's client download it on first use.
    """

    model: str
    revision: str | None = None
    variant: str | None = None
    local_files_only: bool = True

    @property
    def asset(self) -> Asset | None:
        """The manifest's entry of this name or this hub id."""
        known = load_manifest()
        if (found := known.get(self.model)) is not None:
            if found.kind != "hub":
                raise PosesynError(f"the asset {self.model!r} is of kind {found.kind!r} and not a model of the hub")
            return found
        return next((a for a in known.values() if a.kind == "hub" and a.package == self.model), None)

    @property
    def named(self) -> tuple[str, dict[str, Any]]:
        """Folder or hub id, and the arguments of ``from_pretrained`` that choose the files."""
        folder = Path(self.model).expanduser()
        if folder.is_dir():
            return str(folder), {"variant": self.variant, "local_files_only": True}
        asset = self.asset
        if asset is None:
            return self.model, _given(self.revision, self.variant, self.local_files_only)
        files = _given(self.revision or asset.version, self.variant or asset.variant or None, self.local_files_only)
        return asset.package, files

    @property
    def where(self) -> tuple[str, dict[str, Any]]:
        """:attr:`named`, but the folder of a fetched asset: the libraries take a snapshot with only the wanted files
        for an incomplete one.
        """
        name, files = self.named
        asset = None if Path(name).is_dir() else self.asset
        if asset is None or (files["revision"], files["variant"]) != (asset.version, asset.variant or None):
            return name, files
        folder = locate(asset.name)
        tell_unpinned(asset.name, asset.package, asset.version, folder)
        return (name, files) if folder is None else (str(folder), files | {"revision": None, "local_files_only": True})

    def config(self) -> dict[str, Any]:
        """What decides pixels: names, not places of caches."""
        name, files = self.named
        return {"model": name, "revision": files.get("revision"), "variant": files["variant"]}

    def advice(self) -> str:
        """What to do where the files are not here."""
        if Path(self.model).expanduser().is_dir() or Path(self.model).is_absolute():
            return "the folder must hold a model as diffusers saves it, with safetensors weights: copy it there again"
        name, files = self.named
        command = f"hf download {name}" + (f" --revision {files['revision']}" if files.get("revision") else "")
        size, asset = "", self.asset
        if asset is not None:
            size = f"{(asset.download or asset.size) / 1e9:.1f} GB, {asset.licence}: "
            command = f"posesyn assets fetch {asset.name}"
        return (
            f"download it into the hub's cache ({size}`{command}`), let it be downloaded on first use with "
            "local_files_only=false, or name a folder that holds it"
        )


def _given(revision: str | None, variant: str | None, local_files_only: bool) -> dict[str, Any]:
    return {"revision": revision, "variant": variant, "local_files_only": local_files_only}


@dataclass(frozen=True)
class Memory:
    """How a model is held and run.

    Attributes:
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", ...
        dtype: "fp32", "fp16", "bf16", or "auto": bf16 on a GPU that has it, fp16 on an older one, fp32 on a CPU.
        offload: "model": each network visits the GPU when it is needed; "sequential": each layer does (slow, smallest);
            "none": all stay there. On a CPU there is nothing to offload and the setting changes nothing.
        slicing: attention and the autoencoder work through their batch piece by piece.
        tiling: the autoencoder works in overlapping tiles (changes pixels a little above its own size).
        compile: torch.compile of the denoiser's repeated blocks; the first picture waits for it.
    """

    device: str = "auto"
    dtype: str = "auto"
    offload: str = "none"
    slicing: bool = False
    tiling: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if self.offload not in OFFLOADS:
            raise PosesynError(f"offload is {self.offload!r}; choose {', '.join(OFFLOADS)}")
        if self.dtype != "auto" and self.dtype not in _DTYPES:
            raise PosesynError(f"dtype is {self.dtype!r}; choose auto, {', '.join(_DTYPES)}")

    @property
    def torch_device(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
        except RuntimeError as error:
            raise PosesynError(f"torch knows no device {self.device!r}: use auto, cpu, cuda or cuda:1") from error
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise PosesynError(
                f"device {self.device!r} was asked for, this machine has {torch.cuda.device_count()} GPUs"
            )
        return device

    @property
    def torch_dtype(self) -> torch.dtype:
        if self.dtype != "auto":
            return _DTYPES[self.dtype]
        if self.torch_device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16

    def config(self) -> dict[str, Any]:
        """What decides pixels."""
        return {"dtype": self.dtype, "tiling": self.tiling}


def diffusers() -> Any:
    """The library, or one error that says how to get it."""
    try:
        import diffusers as library
    except ImportError as error:
        raise PosesynError(
            f"generative engines need the package diffusers, which cannot be imported ({error}): pip install diffusers"
        ) from error
    return library


def load_component(cls: type | str, model: DiffusionModel | str, memory: Memory | None = None, **kwargs: Any) -> Any:
    """One network, on the CPU in ``memory``'s dtype and in evaluation mode.

    Args:
        cls: a class of diffusers or transformers, or its name.
        kwargs: for ``from_pretrained``; ``subfolder`` picks a part of a pipeline.

    Raises:
        PosesynError: the weights are not here (what to download, how large, how), damaged, or not of this class.
    """
    chosen = DiffusionModel(model) if isinstance(model, str) else model
    where, files = chosen.where
    dtype = (memory or Memory()).torch_dtype
    with _told(chosen, kwargs.get("subfolder", "")), _no_bars():
        kind: Any = _find(cls) if isinstance(cls, str) else cls
        network = isinstance(kind, type) and issubclass(kind, torch.nn.Module)
        if network:
            given = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True}
            loaded, report = kind.from_pretrained(where, **given, **files, **kwargs)
            _fits(loaded, chosen, report)
            return loaded.eval().requires_grad_(False)
        return kind.from_pretrained(where, **files, **kwargs)  # a tokenizer, a schedule


def load_pipeline(cls: type | str, model: DiffusionModel | str, memory: Memory | None = None, **components: Any) -> Any:
    """A pipeline of diffusers, silent, placed by ``memory``.

    Args:
        cls: the pipeline's class or its name in diffusers.
        components: networks in place of the model's own (``controlnet=...``, ``safety_checker=None``).

    Raises:
        PosesynError: as :func:`load_component`.
    """
    chosen, memory = DiffusionModel(model) if isinstance(model, str) else model, memory or Memory()
    where, files = chosen.where
    with _told(chosen), _no_bars():
        kind: Any = _find(cls) if isinstance(cls, str) else cls
        pipeline = kind.from_pretrained(where, use_safetensors=True, dtype=memory.torch_dtype, **files, **components)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            _whole(part, chosen)
    return place(pipeline, memory)


def place(pipeline: Any, memory: Memory) -> Any:
    """Move, slice, tile, compile and offload a pipeline's networks; returns it."""
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    if memory.slicing:
        pipeline.enable_attention_slicing()
    vae = getattr(pipeline, "vae", None)
    if vae is not None and memory.slicing and hasattr(vae, "enable_slicing"):
        vae.enable_slicing()
    if vae is not None and memory.tiling and hasattr(vae, "enable_tiling"):
        vae.enable_tiling()
    if memory.compile:
        denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
        if getattr(denoiser, "_repeated_blocks", None):
            denoiser.compile_repeated_blocks()
        else:
            denoiser.compile()
    device = memory.torch_device
    try:
        if memory.offload == "none" or device.type == "cpu":
            pipeline.to(device)
        elif memory.offload == "model":
            pipeline.enable_model_cpu_offload(device=device)
        else:
            pipeline.enable_sequential_cpu_offload(device=device)
    except torch.OutOfMemoryError as error:
        raise PosesynError(
            f"the models do not fit on {device} ({_first_line(error)}): set offload to model or sequential, or use a "
            "smaller dtype"
        ) from error
    return pipeline


def free_memory() -> None:
    """Give memory of dropped networks back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _find(name: str) -> Any:
    if hasattr(diffusers(), name):
        return getattr(diffusers(), name)
    import transformers

    if hasattr(transformers, name):
        return getattr(transformers, name)
    raise PosesynError(f"neither diffusers {diffusers().__version__} nor transformers has a class {name!r}")


def _fits(network: torch.nn.Module, model: DiffusionModel, report: dict[str, Any]) -> None:
    """The libraries only log weights that are missing (they stay random) or have no place (another class's)."""
    odd = [("lacks", report["missing_keys"])]
    if not type(network).__module__.startswith("transformers."):  # those take halves of larger models
        odd.append(("has no place for", report["unexpected_keys"]))
    for what, names in odd:
        if names:
            weights = f"{len(names)} weights ({sorted(map(str, names))[0]}, ...)"
            raise PosesynError(
                f"the diffusion model {model.model!r} does not fit: {type(network).__name__} {what} {weights}; the "
                f"file is another network's or incomplete: {model.advice()}"
            )


def _whole(network: torch.nn.Module, model: DiffusionModel) -> None:
    """A file may lack weights without an error: they stay on the meta device."""
    for name, value in network.named_parameters():
        if value.is_meta:
            raise PosesynError(
                f"the diffusion model {model.model!r}: its {type(network).__name__} has no weight {name!r}: "
                f"{model.advice()}"
            )


@contextmanager
def _told(model: DiffusionModel, part: str = "") -> Iterator[None]:
    """Whatever the libraries say about missing or damaged files, as one :class:`PosesynError`."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    from safetensors import SafetensorError

    called = f"the diffusion model {model.model!r}" + (f" ({part})" if part else "")
    try:
        yield
    except PosesynError:
        raise
    except torch.OutOfMemoryError:
        raise
    except SafetensorError as error:
        raise PosesynError(f"{called} has damaged weights ({_first_line(error)}): {model.advice()}") from error
    except (OSError, ValueError, ImportError, RuntimeError, HfHubHTTPError, OfflineModeIsEnabled) as error:
        damaged = any(words in str(error) for words in ("Unable to load weights", "Unable to locate the file"))
        what = "has damaged weights" if damaged else "cannot be loaded"
        raise PosesynError(f"{called} {what} ({_first_line(error)}): {model.advice()}") from error


@contextmanager
def hushed() -> Iterator[None]:
    """While a pipeline runs: no remarks about batches of prompts, on every picture anew."""
    logs = diffusers().utils.logging
    level = logs.get_verbosity()
    logs.set_verbosity_error()
    try:
        yield
    finally:
        logs.set_verbosity(level)


@contextmanager
def _no_bars() -> Iterator[None]:
    """No progress bars while models are read from disk."""
    from synth.captions.text_encoders import quiet

    bars = diffusers().utils.logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        with quiet():
            yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300].rstrip(".:") if lines else type(error).__name__
