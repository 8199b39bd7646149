"""``posesyn COMMAND ...``: everything that is not training."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from human.errors import PosesynError

#: Command -> (the module whose ``run`` it is, what it does). A module is imported only when asked for.
COMMANDS: dict[str, tuple[str, str]] = {
    "bench": ("cli.bench", "an estimator, or predictions made elsewhere, on data sets under their protocols"),
    "synth": ("cli.synth", "mine once and make the samples, here or on a Ray cluster; --plan says what it takes"),
    "report": ("cli.report", "what runs mined, made and learned, as one HTML page"),
    "dashboard": ("cli.dashboard", "the workspace of a project at W&B: benchmark, loop, galleries, times"),
    "quality": ("cli.quality", "a pool's pictures beside real ones: FID, KID, alignment, pass rates, diversity"),
    "assets": ("cli.assets", "list and fetch the files that posesyn can download"),
    "doctor": ("cli.doctor", "what this machine has: versions, devices, assets; --list shows every registered plug-in"),
    "export": ("cli.export", "an estimator as a file that runs without posesyn: torch.export or ONNX"),
}


def usage() -> str:
    """The text of ``--help``."""
    lines = [f"  {name:<9} {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: posesyn COMMAND ...",
            "",
            "commands:",
            *lines,
            "",
            "Training, validation and prediction: lightning fit|validate|test|predict --config FILE",
            "`posesyn COMMAND --help` tells more of each.",
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> None:
    """The ``posesyn`` command. Bad input ends in one line on stderr and exit status 2."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print(usage(), end="")
        return
    if args[0] not in COMMANDS:
        print(f"error: posesyn has no command {args[0]!r}; it has {', '.join(COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
    try:
        import_module(COMMANDS[args[0]][0]).run(args[1:])
    except PosesynError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
