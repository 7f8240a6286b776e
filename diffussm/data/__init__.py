"""Training data as uint8 images and labels."""
