"""A process that compares, in turns, how long a training is held up by a checkpoint that is staged, and how long a bare
copy of as much memory takes; and how long writing takes, and `dd conv=fsync` of as much."""

import json
import sys
from pathlib import Path
from statistics import median

import torch

from diffussm.run.execution import resolve_execution
from diffussm.store.rundir import RunDir
from diffussm.training.checkpoints.staging import Staging
from diffussm.training.checkpoints.writer import CheckpointWriter
from diffussm.training.trainer import Trainer
from tests.full_size.shared import anonymous_bytes, config_of, dd_seconds, kill_first, tensors, timed

MODEL, DEPTH = "DiffuSSM-XL", 8
ROUNDS = 5


def main(folder: Path) -> None:
    kill_first()
    config = config_of(folder, MODEL, DEPTH)
    run = RunDir.create(folder / "runs", config)
    trainer = Trainer(config, resolve_execution(run, config).backend)
    trainer.step()
    trainer.state.optimiser.zero_grad()
    size = sum(tensor.nbytes for tensor in tensors(trainer.state.content()))
    before, staging = anonymous_bytes(), Staging(torch.device("cpu"))
    staging.prepare(trainer.state.most_bytes())
    reserved = anonymous_bytes() - before
    source, target = (torch.ones(size, dtype=torch.uint8) for _ in range(2))
    stalls: list[float] = []
    copies: list[float] = []
    writings: list[float] = []
    dds: list[float] = []
    with CheckpointWriter(run, trainer.state, 1, print, staging) as writer:
        for _ in range(ROUNDS):
            writer.wait()
            with timed(copies):
                target.copy_(source)
            with timed(writings):
                with timed(stalls):
                    writer.write((), True)
                writer.wait()
            writings[-1] -= stalls[-1]
            run.checkpoints()[0].unlink()  # as dd's file is deleted: not in the time of the next
            dds.append(dd_seconds(folder, size))
    found = {"stall": stalls, "copy": copies, "writing": writings, "dd": dds}
    print(json.dumps({"size": size, "reserved": reserved} | {name: median(times) for name, times in found.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
