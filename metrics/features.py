"""Networks that turn pictures into the vectors that FID and KID compare.

A figure is only comparable with figures of the same network. "efficientnet_lite0" comes from the package index;
"inception" is the network of published FIDs (the extra package torch-fidelity and its weights); any other name is a
model of timm with weights that the user has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from human.checkpoints import check_state, read_checkpoint
from human.errors import PosesynError
from human.lite_weights import load_lite_weights

DEFAULT_FEATURES = "efficientnet_lite0"
INCEPTION = "inception"


class FeatureNetwork(nn.Module):
    """uint8 RGB pictures (B,3,H,W) of any size -> (B,F) float64. Never trains; ``num_features`` is F."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, network: nn.Module, width: int, side: int, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.name, self.num_features, self.side = name, width, side
        self.network = network.eval().requires_grad_(False)
        self.register_buffer("mean", mean.reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", std.reshape(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> FeatureNetwork:
        return super().train(False)

    @torch.inference_mode()
    def forward(self, image_B3HW: Tensor) -> Tensor:
        if image_B3HW.dtype != torch.uint8 or image_B3HW.ndim != 4 or image_B3HW.shape[1] != 3:
            raise PosesynError(
                f"a feature network takes uint8 pictures (B,3,H,W), got {image_B3HW.dtype} {tuple(image_B3HW.shape)}"
            )
        if self.name == INCEPTION:  # resizes and normalises as its authors did
            return self.network(image_B3HW).double()
        size = (self.side, self.side)
        pixels = interpolate(image_B3HW.float(), size=size, mode="bilinear", antialias=True, align_corners=False)
        return self.network((pixels - self.mean) / self.std).double()


def make_features(name: str = DEFAULT_FEATURES, weights: str | None = None) -> FeatureNetwork:
    """The network ``name``.

    Args:
        name: "efficientnet_lite0", "inception" (2048 features of torch-fidelity's InceptionV3), or a timm model.
        weights: file of a classifier's weights in timm's layout, or "hub" for those that timm would download; of
            "inception", torch-fidelity's file (default: fetched by it).

    Raises:
        PosesynError: no such model, no weights for it, or they do not fit.
    """
    if name == DEFAULT_FEATURES and weights is None:
        network: Any = timm.create_model("tf_efficientnet_lite0", num_classes=0)
        load_lite_weights(network, "efficientnet_lite0")
        centre, scale = torch.full((3,), 127.0), torch.full((3,), 128.0)
        return FeatureNetwork(name, network, int(network.num_features), 224, centre, scale)
    if name == INCEPTION:
        return _inception(weights)
    if not timm.is_model(name):
        close = timm.list_models(f"*{name}*")[:5]
        raise PosesynError(
            f"features: no network is called {name!r}: say {DEFAULT_FEATURES}, {INCEPTION} or a timm model"
            + (f"; did you mean {', '.join(close)}?" if close else "")
        )
    if weights is None:
        raise PosesynError(
            f"features: {name} needs weights, distances between random features mean little: give a file, or "
            "'hub' for those that timm downloads"
        )
    network = timm.create_model(name, pretrained=weights == "hub", num_classes=0)
    if weights != "hub":
        _load(network, name, weights)
    config = network.pretrained_cfg
    mean, std = (255 * torch.tensor(config[k], dtype=torch.float32) for k in ("mean", "std"))
    return FeatureNetwork(name, network, _width(network), int(config["input_size"][-1]), mean, std)


def _width(network: nn.Module) -> int:
    return int(getattr(network, "head_hidden_size", None) or network.num_features)  # type: ignore[arg-type]


def _load(network: nn.Module, name: str, weights: str) -> None:
    path, state = read_checkpoint(Path(weights))
    last = network.pretrained_cfg.get("classifier") or ()  # type: ignore[union-attr, operator]
    heads = tuple(f"{n}." for n in ((last,) if isinstance(last, str) else last))
    state = {k: v for k, v in state.items() if not (heads and k.startswith(heads))}
    check_state(state, network.state_dict(), path, f"feature network ({name})", "Was it trained with another model?")
    network.load_state_dict(state)


def _inception(weights: str | None) -> FeatureNetwork:
    from torchmetrics.image.fid import NoTrainInceptionV3

    try:
        network = NoTrainInceptionV3("inception-v3-compat", ["2048"], weights)
    except ModuleNotFoundError:
        raise PosesynError(
            "features: inception needs the package torch-fidelity (pip install torch-fidelity), which fetches its "
            f"weights, 95 MB; {DEFAULT_FEATURES} needs nothing more"
        ) from None
    except Exception as error:  # no network, no such file, another file: each of its own kind
        raise PosesynError(
            f"features: torch-fidelity's InceptionV3 cannot be made ({type(error).__name__}: {error}): give its "
            "weights file, pt_inception-2015-12-05-6726825d.pth"
        ) from error
    return FeatureNetwork(INCEPTION, network, 2048, 299, torch.zeros(3), torch.ones(3))
