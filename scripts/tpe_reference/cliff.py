"""What CLIFF's own code says: ``python -m scripts.tpe_reference.cliff CHECKOUT`` with
https://github.com/haofanwang/CLIFF (the official demo code, extended).

Runs CLIFF's classes (``models.cliff_res50`` and ``models.cliff_hr48`` at full size) and camera functions
(``common.utils``, ``common.imutils``, ``losses.perspective_projection``) on seeded weights and inputs and writes
tests/lightning_modules/reference/cliff_{res50,hr48,camera}.npz. Needs the packages of posesyn and yacs. The box
information is computed in the middle of ``demo.main``, which cannot be called: its two lines are repeated here.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from scripts.tpe_reference.spin import MEAN, STD, mean_parameters
from tests.lightning_modules.seeded import save_reference, seeded_images, seeded_state, seeded_tensor, shapes_of

SEED, BATCH, SIZE, COLUMNS = 23, 2, 256, 192


def network(name: str, about: str) -> None:
    if name == "res50":
        from models.cliff_res50.cliff import CLIFF
    else:
        from models.cliff_hr48.cliff import CLIFF

    with TemporaryDirectory() as folder:
        model = CLIFF(mean_parameters(Path(folder))).eval()
    print(f"CLIFF {name}: parameters", sum(p.numel() for p in model.parameters()))
    shapes = shapes_of(model.state_dict())
    starts = {k: v.clone() for k, v in model.state_dict().items() if k.startswith("init_")}
    model.load_state_dict({**seeded_state(shapes, SEED), **starts})
    x = (seeded_images(BATCH, SIZE, SEED).float() / 255 - MEAN[:, None, None]) / STD[:, None, None]
    left = (SIZE - COLUMNS) // 2
    box = torch.tensor([[0.5, -0.2, 0.8], [-0.9, 0.3, -0.4]])
    with torch.no_grad():
        rotations, betas, camera = model(x[..., left : left + COLUMNS], box)
    said = {**starts, "box": box, "rotations": rotations, "betas": betas, "camera": camera}
    print(save_reference(f"cliff_{name}", shapes, SEED, about, **said))


def camera() -> dict[str, Tensor]:
    """Boxes in whole pictures: focal length, box information, translation, and joints in the picture and the crop."""
    from common.imutils import get_transform
    from common.utils import cam_crop2full, estimate_focal_length
    from losses import perspective_projection

    height, width = torch.tensor([720.0, 1080.0, 427.0]), torch.tensor([1280.0, 1920.0, 640.0])
    center = torch.tensor([[640.0, 360.0], [300.0, 700.0], [600.5, 90.25]])
    scale = torch.tensor([1.9, 3.1, 0.7])
    weak = torch.tensor([[0.9, 0.02, -0.1], [0.6, -0.4, 0.2], [1.3, 0.1, 0.3]])
    focal = torch.stack([estimate_focal_length(h, w) for h, w in zip(height, width, strict=True)])
    box = torch.stack([center[:, 0] - width / 2, center[:, 1] - height / 2, 200 * scale], -1)
    box[:, :2] = box[:, :2] / focal[:, None] * 2.8
    box[:, 2] = (box[:, 2] - 0.24 * focal) / (0.06 * focal)
    transl = cam_crop2full(weak, center, scale, torch.stack([height, width], -1), focal)
    points = 0.4 * seeded_tensor([len(weak), 32, 3], SEED, "points")
    pixels = perspective_projection(
        points + transl[:, None],
        torch.eye(3).expand(len(weak), 3, 3),
        transl,
        focal,
        torch.stack([width, height], -1) / 2,
    )
    maps = [get_transform(c, s, (SIZE, COLUMNS)) for c, s in zip(center.tolist(), scale.tolist(), strict=True)]
    to_crop = torch.tensor(maps, dtype=torch.float32)[:, :2]
    crop = torch.einsum("bij,bkj->bki", to_crop, torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1))
    return {
        "height": height, "width": width, "center": center, "side": 200 * scale, "weak": weak, "focal": focal,
        "box": box, "transl": transl, "points": points, "pixels": pixels, "crop": crop,
    }  # fmt: skip


def main(checkout: str) -> None:
    sys.path.insert(0, checkout)
    commit = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    about = f"CLIFF {commit or '(no git folder)'}"
    for name in ("res50", "hr48"):
        network(name, f"{about}: models.cliff_{name} at full size, {BATCH} pictures of {SIZE} x {COLUMNS}")
    print(save_reference("cliff_camera", {}, SEED, f"{about}: camera functions", **camera()))


if __name__ == "__main__":
    main(sys.argv[1])
