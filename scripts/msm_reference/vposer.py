"""What VPoser's own code says: ``python -m scripts.msm_reference.vposer V1_CHECKOUT V2_CHECKOUT``.

Both hold https://github.com/nghorbani/human_body_prior, at branch cvpr19 and at main. Runs the classes ``VPoser`` of
train/vposer_smpl.py (v1) and models/vposer_model.py (v2) at their full sizes on seeded weights and poses and writes
tests/synth/reference/vposer_{v1,v2}.npz. The reference was made with commits 1936f38 and 78c86ea and torch 2.12.0.
Empty names stand in for torchgeometry, configer and v1's body model, of which nothing is run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.lightning_modules.seeded import seeded_state, seeded_tensor, shapes_of

SEED, BATCH, WIDTH, LATENT = 11, 4, 512, 32
REFERENCES = Path(__file__).resolve().parents[2] / "tests/synth/reference"


def original(version: str, checkout: Path) -> nn.Module:
    """The original class, of full size, with seeded weights, in evaluation mode."""
    for name in [n for n in sys.modules if n.startswith("human_body_prior")]:
        del sys.modules[name]
    sys.path.insert(0, str(checkout))
    if version == "v1":
        for name, attribute in (("torchgeometry", ""), ("configer", "Configer"), ("smplx", ""), ("smplx.lbs", "lbs")):
            module = types.ModuleType(name)
            vars(module).update({attribute: None} if attribute else {})
            sys.modules.setdefault(name, module)
        made = importlib.import_module("human_body_prior.train.vposer_smpl").VPoser(WIDTH, LATENT, [1, 21, 3])
    else:
        sizes = types.SimpleNamespace(model_params=types.SimpleNamespace(num_neurons=WIDTH, latentD=LATENT))
        made = importlib.import_module("human_body_prior.models.vposer_model").VPoser(sizes)
    sys.path.pop(0)
    made.load_state_dict(seeded_state(shapes_of(made.state_dict()), SEED))
    return made.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("v1", type=Path)
    parser.add_argument("v2", type=Path)
    args = parser.parse_args()
    pose = 0.5 * seeded_tensor([BATCH, 63], SEED, "pose")
    code = 2 * seeded_tensor([BATCH, LATENT], SEED, "code")
    for version, checkout in (("v1", args.v1), ("v2", args.v2)):
        model = original(version, checkout)
        with torch.inference_mode():
            said = model.encode(pose)
            rotation = model.decode(code)
        if version == "v2":
            rotation = rotation["pose_body_matrot"]
        header = {"seed": SEED, "shapes": shapes_of(model.state_dict())}
        REFERENCES.mkdir(exist_ok=True)
        np.savez_compressed(
            REFERENCES / f"vposer_{version}.npz",
            header=np.frombuffer(json.dumps(header).encode(), np.uint8),
            mean=said.mean.numpy(),
            std=said.scale.numpy(),
            rotation=rotation.reshape(BATCH, 21, 3, 3).numpy(),
        )
        print(version, sum(p.numel() for p in model.parameters()), "parameters")


if __name__ == "__main__":
    main()
