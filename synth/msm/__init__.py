"""Motion synthesis: from one wrong pose and a caption to motions around the true pose."""
