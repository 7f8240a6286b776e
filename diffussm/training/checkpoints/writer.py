"""Writing of checkpoints by a thread, while the training goes on."""

import contextlib
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from diffussm.errors import one_line
from diffussm.store.rundir import RunDir
from diffussm.store.workdir import FULL_DISK_ERRNOS
from diffussm.training.checkpoints.staging import Staging
from diffussm.training.state import TrainingState

OnWarning = Callable[[str], object]  # called with what went wrong; with "" once it is over


class CheckpointWriter:
    """Writes checkpoints of an attempt, and the weights of milestones, one after another.

    With `staging` the state is copied there first. Without, the thread reads the tensors of the training, and the next
    update of the state waits until it has. What the thread raises is raised by the next update, or by `wait`. As a
    context manager it ends with the thread.
    """

    def __init__(
        self, run: RunDir, state: TrainingState, attempt: int, on_warning: OnWarning, staging: Staging | None = None
    ):
        self._run, self._state, self._attempt = run, state, attempt
        self._on_warning, self._staging = on_warning, staging
        self._executor = ThreadPoolExecutor(1, "checkpoints")
        self._work: Future[None] | None = None
        self._usual, state.before_update = state.before_update, self._before_update
        if staging:  # in the thread: it takes seconds
            self._work = self._executor.submit(staging.prepare, state.most_bytes())

    @property
    def is_busy(self) -> bool:
        return self._work is not None and not self._work.done()

    def write(self, kinds: Collection[str], is_last: bool) -> None:
        """Begin to write the weights (ema | raw) of the state, and the state, once nothing else is being written.

        If the disk is full, the state is not written and the training goes on, unless it `is_last`.
        """
        self.wait()
        content = self._state.content()
        if self._staging:
            content = self._staging.copy(content)
        self._work = self._executor.submit(self._write, content, kinds, is_last)

    def wait(self) -> None:
        """Return once nothing is being written; raise what the thread raised."""
        work, self._work = self._work, None
        if work:
            work.result()

    @contextlib.contextmanager
    def tolerating_full_disk(self, step: int) -> Iterator[None]:
        """Warn of a full disk, instead of raising the error, inside."""
        try:
            yield
        except OSError as error:
            if error.errno not in FULL_DISK_ERRNOS:
                raise
            self._warn(f"{one_line(error)}; the training goes on without a checkpoint of step {step}")

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._state.before_update = self._usual
        if self._staging:
            self._staging.close()
        if self._work and (error := self._work.exception()):  # another error was first
            traceback.print_exception(error)

    def _write(self, content: dict[str, Any], kinds: Collection[str], is_last: bool) -> None:
        for kind in kinds:
            self._state.save_weights(self._run, kind, content)
        with contextlib.nullcontext() if is_last else self.tolerating_full_disk(content["step"]):
            self._state.save(self._run, self._attempt, content)
            self._on_warning("")

    def _before_update(self) -> None:
        if not (self._staging and self.is_busy):
            self.wait()

    def _warn(self, message: str) -> None:
        self._on_warning(message)
        with contextlib.suppress(OSError):  # the log may be on the same disk
            print(f"warning: {message}", file=sys.stderr, flush=True)
