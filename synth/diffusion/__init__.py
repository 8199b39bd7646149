"""Parts that the diffusion engines share."""
