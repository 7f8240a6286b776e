"""S4D in plain PyTorch at any length: a dense product inside a chunk, a carried state across chunks.

`portable` chooses the form: `blocks` of channels on CPUs, all of them at once (`batched`) on GPUs."""
