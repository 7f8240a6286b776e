"""A run that takes as long as a test needs, and gives what an undisturbed one gives."""

from pathlib import Path
from typing import Any

from tests.slurm.cluster import Cluster
from tests.slurm.faults import trouble, until
from tests.slurm.launching import Runs, results_of, undisturbed

STEPS: dict[str, Any] = {"training__steps": 120, "training__milestones": [8, 120]}
ONE = ("--only", "M = 2*")


class Slow:
    """One run that takes a second a step after its first milestone, until it is `released`."""

    def __init__(self, cluster: Cluster, folder: Path, *words: str):
        self.cluster, self._folder, self._release = cluster, folder, folder / "released"
        self._slow = trouble(folder, until(self._release, "time.sleep(0.1 if steps < 10 else 1)"))
        self.runs = Runs(cluster, folder / "runs")
        self.job, self.run = self.runs.one(*self._slow, *words, **STEPS)

    def launch(self, *words: str) -> str:
        """Launch it again; the training's job."""
        return self.runs.launch(*ONE, *self._slow, *words, **STEPS)[0]

    def wait_for_step(self, step: int, attempt: int = 1) -> None:
        def is_there() -> bool:
            state = self.run.state()
            return state.attempt == attempt and (state.step or 0) >= step

        self.cluster.wait_for(is_there, 240)

    def node(self) -> int:
        """The number of the first on which it runs."""
        nodes = self.cluster.run("squeue", "--noheader", f"--job={self.job}", "--format=%B")
        return int(nodes.strip().removeprefix("a100-"))

    def release(self) -> None:
        self._release.touch()

    def results(self) -> tuple[Any, Any]:
        """When it is done."""
        self.release()
        self.runs.wait_for_state("done")
        return results_of(self.run)

    def undisturbed(self) -> tuple[Any, Any]:
        return undisturbed(self.run, self._folder / "undisturbed")
