"""Checks of generated pictures; importing this package registers the built-in ones."""

from synth.checks import blank
from synth.checks.base import CHECKS, Check, Checked, CheckReport, run_checks
from synth.checks.build import make_check, make_checks

__all__ = ["CHECKS", "Check", "CheckReport", "Checked", "blank", "make_check", "make_checks", "run_checks"]
