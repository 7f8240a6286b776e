"""Options about latents, of encoding and of importing alike: numbers, for all channels or for each, and types."""

import math

from diffussm.errors import UserError

Numbers = tuple[float, ...]
DTYPES = ("float32", "float16")


def numbers(option: str, text: str) -> Numbers | None:
    """Return the numbers of an option's value, with commas between them; None if it is empty."""
    if not text:
        return None
    try:
        values = tuple(map(float, text.split(",")))
    except ValueError:
        values = ()
    if not values or not all(map(math.isfinite, values)) or (option == "--scale" and 0 in values):
        zero = ", none of them 0" if option == "--scale" else ""
        raise UserError(f"{option} {text}: allowed: numbers, with commas between them{zero}")
    return values


def of_channels(option: str, values: Numbers, channels: int) -> Numbers:
    """Return the values; UserError unless they are one, or one for each channel."""
    if len(values) not in (1, channels):
        raise UserError(f"{option}: has {len(values)} values; allowed: one, or one for each of {channels} channels")
    return values


def check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise UserError(f"--dtype {dtype}: allowed: {' or '.join(DTYPES)}")


def black_and_white(values: Numbers) -> tuple[float, float]:
    """Return the values of --vae-range; UserError unless they are two, the lower first."""
    if len(values) != 2 or values[0] >= values[1]:
        raise UserError(
            f"--vae-range {','.join(f'{value:g}' for value in values)}: allowed: two numbers, what black and what "
            "white are, such as -1,1 or 0,1"
        )
    return values[0], values[1]
