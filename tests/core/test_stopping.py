"""Requests to stop: made once, by a signal or by a program, and polled."""

import os
import signal

import pytest
import torch

from diffussm.config import resolve
from diffussm.diffusion.sampling import make_sampler
from diffussm.stopping import Stopped, StopRequest, stopped_by


def test_the_first_request_holds() -> None:
    stop = StopRequest()
    assert stop.stopped is None
    stop.check()
    stop.set(Stopped("SIGTERM"))
    stop.set(Stopped("cancelled", "cancelled"))
    with pytest.raises(Stopped, match="SIGTERM"):
        stop.check()


def test_a_request_within_another() -> None:
    process = StopRequest()
    one, two = StopRequest(process), StopRequest(process)
    one.set(Stopped("cancelled", "cancelled"))
    assert process.stopped is None
    assert two.stopped is None
    process.set(Stopped("SIGTERM"))
    assert one.stopped
    assert one.stopped.reason == "cancelled"
    assert two.stopped is process.stopped
    two.set(Stopped("later"))
    assert two.stopped is process.stopped


def test_signals_make_requests() -> None:
    before, stop = signal.getsignal(signal.SIGUSR2), StopRequest()
    with stop.set_on(signal.SIGUSR2):
        os.kill(os.getpid(), signal.SIGUSR2)
    assert signal.getsignal(signal.SIGUSR2) == before
    assert stop.stopped
    assert (stop.stopped.reason, stop.stopped.phase) == ("SIGUSR2", "preempted")
    assert stopped_by(signal.SIGTERM).phase == "stopped"


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpm-solver++", "unipc"])
def test_samplers_stop_between_steps(name: str) -> None:
    stop, calls = StopRequest(), []

    def network(x: torch.Tensor, t: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        calls.append(int(t[0]))
        if len(calls) == 2:
            stop.set(Stopped("SIGTERM"))
        return torch.zeros_like(x)

    config = resolve("digits", {"diffusion.learned_variance": False, "diffusion.loss": "simple"}).diffusion
    sample = make_sampler(config, name, 5, False, stop=stop)
    with pytest.raises(Stopped, match="SIGTERM"):
        sample(network, torch.zeros(2, dtype=torch.long), lambda _: torch.zeros(2, 1, 4, 4))
    assert len(calls) == 2
