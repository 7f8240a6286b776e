"""What `diffussm cost --memory` says: the account, whether it fits a GPU, and what would."""

import pytest

from diffussm.config import Config, parse_settings, resolve
from diffussm.cost.command import Gpus, report
from diffussm.cost.memory.fit import Fit
from diffussm.cost.named import named_config
from tests.support.costs import COLUMNS, WITHOUT_MACS, row, rows

XL = named_config("DiffuSSM-XL")


def test_the_memory_of_xl_on_eight_a100s() -> None:
    """Weights, gradients, moments and EMA take 14.1 GB by hand; 39 GB of activations were counted on fake tensors."""
    assert str(Fit(XL, 8, 80)) == (
        "about 55 of 80 GB a GPU at 32 images; micro_batch = 16: 38; checkpointing = block: 19"
    )


@pytest.mark.parametrize(
    ("config", "memory_gb", "sentence"),
    [
        (XL, None, "about 55 GB a GPU at 32 images; micro_batch = 16: 38; checkpointing = block: 19"),
        (
            XL,
            40,
            "about 55 of 40 GB a GPU at 32 images, which does not fit; micro_batch = 16 (38) or "
            "checkpointing = block (19) would",
        ),
        (
            XL,
            19,
            "about 55 of 19 GB a GPU at 32 images, which does not fit; "
            "micro_batch = 2 and checkpointing = block (19) would",
        ),
        (XL, 11, "about 55 of 11 GB a GPU at 32 images, which does not fit by any micro_batch and checkpointing"),
        (
            named_config("DiffuSSM-XL", {"training.batch": 8}),
            80,
            "about 17 of 80 GB a GPU at 1 image; checkpointing = block: 16",
        ),
        (resolve("digits", parse_settings([WITHOUT_MACS])), 80, "unknown, as the mixer does not say what it keeps"),
    ],
)
def test_what_fits_and_what_would(config: Config, memory_gb: float | None, sentence: str) -> None:
    fit = Fit(config, 8, memory_gb)
    assert str(fit) == sentence
    assert fit.fits == ("does not fit" not in sentence)


def test_alternatives_are_of_the_settings_in_use() -> None:
    config = named_config("DiffuSSM-XL", {"training.micro_batch": 8, "training.checkpointing": "block"})
    assert str(Fit(config, 8, 80)) == "about 20 of 80 GB a GPU at 8 images"


def test_parts_and_their_sums_as_json() -> None:
    found = row("DiffuSSM-XL", resolution="256", gpus=Gpus())
    assert list(found) == [*COLUMNS, "memory"]
    memory = found["memory"]
    assert list(memory) == [
        "gpus",
        "gpu_memory_gb",
        "images",
        "micro_batches",
        "peak_bytes",
        "fits",
        "alternatives",
        "parts",
    ]
    assert (memory["gpus"], memory["images"], memory["micro_batches"], memory["fits"]) == (8, 32, 1, True)
    assert sum(part["bytes"] for part in memory["parts"]) == memory["peak_bytes"]
    assert all(part["times"] * part["bytes_of_one"] == part["bytes"] for part in memory["parts"])
    assert [(one["micro_batch"], one["checkpointing"]) for one in memory["alternatives"]] == [
        (16, "none"),
        (32, "block"),
    ]


def test_a_table_for_each_resolution() -> None:
    shown = report(["DiT-S/8"], (), {}, False, False, False, Gpus(2, 24))
    sentences = [line for line in shown.splitlines() if ", memory: " in line]
    assert sentences[0] == (
        "DiT-S/8 at 256, memory: about 1.3 of 24 GB a GPU at 128 images; micro_batch = 64: 1.1; "
        "checkpointing = block: 0.8."
    )
    assert len(sentences) == 4
    assert shown.count("\nblock.attn.qkv ") == shown.count("\nactivations (all of them) ") == 4


def test_a_mixer_from_outside_has_no_table() -> None:
    assert row("digits", WITHOUT_MACS, gpus=Gpus())["memory"] is None
    shown = report(["digits"], (), parse_settings([WITHOUT_MACS]), False, False, False, Gpus())
    assert shown.endswith("digits at 8px, memory: unknown, as the mixer does not say what it keeps.")


def test_the_backend_that_computes_on_a_gpu() -> None:
    compiled, chunked, fft = (
        row("digits", f"training.backend={backend}", gpus=Gpus())["memory"]
        for backend in ("compiled", "chunked", "fft")
    )
    assert compiled == chunked != fft


def test_without_the_option_there_is_no_memory() -> None:
    assert all("memory" not in one for one in rows("DiT-S/8"))
