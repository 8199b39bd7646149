"""Diffusion-HPC's planner: from words or pictures to recovered, hard and augmented meshes, as jobs for any engine."""
