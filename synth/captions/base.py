"""The captioner protocol: challenges in, one sentence each out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from human.prediction import Prediction
from human.registry import Registry


@dataclass(frozen=True)
class CaptionRequest:
    """B persons to caption.

    Attributes:
        prediction: the estimator's B poses, right or wrong; camera frame.
        images_B3HW: their crops, uint8 RGB; None where there are none.
        activities: MPII's label of what each does, or ""; empty where no data set says.
        seeds: one for each, for synonyms and sampling; empty for one fixed wording.
    """

    prediction: Prediction
    images_B3HW: Tensor | None = None
    activities: Sequence[str] = ()
    seeds: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.prediction.joints3d)


class Captioner(Protocol):
    """Writes captions. ``replaced`` counts those that failed, since it was made, and were replaced by a plainer one."""

    name: str
    replaced: int

    def caption(self, request: CaptionRequest) -> list[str]:
        """One sentence for each of the B; never fewer, never empty."""
        ...

    def config_hash(self) -> str:
        """Names everything that its captions depend on."""
        ...


CAPTIONERS: Registry[Callable[..., Captioner]] = Registry("captioner")


def load_captioner(name: str = "describer", **settings: Any) -> Captioner:
    """A captioner by name, with its own settings (``load_captioner("vlm", checkpoint="…")``)."""
    return CAPTIONERS.get(name)(**settings)
