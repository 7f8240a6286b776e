"""S4D in plain PyTorch at any length: a dense product inside a chunk, a carried state across chunks."""
