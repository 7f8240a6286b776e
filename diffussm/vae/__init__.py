"""The autoencoder between images and latents: a local folder in Diffusers' format."""
