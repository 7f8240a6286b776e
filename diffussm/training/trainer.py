"""One run in memory, and its training step: a function of (config, step), however often the run was interrupted."""

from contextlib import AbstractContextManager

from diffussm.config import Config
from diffussm.data.load import is_embedded, training_data
from diffussm.diffusion.gaussian import GaussianDiffusion, Losses
from diffussm.diffusion.sampling import training_schedule
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.host.read_ahead import ReadAhead
from diffussm.models.build import build_model
from diffussm.precision import autocast, products
from diffussm.training.batches import Batch, Batches, micro_batch_maker
from diffussm.training.parallel import local_micro_batches, no_sync, wrap_ddp
from diffussm.training.schedule import lr_factor
from diffussm.training.state import TrainingState

MICRO_BATCHES_AHEAD = 2  # read before they are wanted


class Trainer:
    """A run's training state and what updates it: `step` makes one update.

    Each process of several computes its micro-batches of the batch, and all come to the same state. `micro_batches` is
    the number of parts of a batch, if above the number of processes; `training.micro_batch` splits them further.
    """

    def __init__(
        self,
        config: Config,
        backend: str,
        device: str = "cpu",
        processes: ProcessGroup = SINGLE_PROCESS,
        micro_batches: int = 1,
    ):
        self.config, self.device, self.processes = config, device, processes
        training = config.training
        self.micro_batches = local_micro_batches(training.batch, processes, micro_batches, training.micro_batch)
        self.batches = Batches(config, training_data(config.data))
        may_wait = device != "cpu" or not is_embedded(config.data.name)  # for the disk, or the GPU for the CPU
        make = micro_batch_maker(self.batches, self.micro_batches, device)
        self._read_ahead = ReadAhead(make, MICRO_BATCHES_AHEAD if may_wait else 0)
        self.diffusion = GaussianDiffusion(training_schedule(config.diffusion), config.diffusion, device)
        model = build_model(config, backend).to(device)
        model.blocks.recompute = training.checkpointing == "block"
        if training.compile == "block":
            model.blocks.compile_each()
        self.state = TrainingState(model, training)
        self.network = wrap_ddp(self.state.model, processes)
        if processes.world_size > 1:
            self._rebuild_ddp_buckets()

    def step(self) -> Losses:
        """Make a forward pass, a backward pass and an update; return the batch's mean losses.

        Of several processes, each returns what its own samples add to these means.
        """
        self.state.optimiser.zero_grad()
        first = self.state.step * len(self.micro_batches)
        *earlier, last = range(first, first + len(self.micro_batches))
        with self._products():
            with no_sync(self.network):
                losses = [self._backward(self._read_ahead.get(position)) for position in earlier]
            losses.append(self._backward(self._read_ahead.get(last)))
        if self.config.training.clip:
            self.state.optimiser.clip_gradients(self.config.training.clip)
        self.state.before_update()
        self.state.optimiser.step(lr_factor(self.config.training, self.state.step))
        self.state.step += 1
        self.state.ema.update(self.state.step)
        return Losses(*(sum(parts[1:], parts[0]) for parts in zip(*losses, strict=True)))

    def close(self) -> None:
        """End the thread that reads ahead, if there is one."""
        self._read_ahead.close()

    def _products(self) -> AbstractContextManager[None]:
        return products(tf32=self.config.training.precision == "tf32")

    def _backward(self, micro_batch: Batch) -> Losses:
        """Add to the gradients; return what the micro-batch's samples add to the batch's mean losses."""
        x0, y, index, noise = micro_batch.to(self.device)
        xt = self.diffusion.add_noise(x0, index, noise)
        with autocast(self.config.training.precision, x0.device):
            output = self.network(xt, index, y)
        losses = self.diffusion.losses(output.float(), x0, xt, index, noise)
        weight = len(x0) / self.config.training.batch
        losses = Losses(*(part.mean() * weight for part in losses))
        (losses.total * self.processes.world_size).backward()
        return Losses(*(part.detach() for part in losses))

    def _rebuild_ddp_buckets(self) -> None:
        """Make one backward pass and discard its gradients.

        DDP rebuilds its gradient buckets after the first pass, which changes the order of summation; without this, the
        first step of a resumed run would be rounded differently than in an uninterrupted run.
        """
        start, images = self.micro_batches[0]
        images = images if self.config.training.compile == "block" else 1  # a graph is for one number of them
        with self._products():
            self._backward(self.batches.draw(self.state.step, start, images))
        self.state.optimiser.zero_grad()
