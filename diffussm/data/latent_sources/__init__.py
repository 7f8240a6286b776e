"""Latents that other programs have written, one file for each of their layouts, behind one interface (`base`).

Nothing here unpickles anything: arrays of Python objects are refused, and `.pt` files are read for their tensors alone.
"""
