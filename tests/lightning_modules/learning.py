"""Whether an estimator can learn a batch by heart: labels, crops and cameras agree with each other."""

from __future__ import annotations

import torch

from lightning_modules import PoseEstimator
from tests.tiny import rendered_people


def learns_by_heart(estimator: PoseEstimator, steps: int = 60, lr: float = 2e-3, clip: float = 1.0) -> None:
    """The loss, and both errors on joints, fall by 90 %."""
    people = rendered_people(range(4))
    optimizer = torch.optim.AdamW((p for p in estimator.parameters() if p.requires_grad), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def errors() -> list[float]:
        with torch.inference_mode():
            out = estimator.solve(people)
        flat = (out.joints2d - people.joints2d).norm(dim=-1)[people.joints2d_conf > 0]
        total = torch.stack(list(estimator.losses(out, people).values())).sum()
        return [float(v) for v in (total, flat.mean(), (out.joints3d - people.joints3d).norm(dim=-1).mean())]

    before = errors()
    for _ in range(steps):
        optimizer.zero_grad()
        estimator.training_step(people, 0).backward()
        torch.nn.utils.clip_grad_norm_(estimator.parameters(), clip)
        optimizer.step()
        schedule.step()
    after = errors()
    for what, old, new in zip(("loss", "joints2d", "joints3d"), before, after, strict=True):
        assert new < 0.1 * old, f"{what}: {old:.4g} -> {new:.4g}"
