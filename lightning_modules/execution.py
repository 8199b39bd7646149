"""How a network runs, whatever it computes: frozen parts, recomputed activations, compilation.

None of them changes a weight's name: checkpoints fit with and without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from human.errors import PosesynError


# -- frozen parts ----------------------------------------------------------------------------------------------------
def frozen_names(model: nn.Module, names: Sequence[str], within: str = "backbone") -> tuple[str, ...]:
    """Full names of the modules: of the model ("backbone.blocks.0"), or of its backbone ("blocks.0").

    Raises:
        PosesynError: a name that is neither.
    """
    known = {name for name, _ in model.named_modules() if name}
    full = []
    for name in names:
        found = [n for n in (name, f"{within}.{name}") if n in known]
        if not found:
            inner = getattr(model, within, None)
            of_backbone = [n for n, _ in inner.named_children()] if isinstance(inner, nn.Module) else []
            raise PosesynError(
                f"frozen: {type(model).__name__} has no module {name!r}; it has "
                f"{', '.join(n for n, _ in model.named_children())}"
                + (f", and its {within} has {', '.join(of_backbone)}" if of_backbone else "")
            )
        full.append(found[0])
    return tuple(full)


# -- recomputed activations ------------------------------------------------------------------------------------------
def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The repeated parts of a network, outermost: residual blocks, transformer layers.

    Told by their place and size: what stands in a list of modules, is no list itself, and has weights in two or more
    parts.
    """
    for child in module.children():
        listed = isinstance(module, (nn.Sequential, nn.ModuleList))
        if listed and not isinstance(child, (nn.Sequential, nn.ModuleList)) and _weighty(child) > 1:
            yield child
        else:
            yield from blocks(child)


def _weighty(module: nn.Module) -> int:
    return sum(bool(m._parameters) for m in module.modules())


def recompute_blocks(modules: Iterable[nn.Module], owner: str) -> None:
    """Keep no activations within the networks' :func:`blocks`: they are computed again on the way back.

    Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, §3.

    Raises:
        PosesynError: where there are no blocks.
    """
    found = [b for m in modules for b in blocks(m)]
    if not found:
        raise PosesynError(
            f"gradient_checkpointing: the network of {owner} has no repeated blocks to compute again; set it to false"
        )
    for block in found:
        block.forward = Recomputed(block.forward, block)  # type: ignore[assignment]


class Recomputed:
    """A module's forward, whose activations are thrown away where a gradient is needed.

    Args:
        forward: the bound method. A copy of the module copies it along, bound to the copy.
        module: whose batch statistics must move once for a step, not a second time with the repetition.
    """

    def __init__(self, forward: Callable[..., Any], module: nn.Module) -> None:
        self.forward, self.module = forward, module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.forward(*args, **kwargs)
        if torch.compiler.is_compiling():  # the compiler repeats sums, never a change of a buffer
            return checkpoint(self.forward, *args, use_reentrant=False, **kwargs)
        return checkpoint(self.forward, *args, use_reentrant=False, context_fn=self._contexts, **kwargs)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _still_statistics(self.module)


@contextmanager
def _still_statistics(module: nn.Module) -> Iterator[None]:
    norms = [m for m in module.modules() if isinstance(m, _NormBase) and m.training and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.sub_(1)


# -- compilation -----------------------------------------------------------------------------------------------------
def compile_networks(modules: Iterable[nn.Module], options: bool | dict[str, Any]) -> None:
    """``torch.compile`` in place, at the first call; ``options``: True, or arguments of ``torch.compile``."""
    for module in modules:
        module.compile(**(options if isinstance(options, dict) else {}))
