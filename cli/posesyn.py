"""``posesyn assets|bench|doctor|export|synth``: everything that is not training."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from human.errors import PosesynError

USAGE = """usage: posesyn COMMAND ...

commands:
  bench     an estimator, or predictions made elsewhere, on data sets under their protocols
  assets    list and fetch the files that posesyn can download
  doctor    what this machine has: versions, devices, assets; --list shows every registered plug-in
  export    an estimator as a file that runs without posesyn: torch.export or ONNX
  synth     synthetic samples by many processes, on this machine or on a Ray cluster

Training, validation and prediction: lightning fit|validate|test|predict --config FILE
`posesyn COMMAND --help` tells more of each.
"""


def _assets(argv: Sequence[str]) -> None:
    from cli.assets import run

    run(argv)


def _bench(argv: Sequence[str]) -> None:
    from cli.bench import run

    run(argv)


def _doctor(argv: Sequence[str]) -> None:
    from cli.doctor import run

    run(argv)


def _export(argv: Sequence[str]) -> None:
    from cli.export import run

    run(argv)


def _synth(argv: Sequence[str]) -> None:
    from cli.synth import run

    run(argv)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "assets": _assets,
    "bench": _bench,
    "doctor": _doctor,
    "export": _export,
    "synth": _synth,
}


def main(argv: Sequence[str] | None = None) -> None:
    """The ``posesyn`` command. Bad input ends in one line on stderr and exit status 2."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print(USAGE, end="")
        return
    if args[0] not in COMMANDS:
        print(f"error: posesyn has no command {args[0]!r}; it has {', '.join(COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
    try:
        COMMANDS[args[0]](args[1:])
    except PosesynError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
