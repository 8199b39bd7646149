"""ImageNet weights for backbones, from packages on the index instead of a hub."""

from human.lite_weights import load_lite_weights

__all__ = ["load_lite_weights"]
