"""What the precision of sampling does to samples and metrics: `python -m bench.precision RUN ...`.

Each run's last milestone is sampled in float32, TF32 and bf16 from the same noise. For each: FID with its 95 % interval
over samples, and the shares of pixels that are those of float32, and within one grey level of them. On a CPU TF32 is
float32.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffussm.config import Config
from diffussm.distributed.group import select_device
from diffussm.host.machine import processor
from diffussm.metrics.key import evaluation_key
from diffussm.metrics.sampling import Samples, generate
from diffussm.metrics.suite import metric_suite
from diffussm.models.trained import load_network, requested_config
from diffussm.store.rundir import RunDir
from diffussm.tables import markdown

PRECISIONS = ("float32", "tf32", "bf16")
HEADINGS = ("run", "step", "n", "precision", "FID", "95 % interval", "pixels equal", "within one grey level")


def rows(path: Path, device: str) -> list[list[str]]:
    """Return a row of the table for each precision."""
    run = RunDir(path)
    config = requested_config(run, {})
    step = max(run.kept_milestones(config.evaluation.weights))
    network = load_network(run, config, config.evaluation.weights, step, "auto", device)
    out: list[list[str]] = []
    exact: NDArray[np.uint8] | None = None
    for precision in PRECISIONS if device != "cpu" else ("float32", "bf16"):
        of_precision = _in(config, precision)
        samples = generate(of_precision, network, config.evaluation.samples, device)
        exact = samples.pixels if exact is None else exact
        fid = _fid(of_precision, samples, device)
        off = np.abs(samples.pixels.astype(int) - exact)
        interval = f"{fid['fid_samples_low']:.3f} to {fid['fid_samples_high']:.3f}"
        shares = (f"{(off <= levels).mean():.2%}" for levels in (0, 1))
        out.append(
            [run.run_id, str(step), str(config.evaluation.samples), precision, f"{fid['fid']:.3f}", interval, *shares]
        )
    return out


def _in(config: Config, precision: str) -> Config:
    changes: dict[str, Any] = {"precision": precision, "metrics": ("fid",)}
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update=changes)})


def _fid(config: Config, samples: Samples, device: str) -> dict[str, float]:
    suite = metric_suite(config.evaluation, evaluation_key(config), device)
    return suite.measure_images(samples.pixels, samples.labels)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    device = select_device()
    table = [row for path in parser.parse_args(arguments).runs for row in rows(path, device)]
    print(markdown(HEADINGS, table, right_aligned=(1, 2, 4, 6, 7)))
    print(f"\nOn {processor() if device == 'cpu' else device}.")


if __name__ == "__main__":
    main(sys.argv[1:])
