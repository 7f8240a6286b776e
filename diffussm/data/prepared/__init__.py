"""Prepared data sets: a folder with a manifest and shards that NumPy can memory-map. Training reads nothing else.

    manifest.json        what is in it (`manifest`)
    pixels-00000.npy     uint8 (n, C, H, W), n images of the shard
    labels.npy           int64 (N,), 0 .. classes - 1; 0 where there are no classes
    sha256.npy           uint8 (N, 32), the SHA-256 of each image's bytes
    sources.txt          where each image came from, one line each
    broken.txt           images that were left out as broken, if any: name, tab, reason

The digest of its content (`manifest.digest`) is that of kind and shape, `sha256.npy` and `labels.npy`: it depends on
what training reads, not on paths, shard sizes or versions.
"""
