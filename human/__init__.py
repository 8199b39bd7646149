"""Floor 0: skeletons, rotations, cameras, bodies, the rasteriser and :class:`human.batch.PoseBatch`."""
