"""LSUN, as it is published: an LMDB of WebP images for each class and split (`source`), whose file is checked before
lmdb opens it (`structure`)."""
