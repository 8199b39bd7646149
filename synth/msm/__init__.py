"""Motion synthesis: from one wrong pose and a sentence to motions around the true pose (PoseSyn, section 3.2)."""
