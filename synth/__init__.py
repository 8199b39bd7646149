"""Synthesis: scenes, appearance, image engines."""
