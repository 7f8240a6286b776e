"""What forked processes find imported, as it takes up to seconds: torch with what optimizers import of it, numba with
its tables of types, Pillow with its formats, Diffusers' autoencoder."""

import sys

import PIL.Image
import torch._dynamo  # noqa: F401
from diffusers import AutoencoderKL  # noqa: F401
from numba.core.registry import cpu_target

cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()
PIL.Image.preinit()
for name in [name for name in sys.modules if name.partition(".")[0] == "anyio"]:
    del sys.modules[name]  # pytest, in a fork, warns of a plugin of its own that is imported already
