"""The decoder of VPoser, a variational autoencoder of poses: 32 numbers to the rotations of 21 joints.

Pavlakos et al., "Expressive Body Capture" (SMPLify-X), CVPR 2019, §3.3, in the first released version. Its weights
have a licence of their own (https://smpl-x.is.tue.mpg.de, non-commercial) and are never shipped: they come from the
user's VPoser folder, or from a checkpoint of an estimator that was trained with them.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from human.body_folders import VARIABLE, search_folders
from human.errors import PosesynError
from human.rotations import sixd_to_matrix
from lightning_modules.checkpoints import check_state, read_checkpoint

LATENT, JOINTS = 32, 21
_FOLDERS = ("VPOSER_CKPT", "vposer_v1_0", "smpl/VPOSER_CKPT", "vposer_v1_0/vposer_v1_0")
_DECODER = "bodyprior_dec_"


class VPoserDecoder(nn.Module):
    """Frozen, and without dropout also in training. All zero until weights are loaded."""

    def __init__(self, width: int = 512) -> None:
        super().__init__()
        self.bodyprior_dec_fc1 = nn.Linear(LATENT, width)
        self.bodyprior_dec_fc2 = nn.Linear(width, width)
        self.bodyprior_dec_out = nn.Linear(width, 6 * JOINTS)
        self.requires_grad_(False)
        for weight in self.parameters():
            nn.init.zeros_(weight)

    def forward(self, latent_B32: Tensor) -> Tensor:
        """(B,21,3,3) rotations of SMPL's body joints without the root and the hands."""
        h = F.leaky_relu(self.bodyprior_dec_fc1(latent_B32), 0.2)
        h = F.leaky_relu(self.bodyprior_dec_fc2(h), 0.2)
        return sixd_to_matrix(self.bodyprior_dec_out(h).unflatten(1, (JOINTS, 6)))

    @property
    def loaded(self) -> bool:
        """Whether there are weights."""
        return bool(self.bodyprior_dec_out.weight.any())

    def load(self, path: str | Path) -> None:
        """VPoser's own snapshot; :class:`PosesynError` where it is another file."""
        file, state = read_checkpoint(_snapshot(Path(path).expanduser()))
        decoder = decoder_state(state)
        check_state(decoder, self.state_dict(), file, "VPoser decoder")
        self.load_state_dict(decoder)


def decoder_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The decoder's tensors within VPoser's or an estimator's, under their own names."""
    found = {k[k.index(_DECODER) :]: v for k, v in state.items() if _DECODER in k}
    return found or dict(state)


def find_vposer() -> Path | None:
    """VPoser's newest snapshot in the folders of body models."""
    for root in search_folders():
        for folder in _FOLDERS:
            if files := sorted((root / folder).glob("snapshots/*.pt")):
                return files[-1]
    return None


def missing_vposer() -> str:
    """What to tell a user who lacks VPoser."""
    return (
        "pose_head='vposer' needs the weights of VPoser v1, of which there are none: load a 3DCrowdNet checkpoint, "
        "which holds them (`checkpoint`), name VPoser's folder or snapshot (`vposer`; from https://smpl-x.is.tue.mpg.de"
        f", after registering), put VPOSER_CKPT into a folder of {VARIABLE}, or use pose_head='sixd'"
    )


def _snapshot(path: Path) -> Path:
    if path.is_dir():
        files = sorted(path.glob("snapshots/*.pt"))
        if not files:
            raise PosesynError(f"vposer: the folder {path} holds no snapshots/*.pt; name VPoser's folder or its file")
        return files[-1]
    return path
