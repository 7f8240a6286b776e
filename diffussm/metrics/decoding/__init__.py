"""Decoding of sampled latents: `given` finds the autoencoder and what is wrong with it, without torch; `decoder` runs
it; `pixels` makes bytes of images."""
