"""Files of pose priors: ours, and VPoser's own, which a user brings.

VPoser's weights have a licence of their own (https://smpl-x.is.tue.mpg.de, non-commercial) and are never shipped: they
come from the user's VPoser folder, or from a checkpoint of an estimator that was trained with them. No file is run.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from human.body_folders import VARIABLE, search_folders
from human.checkpoints import check_state, packaged_file, read_checkpoint
from human.errors import PosesynError
from synth.pose_prior import JOINTS, PosePrior, PosePriorConfig, VPoserV1, make_pose_prior

PACKAGED = "packaged:pose_prior_free"
_WEIGHTS = Path(__file__).parent / "weights"
_METADATA = "pose_prior"
#: Where checkpoints keep the network: VPoser v2's trainer, ours, and data-parallel snapshots.
_PREFIXES = ("vp_model.", "prior.", "module.")
LATENT = 32
_V1 = ("VPOSER_CKPT", "vposer_v1_0", "smpl/VPOSER_CKPT", "vposer_v1_0/vposer_v1_0")
_V2 = ("V02_05", "vposer_v2_0", "VPOSER_V2", "vposer_v2_0/V02_05")
_DECODER = "bodyprior_dec_"


def prior_from_state(state: dict[str, Tensor], path: Path, dropout: float = 0.1) -> PosePrior:
    """The network that these weights are of: version and sizes are read off them. What a trainer kept beside the
    network (a body model) is left out. :class:`PosesynError` where they are no pose prior's.
    """
    state = _unwrapped(state)
    if "encoder_net.2.weight" in state:
        kind, hidden, code, out = "v2", "encoder_net.2", "encoder_net.8.mu", "decoder_net.5"
    elif "bodyprior_enc_fc1.weight" in state:
        kind, hidden, code, out = "v1", "bodyprior_enc_fc1", "bodyprior_enc_mu", "bodyprior_dec_out"
    else:
        raise PosesynError(f"{path} holds no pose prior: neither VPoser v1's layers (bodyprior_enc_…) nor v2's")
    rows = {name: state[f"{name}.weight"].shape[0] for name in (hidden, code, out) if f"{name}.weight" in state}
    if rows.get(out, 6 * JOINTS) != 6 * JOINTS:
        raise PosesynError(f"{path} is a pose prior of {rows[out] // 6} joints; only those of SMPL's {JOINTS} are read")
    prior = make_pose_prior(PosePriorConfig(kind, rows[hidden], rows.get(code, 32), dropout))
    check_state(state, prior.state_dict(), path, f"VPoser {kind}", "Is the file whole?")
    prior.load_state_dict(state)
    return prior.eval().requires_grad_(False)


def _unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if any(k.startswith(prefix) for k in state):
            state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    # Early releases wrote the number of batches seen, or not.
    norms = [k.removesuffix("running_mean") for k in state if k.endswith("running_mean")]
    return {f"{n}num_batches_tracked": torch.zeros((), dtype=torch.long) for n in norms} | state


def load_pose_prior(name: str | Path = PACKAGED) -> PosePrior:
    """A frozen prior in evaluation mode.

    Args:
        name: "packaged:NAME", a file of :func:`save_pose_prior`, a checkpoint of our trainer, VPoser's folder or
            snapshot of either version, or "vposer": the one found in the folders of body models.
    """
    if name == "vposer":
        if (found := find_vposer()) is None:
            raise PosesynError(missing_vposer("pose prior 'vposer'"))
        name = found
    file = packaged_file(name, _WEIGHTS)
    path, state = read_checkpoint(snapshot(file.expanduser()))
    return prior_from_state({k: v.float() if v.is_floating_point() else v for k, v in state.items()}, path)


@lru_cache(maxsize=4)
def shared_pose_prior(name: str = PACKAGED) -> PosePrior:
    """:func:`load_pose_prior`, read once per process: not to be changed."""
    return load_pose_prior(name)


def weights_hash(prior: PosePrior) -> str:
    """sha256 (hex) of the weights and their names."""
    whole = hashlib.sha256()
    for name, value in sorted(prior.state_dict().items()):
        whole.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()


def save_pose_prior(prior: PosePrior, path: str | Path, dtype: torch.dtype = torch.float32, **about: Any) -> None:
    """Write a ``.safetensors`` file with the configuration, and what else is said ``about`` it, in its header."""
    state = {k: (v.to(dtype) if v.is_floating_point() else v).contiguous() for k, v in prior.state_dict().items()}
    if unfit := [k for k, v in state.items() if not v.isfinite().all()]:
        raise PosesynError(f"this pose prior cannot be saved as {dtype}: {', '.join(unfit[:3])} would not be finite")
    save_file(state, path, {_METADATA: json.dumps(asdict(prior.config) | about)})


def about_pose_prior(path: str | Path) -> dict[str, Any]:
    """What :func:`save_pose_prior` said in the header of a file."""
    try:
        with safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {})[_METADATA])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise PosesynError(f"{path} was not written by save_pose_prior ({type(error).__name__}: {error})") from error


class VPoserDecoder(VPoserV1):
    """The decoder of v1: frozen, and without dropout also in training. All zero until weights are loaded."""

    def __init__(self, width: int = 512) -> None:
        super().__init__(PosePriorConfig("v1", width, LATENT, dropout=0.0), encoder=False)
        self.requires_grad_(False)
        for weight in self.parameters():
            nn.init.zeros_(weight)

    @property
    def loaded(self) -> bool:
        """Whether there are weights."""
        return bool(self.bodyprior_dec_out.weight.any())

    def load(self, path: str | Path) -> None:
        """VPoser's own snapshot; :class:`PosesynError` where it is another file."""
        file, state = read_checkpoint(snapshot(Path(path).expanduser()))
        decoder = decoder_state(state)
        check_state(decoder, self.state_dict(), file, "VPoser decoder")
        self.load_state_dict(decoder)


def decoder_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The decoder's tensors within VPoser's or an estimator's, under their own names."""
    found = {k[k.index(_DECODER) :]: v for k, v in state.items() if _DECODER in k}
    return found or dict(state)


def find_vposer(version: str | None = None) -> Path | None:
    """The newest snapshot of "v1" or "v2" (None: v2, then v1) in the folders of body models."""
    wanted = {"v1": (_V1,), "v2": (_V2,), None: (_V2, _V1)}[version]
    for folders in wanted:
        for root in search_folders():
            for folder in folders:
                if files := _snapshots(root / folder):
                    return files[-1]
    return None


def missing_vposer(who: str, version: str | None = None) -> str:
    """What to tell a user who lacks VPoser."""
    folder = {"v1": _V1[0], "v2": _V2[0], None: f"{_V2[0]} or {_V1[0]}"}[version]
    return (
        f"{who} needs the weights of VPoser {version or 'v2 or v1'}, of which there are none: register at "
        f"https://smpl-x.is.tue.mpg.de, then put {folder} into a folder of {VARIABLE}, or name VPoser's folder or "
        "snapshot instead"
    )


def snapshot(path: Path) -> Path:
    """The newest snapshot of VPoser's folder, or the file itself."""
    if path.is_dir():
        if not (files := _snapshots(path)):
            raise PosesynError(
                f"vposer: the folder {path} holds no snapshots/*.pt or *.ckpt; name VPoser's folder or its file"
            )
        return files[-1]
    return path


def _snapshots(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("snapshots/*") if p.suffix in (".pt", ".ckpt"))
