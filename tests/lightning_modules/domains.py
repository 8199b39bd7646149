"""Pictures of two domains and the strategies that adapt to them, for tests of domain adaptation."""

from __future__ import annotations

import torch
from torch import Tensor

from human.batch import PoseBatch
from lightning_modules import DomainConfusion, GradientReversal
from tests.tiny import rendered_people

STRATEGIES = {
    "confusion": lambda **k: DomainConfusion(period=0, **k),
    "alternating": lambda **k: DomainConfusion(period=1, **k),
    "reversal": lambda **k: GradientReversal(**k),
}
SOURCES = [False, True]  # number 0 is real, 1 synthetic


def of_source(batch: PoseBatch, number: int) -> PoseBatch:
    key = batch.key.clone()
    key[:, 0] = number
    return batch.replace(key=key)


def unlabelled(batch: PoseBatch) -> PoseBatch:
    return PoseBatch.blank(len(batch), batch.size).replace(image=batch.image, key=batch.key)


def filmed(image: Tensor) -> Tensor:
    """The pictures as another camera takes them: reddish, low in contrast, and interlaced with the wrong cable."""
    stripes = 25 * (torch.arange(image.shape[-1]) % 8 < 4)
    warm = torch.tensor([70.0, 20.0, 0.0])[:, None, None]
    return (image * 0.6 + warm + stripes).clamp(0, 255).to(torch.uint8)


def two_domains() -> PoseBatch:
    """Four labelled synthetic people, then four real ones without labels."""
    people = rendered_people(range(8))
    real = unlabelled(of_source(people[4:], 0))
    return PoseBatch.cat([of_source(people[:4], 1), real.replace(image=filmed(real.image))])
