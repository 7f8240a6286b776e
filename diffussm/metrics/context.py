"""What surrounds an evaluation: the processes that share it, what may stop it, and to whom it reports."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.metrics.shards import Batch, Shards
from diffussm.stopping import StopRequest


def no_report(done: int) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class EvaluationContext:
    """`report` is called with the number of samples that are there; `stop` is polled between steps of the sampler."""

    processes: ProcessGroup = SINGLE_PROCESS
    stop: StopRequest = field(default_factory=StopRequest)
    report: Callable[[int], object] = no_report

    def missing(self, shards: Shards) -> Iterator[Batch]:
        """Yield this process's share of the batches that are missing, and report before the first and after each.

        To be iterated over in all of the processes. The number reported is as far as this process knows.
        """
        missing = self.processes.on_rank_zero(shards.missing)
        done = shards.count - sum(batch.size for batch in missing)
        self.report(done)
        for batch in self.processes.strided_shard(missing):
            yield batch
            done += batch.size * self.processes.world_size
            self.report(min(done, shards.count))


ALONE = EvaluationContext()
