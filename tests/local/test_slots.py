"""Which GPUs the workers of a launch see, and that two launches do not use the same."""

import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import tests.support.tiny as tiny
from ablations.local import gpu_locks
from ablations.local.gpu_locks import Locks, lock_gpus, unlock
from ablations.local.pool import Pool
from ablations.local.slots import SlotLayout
from ablations.plan.job import Job
from ablations.status.overview import Row, text
from ablations.status.states import state_of
from diffussm.host import machine
from diffussm.host.source import ROOT
from diffussm.run.heartbeat import Liveness
from diffussm.run.outcome import Outcome
from diffussm.run.tasks import Task, request_key
from diffussm.store.rundir import RunDir
from tests.local.test_endings import Callbacks, IdleWorker


@pytest.fixture(autouse=True)
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Locks]]:
    """Locks to be closed at the end, in a folder of the test's."""
    monkeypatch.setattr(gpu_locks, "lock_folder", lambda: tmp_path / "locks")
    locks = list[Locks]()
    yield locks
    for files in locks:
        unlock(files)


def with_gpus(slots: int, *gpus: str) -> SlotLayout:
    return SlotLayout(slots, threads=1, gpus=gpus, memory_gb=64)


def two_runs(tmp_path: Path) -> list[Job]:
    made = {"training__steps": 100_000, "training__milestones": [100_000]}
    return [Job(tiny.run_folder(tmp_path / "runs", seed=seed, **made), 1.0) for seed in range(2)]


def test_workers_are_spread_over_the_gpus() -> None:
    layout = with_gpus(4, "2", "5")
    assert [layout.gpus_of([slot]) for slot in range(4)] == [("2",), ("5",), ("2",), ("5",)]
    assert layout.gpus_of([0, 1]) == ("2", "5")
    assert layout.gpus_of(layout.spread_over_gpus([0, 2, 3])[:2]) == ("2", "5")
    assert with_gpus(2).gpus_of([0]) == ()


def can_lock(locks: Locks | None, held: list[Locks]) -> bool:
    """Whether these are locks, which are then held."""
    held += [locks] if locks else []
    return locks is not None


def test_a_gpu_is_locked_until_its_worker_ends(held: list[Locks]) -> None:
    assert can_lock(lock_gpus(["2", "GPU-8a/1"], shared=False), held)
    assert not can_lock(lock_gpus(["5", "2"], shared=False), held)
    assert not can_lock(lock_gpus(["2"], shared=True), held)
    assert can_lock(lock_gpus(["5"], shared=False), held)
    unlock(held[0])
    assert can_lock(lock_gpus(["2"], shared=False), held)


def test_a_gpu_has_one_lock_under_all_of_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: list[Locks]
) -> None:
    """CUDA_VISIBLE_DEVICES may name it by its number, by its UUID, or by the beginning of that."""
    for place, uuid in (("0000:01:00.0", "GPU-8a0f-77"), ("0000:02:00.0", "GPU-c31d-12")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "information").write_text(f"Model: \t\t NVIDIA A100\nGPU UUID: \t {uuid}\n")
    monkeypatch.setattr(machine, "NVIDIA_GPUS", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, 0")
    assert machine.gpus() == ["1", "0"]
    assert can_lock(lock_gpus(["1"], shared=False), held)
    assert not can_lock(lock_gpus(["GPU-c31d-12"], shared=False), held)
    assert not can_lock(lock_gpus(["GPU-c3"], shared=False), held)
    assert can_lock(lock_gpus(["GPU-8a0f-77"], shared=False), held)
    assert can_lock(lock_gpus(["GPU-of-no-GPU"], shared=False), held)


def test_launches_share_a_gpu_if_both_were_asked_to(held: list[Locks]) -> None:
    assert can_lock(with_gpus(2, "0").lock([0]), held)
    assert can_lock(with_gpus(3, "0").lock([2]), held)
    assert not can_lock(with_gpus(1, "0").lock([0]), held)


class Watching(Callbacks):
    """Looks at the environment of each process that works on a run, and ends the launch when there are two."""

    seen: Sequence[tuple[str, str]] = ()  # CUDA_VISIBLE_DEVICES, and what the status shows

    def on_progress(self, active: Sequence[tuple[int, Task]]) -> None:
        at_work = [task for _, task in active if task.folder.owner()]
        if len({task.run for task in at_work}) == 2:
            self.seen = [(self.visible_devices(task), self.status(task)) for task in at_work]
            raise KeyboardInterrupt

    @staticmethod
    def visible_devices(task: Task) -> str:
        process = task.folder.owner_process(task.folder.owner())
        environment = Path(f"/proc/{process.pid}/environ").read_bytes().decode().split("\0")
        return dict(entry.split("=", 1) for entry in environment if "=" in entry)["CUDA_VISIBLE_DEVICES"]

    @staticmethod
    def status(task: Task) -> str:
        run = RunDir(task.run)
        (request,) = run.requests()
        state = state_of(run, 100_000, [100_000], request_key(run.path, request), Liveness())
        line = text([Row("grid", "digits", "arm", 0, run, state)]).splitlines()[0]
        assert "GPU" in line
        return " ".join(state.gpus)


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks into /proc for the environment of processes")
def test_each_of_two_runs_sees_a_gpu_of_its_own(tmp_path: Path) -> None:
    watching = Watching()
    with pytest.raises(KeyboardInterrupt):
        Pool(two_runs(tmp_path), with_gpus(2, "3", "7"), ROOT, watching).work()
    assert sorted(watching.seen) == [(gpu, f"{platform.node()}:{gpu}") for gpu in ("3", "7")]


class Failing(IdleWorker):
    """Fails at once, whatever its task."""

    made: list[tuple[int, ...]]

    def __init__(self, slots: tuple[int, ...], _: SlotLayout, __: Path, locks: Locks):
        super().__init__(slots, Outcome("failed", "no GPU is real"))
        self.locks = locks
        self.made.append(slots)

    def close(self, _: float = 0.0) -> None:
        super().close()
        unlock(self.locks)


class Waiting(Callbacks):
    def __init__(self, locks: Locks):
        super().__init__()
        self.locks, self.waited = locks, list[list[str]]()

    def on_wait(self, gpus: Sequence[str]) -> None:
        self.waited.append(list(gpus))
        unlock(self.locks)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The slots of each worker that a pool makes."""
    monkeypatch.setattr(Failing, "made", [], raising=False)
    monkeypatch.setattr("ablations.local.pool.WorkerProcess", Failing)
    return Failing.made


def test_a_launch_leaves_gpus_of_another_alone(tmp_path: Path, made: list[tuple[int, ...]], held: list[Locks]) -> None:
    assert can_lock(lock_gpus(["3"], shared=False), held)
    waiting = Waiting([])
    Pool(two_runs(tmp_path), with_gpus(2, "3", "7"), ROOT, waiting).work()
    assert set(made) == {(1,)}
    assert waiting.waited == [["3"]]


def test_a_launch_waits_for_the_gpus_of_another(tmp_path: Path, made: list[tuple[int, ...]], held: list[Locks]) -> None:
    assert can_lock(lock_gpus(["3"], shared=False), held)
    waiting = Waiting(held[0])
    Pool(two_runs(tmp_path), with_gpus(1, "3"), ROOT, waiting).work()
    assert set(made) == {(0,)}
    assert waiting.waited == [["3"]]
