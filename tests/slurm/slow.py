"""A run that takes as long as a test needs, and gives what an undisturbed one gives."""

from pathlib import Path
from typing import Any

from tests.slurm.cluster import Cluster
from tests.slurm.launching import Runs, local_results, results_of
from tests.slurm.trouble import mixer, until

STEPS = {"training__steps": 400, "training__milestones": [8, 400]}
ONE = ("--only", "M = 2*")


class Slow:
    """One run that takes a second a step after its first milestone, until it is `released`."""

    def __init__(self, cluster: Cluster, folder: Path, *words: str):
        self.cluster, self._release = cluster, folder / "released"
        slow = until(self._release, "time.sleep(0.1 if self.step < 10 else 1)")
        self.changes: dict[str, Any] = {"model__mixer": mixer(folder, slow), **STEPS}
        self.runs = Runs(cluster, folder / "runs", folder)
        self.job, self.run = self.runs.one(*words, **self.changes)

    def launch(self, *words: str) -> str:
        """Launch it again; the training's job."""
        return self.runs.launch(*ONE, *words, **self.changes)[0]

    def wait_for_step(self, step: int, attempt: int = 1) -> None:
        def is_there() -> bool:
            said = self.run.state()
            return said.get("attempt") == attempt and said.get("step", 0) >= step

        self.cluster.wait_for(is_there, 90)

    def node(self) -> int:
        """The number of the first on which it runs."""
        nodes = self.cluster.run("squeue", "--noheader", f"--job={self.job}", "--format=%B")
        return int(nodes.strip().removeprefix("a100-"))

    def release(self) -> None:
        self._release.touch()

    def results(self) -> dict[str, Any]:
        """When it is done."""
        self.release()
        self.runs.wait_for_state("done")
        return {self.run.run_id: results_of(self.run)}

    def local_results(self, folder: Path) -> dict[str, Any]:
        words = self.runs.grid(*ONE, **self.changes)
        return local_results(folder / "local", *words, folder=folder)
