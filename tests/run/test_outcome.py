"""What each exception means for the attempt that it ends."""

import errno
import pickle

import pytest
import torch

from diffussm.errors import Diverged, NotFinite, UserError
from diffussm.run.outcome import Outcome, outcome_of, print_failure
from diffussm.stopping import Stopped, Superseded

CASES: list[tuple[BaseException | None, Outcome, str]] = [
    (None, Outcome("done"), "done"),
    (Stopped("SIGTERM"), Outcome("stopped", "SIGTERM"), "stopped"),
    (Stopped("SIGUSR2", "preempted", 7), Outcome("preempted", "SIGUSR2"), "stopped"),
    (Stopped("time limit", "timed out"), Outcome("timed out", "time limit"), "stopped"),
    (Stopped("cancelled", "cancelled"), Outcome("cancelled", "cancelled"), "cancelled"),
    (Superseded("attempt 2 owns it"), Outcome("superseded", "attempt 2 owns it"), "superseded"),
    (KeyboardInterrupt(), Outcome("stopped", "interrupted"), "stopped"),
    (UserError("a\n  mistake"), Outcome("failed", "a mistake"), "failed"),
    (Diverged("loss is nan at step 3"), Outcome("diverged", "loss is nan at step 3"), "failed"),
    (NotFinite("a: sample 3 is not finite"), Outcome("failed", "a: sample 3 is not finite"), "failed"),
    (ValueError("odd"), Outcome("failed", "rank 1: ValueError: odd"), "failed"),
]


@pytest.mark.parametrize(("error", "expected", "kind"), CASES)
def test_outcomes(error: BaseException | None, expected: Outcome, kind: str) -> None:
    outcome = outcome_of(error, where="rank 1: ")
    assert outcome == expected
    assert outcome.kind == kind


@pytest.mark.parametrize(
    ("error", "at_start", "later"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True, True),
        (OSError(errno.ESTALE, "Stale file handle"), True, True),
        (FileNotFoundError(errno.ENOENT, "No such file"), False, False),
        (RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"), True, True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True, False),
        (MemoryError(), True, False),
        (torch.OutOfMemoryError(), True, False),
        (UserError("out of memory"), False, False),
        (ValueError("closed by peer"), False, False),
    ],
)
def test_transient_failures(error: Exception, at_start: bool, later: bool) -> None:
    assert outcome_of(error).is_transient is at_start
    assert outcome_of(error, has_progress=True).is_transient is later


def test_stops_travel_between_processes() -> None:
    for error in (Stopped("SIGUSR2", "timed out").at(7), Superseded("attempt 2 owns it")):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert (copy.reason, copy.phase, copy.step, str(copy)) == (error.reason, error.phase, error.step, str(error))


def test_failures_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_failure(UserError("seed = -1: must not be negative"))
    assert capsys.readouterr().err == "error: seed = -1: must not be negative\n"
    try:
        raise ValueError("odd")
    except ValueError as error:
        print_failure(error)
    stderr = capsys.readouterr().err
    assert stderr.startswith("Traceback")
    assert 'raise ValueError("odd")' in stderr
