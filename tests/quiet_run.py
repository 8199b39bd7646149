"""``python -m tests.quiet_run DATA RUN EPOCHS THREADS``: the tiny run without W&B; writes its weights, and what it
asked of any network and which programs it started.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

ASKED: list[str] = []


def watch(event: str, args: tuple[Any, ...]) -> None:
    """An audit hook: names, addresses and programs. A Unix socket's address is a path, and stays here."""
    if event == "socket.getaddrinfo" or (event in ("socket.connect", "socket.sendto") and not _local(args[1])):
        ASKED.append(f"{event} {args[1:]}")
    elif event == "subprocess.Popen":
        ASKED.append(f"{event} {args[1]}")


def _local(address: Any) -> bool:
    return isinstance(address, str | bytes)


if __name__ == "__main__":
    sys.addaudithook(watch)
    from lightning.pytorch.loggers import CSVLogger

    from tests.tiny import tiny_data, tiny_hmr, tiny_refresh, tiny_trainer

    data, run = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(int(sys.argv[4]))
    model, logger = tiny_hmr(), CSVLogger(run, name="", version="log")
    tiny_trainer(run, tiny_refresh(), epochs=int(sys.argv[3]), logger=logger).fit(
        model, datamodule=tiny_data(data, run)
    )
    torch.save(model.state_dict(), run / "weights.pt")
    (run / "asked.json").write_text(json.dumps(ASKED))
