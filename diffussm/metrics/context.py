"""The context of an evaluation: the processes that share it, the request to stop it, and the callback for its
progress."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.metrics.shards import Batch, Shards
from diffussm.stopping import StopRequest


def no_report(done: int) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class EvaluationContext:
    """`report` is called with the number of samples made so far; `stop` is polled between steps of the sampler."""

    processes: ProcessGroup = SINGLE_PROCESS
    stop: StopRequest = field(default_factory=StopRequest)
    report: Callable[[int], object] = no_report

    def missing(self, shards: Shards) -> Iterator[Batch]:
        """Yield this process's share of the batches that are missing, and report before the first and after each.

        All processes must iterate over it. The number reported assumes that the other processes are as fast as this
        one.
        """
        missing = self.processes.on_rank_zero(shards.missing)
        done = shards.count - sum(batch.size for batch in missing)
        self.report(done)
        for batch in self.processes.strided_shard(missing):
            yield batch
            done += batch.size * self.processes.world_size
            self.report(min(done, shards.count))


SINGLE_PROCESS_CONTEXT = EvaluationContext()
