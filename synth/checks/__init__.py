"""Checks of generated pictures; importing this package registers the built-in ones."""

from synth.checks.base import CHECKS, Check, Checked, run_checks

__all__ = ["CHECKS", "Check", "Checked", "run_checks"]
