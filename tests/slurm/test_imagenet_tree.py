"""Latents on the cluster: the records are those of this machine, and the figures are made of them."""

from pathlib import Path

from tests.slurm.cluster import Cluster
from tests.slurm.launching import Runs, local_results
from tests.support import imagenet_tree


def test_records_are_those_of_the_local_executor(cluster: Cluster, tmp_path: Path) -> None:
    imagenet_tree.write_tree(tmp_path)
    imagenet_tree.prepare(tmp_path)
    runs = Runs(cluster, tmp_path / "runs")
    arguments = [
        "--grid",
        "hourglass_vs_patch",
        "--seeds",
        "1",
        "--base",
        str(imagenet_tree.write_base(tmp_path, "tiny-latents", "latents")),
    ]
    runs.output_of("ablations/launch.py", *arguments, "--executor", "slurm", "--profile", "cpu")
    assert runs.watch().endswith("3 runs: 3 done\n")
    results = runs.results()
    assert len(results) == 3
    assert all(losses and {step for step, _, _ in records} == {20, 40} for records, losses in results.values())
    assert results == local_results(tmp_path / "local", *arguments)
    runs.output_of("reports/make_figures.py", "--out", str(tmp_path / "out"))
    assert (tmp_path / "out/hourglass_vs_patch/tiny-latents/samples.png").stat().st_size > 10_000
