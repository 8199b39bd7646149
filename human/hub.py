"""Model repositories of the Hugging Face hub, in the hub's own cache.

``huggingface_hub`` does the work, so its environment holds: ``HF_HOME``, ``HF_HUB_OFFLINE``, ``HF_ENDPOINT``, a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from human.errors import PosesynError
from human.members import Member, sha256_of


def locate(repo: str, revision: str, members: Sequence[Member]) -> Path | None:
    """The snapshot's folder if every member is there with its size (hashes are :func:`fetch`'s business), else None."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        # Without patterns a snapshot counts as missing that lacks files of the repository which nobody wants.
        wanted = [m.path for m in members]
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=wanted))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
        return None
    return folder if all(_there(folder, m) for m in members) else None


def fetch(name: str, repo: str, revision: str, members: Sequence[Member], size: int) -> Path:
    """The snapshot's folder with every member, downloaded where missing and verified as far as the manifest knows.

    Args:
        size: of all members, bytes, for the message.

    Raises:
        PosesynError: no network or offline by choice, no access, no room, or a file that is not the manifest's.
    """
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    named = " ".join(m.path for m in members if not m.pattern)
    # Patterns are an option of that command, which names take the place of.
    command = f"hf download {repo} --revision {revision}" + ("" if any(m.pattern for m in members) else f" {named}")
    where: dict[str, Any] = {"repo_id": repo, "revision": revision}
    try:
        folder = locate(repo, revision, members) or Path(
            snapshot_download(allow_patterns=[m.path for m in members], **where)
        )
        for member in members:
            if not member.pattern and not (_there(folder, member) and _same(folder, member)):  # a damaged copy
                hf_hub_download(filename=member.path, force_download=True, **where)
            if not _there(folder, member) or not _same(folder, member):
                raise PosesynError(
                    f"asset {name!r}: {member.path} of {repo}@{revision} is not the file that the manifest names "
                    f"(expected {member.size or 'any number of'} bytes, sha256 {member.sha256[:12] or 'any'}...): "
                    "the hub serves another one"
                )
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PosesynError(
            f"asset {name!r} ({size / 1e9:.1f} GB) could not be downloaded into the hub's cache ({reason}): check the "
            f"network, HF_HUB_OFFLINE and HF_TOKEN, or run `{command}` elsewhere and bring the cache (HF_HOME)"
        ) from error
    return folder


def _there(folder: Path, member: Member) -> bool:
    if member.pattern:
        return any(file.is_file() for file in folder.glob(member.path))
    file = folder / member.path
    return file.is_file() and member.size in (0, file.stat().st_size)


def _same(folder: Path, member: Member) -> bool:
    file = folder / member.path
    return not member.sha256 or sha256_of(file.resolve(), file.stat().st_mtime_ns) == member.sha256
