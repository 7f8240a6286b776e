"""The commands of slurm/README.md, as they stand there, one after the other, in a folder of the test's own."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.slurm.cluster import Cluster
from tests.slurm.launching import ROOT
from tests.support import tiny

README = (ROOT / "slurm/README.md").read_text()
ROOMS = ("ablations", "reports", "slurm")
NOT_HERE = ("git clone", "make .venv", ". .venv")  # the test's own environment stands for it
GIVES = {  # texts that the output of a command must contain
    "doctor": ["ok      accounting", "ok      requeue", "is shared with", "jobs have access to squeue and scontrol"],
    "--print-sbatch": ["#SBATCH --account=mylab", "#SBATCH --gpus-per-node=8", "GPU-hours, estimated"],
    "watch": ["1 done"],
    "status": [" done "],
    "throttle=4": ["Submitted job"],
    "evaluate": ["label accuracy"],
}


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", README, flags=re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line and not line.startswith(NOT_HERE)]


def here(command: str) -> str:
    """The same with a tiny model, of one arm, at few steps, and figures in this folder."""
    if "make_figures" in command:
        return f"{command} --out out"
    if "launch.py" not in command:
        return command
    settings = {key: value for key, value in tiny.SETTINGS.items() if key != "model.hourglass"} | {"training.batch": 8}
    given = shlex.join(word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}"))
    later = "--set-slurm begin=now+1hour" if "throttle" in command else ""  # eight tasks each, soon to be cancelled
    return f"{command} --only 'M = 2*' {given} {later}"


def test_every_command_of_the_walkthrough_works(cluster: Cluster, tmp_path: Path) -> None:
    for room in ROOMS:
        (tmp_path / room).symlink_to(ROOT / room)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**cluster.env, "PATH": path, "DIFFUSSM_CACHE": str(tmp_path / "cache")}
    for command in commands():
        done = subprocess.run(here(command), shell=True, executable="/bin/bash", cwd=tmp_path, env=environment,
                              capture_output=True, text=True)  # fmt: skip
        output = done.stdout + done.stderr
        if "doctor" in command:  # no GPU is behind those that SLURM gives here
            assert re.findall(r"^fail +(\w+)", output, flags=re.M) == ["GPUs"], output
        else:
            assert done.returncode == 0, f"{command}\n{output}"
        for key, texts in GIVES.items():
            if key in command:
                assert all(text in output for text in texts), f"{command}\n{output}"
    assert (tmp_path / "out/hourglass_vs_patch/digits/results.md").is_file()
