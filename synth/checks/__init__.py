"""Checks of generated pictures; importing this package registers the built-in ones."""

from synth.checks import alignment, blank, count, refine, symmetric
from synth.checks.base import CHECKS, Check, Checked, CheckReport, run_checks
from synth.checks.build import make_check, make_checks

__all__ = [
    "CHECKS",
    "Check",
    "CheckReport",
    "Checked",
    "alignment",
    "blank",
    "count",
    "make_check",
    "make_checks",
    "refine",
    "run_checks",
    "symmetric",
]
