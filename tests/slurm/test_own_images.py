"""Anyone's images on the cluster: the records are those of this machine, and the figures are made of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.slurm.cluster import Cluster
from tests.slurm.launching import Runs, local_results
from tests.support import own_images


def test_records_are_those_of_the_local_executor(cluster: Cluster, tmp_path: Path) -> None:
    own_images.write_folder(tmp_path)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in own_images.commands():
        if re.match("diffussm (data prepare|extractor|reference)", command):
            given = command.replace("extractor train", "extractor train --epochs 2")
            done = subprocess.run(given.split(), cwd=tmp_path, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    runs = Runs(cluster, tmp_path / "runs")
    arguments = ["--base", str(tmp_path / "mine.toml")]
    runs.launch(*arguments)
    assert runs.watch().endswith("3 runs: 3 done\n")
    results = runs.results()
    assert len(results) == 3
    assert all(losses and {step for step, _, _ in records} == {8, 16, 24} for records, losses in results.values())
    assert results == local_results(tmp_path / "local", *runs.grid(*arguments))
    runs.output_of("reports/make_figures.py", "--out", str(tmp_path / "out"))
    assert (tmp_path / "out/hourglass_vs_patch/mine/fid_over_steps.png").stat().st_size > 10_000
