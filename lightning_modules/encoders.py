"""timm backbones as picture encoders: one vector per picture, weights in timm's own names."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

from human.errors import PosesynError
from lightning_modules.checkpoints import check_state, read_checkpoint


def pooled_encoder(
    name: str, height: int, width: int, options: dict[str, Any] | None = None, weights: str | None = None
) -> nn.Module:
    """A timm model without its classifier, which gives (B, :func:`encoder_width`) for pictures of height x width.

    ``resnet50`` and ``hrnet_w48`` have the parameter names and the pooling of the classifiers that SPIN and CLIFF start
    from (torchvision's ResNet, HRNet-W48-C).

    Args:
        name: any timm model.
        options: arguments of the timm model, such as ``layers`` of a ResNet.
        weights: file of a classifier's weights in timm's or torchvision's layout (ImageNet's); the classifier is left.

    Raises:
        PosesynError: timm has no such model, or the weights do not fit.
    """
    if not timm.is_model(name) and "/" not in name:
        close = timm.list_models(f"*{name}*")[:5]
        raise PosesynError(f"timm has no backbone {name!r}" + (f"; did you mean {', '.join(close)}?" if close else ""))
    make = {"pretrained": False, "num_classes": 0, **(options or {})}
    try:
        # Transformers need to know the size of the picture, and convolutional networks do not take it.
        encoder = timm.create_model(name, img_size=(height, width), **make)
    except TypeError:
        try:
            encoder = timm.create_model(name, **make)
        except TypeError as error:
            raise PosesynError(f"backbone {name} does not take the options {sorted(options or {})}: {error}") from None
    if weights is not None:
        load_classifier(encoder, weights)
    return encoder


def encoder_width(encoder: nn.Module) -> int:
    """Length of the vector that a :func:`pooled_encoder` gives."""
    return int(getattr(encoder, "head_hidden_size", None) or encoder.num_features)  # type: ignore[arg-type]


def load_classifier(encoder: nn.Module, file: str) -> None:
    """Load a classifier's weights into the encoder, in place; its last layer is left out."""
    path, state = read_checkpoint(file)
    classifier = getattr(encoder, "pretrained_cfg", {}).get("classifier") or ()
    last = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    state = with_counters({k: v for k, v in state.items() if not k.startswith(tuple(f"{n}." for n in last))})
    check_state(state, encoder.state_dict(), path, f"backbone ({type(encoder).__name__})")
    encoder.load_state_dict(state)


def with_counters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """``state`` with the ``num_batches_tracked`` that batch norms of old checkpoints lack (they are not used)."""
    ends = "running_var", "num_batches_tracked"
    counters = {k.removesuffix(ends[0]) + ends[1]: torch.tensor(0) for k in state if k.endswith(ends[0])}
    return {**counters, **state}
