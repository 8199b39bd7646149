"""Floor 5: the ``lightning`` and ``posesyn`` commands."""
