"""What torchrun needs to start processes again: a store without what those before left in it, and the error of each.

torchrun's store outlives the processes. Those of each start agree on a name, and write below it: rank zero chooses one
and answers whoever asks, and the others ask under a new name of their own, so that no old answer is taken for theirs.
"""

import os
import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from diffussm.distributed.launch_environment import LaunchInfo
from diffussm.distributed.rendezvous import RENDEZVOUS_TIMEOUT
from diffussm.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

POLL_SECONDS = 0.05


def open_torchrun_store(launch: LaunchInfo, timeout: timedelta) -> "Store":
    """Return an empty store that the processes of this start share; later operations on it have `timeout`.

    Raises UserError if not all of them ask rank zero for it within half an hour.
    """
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    reach = timedelta(seconds=RENDEZVOUS_TIMEOUT)
    store, _, _ = next(rendezvous("env://", launch.rank, launch.world_size, timeout=reach))
    name = _answer(store, launch.world_size) if launch.rank == 0 else _ask(store, launch.rank)
    found = PrefixStore(name, store)
    found.set_timeout(timeout)
    return found


def record_error(error: BaseException) -> None:
    """Record the error where torchrun, if it started this process, looks for the first one of all processes: it prints
    the traceback when it has ended the others."""
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)


def may_restart() -> bool:
    """Return whether torchrun starts the processes again after one has failed."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS") or 0) > 0


def _answer(store: "Store", world_size: int) -> str:
    name, answered, missing = uuid.uuid4().hex, set[str](), set(range(1, world_size))
    deadline = time.monotonic() + RENDEZVOUS_TIMEOUT
    while missing:
        for rank in missing:
            if store.check([_question(rank)]) and (asked := store.get(_question(rank)).decode()) not in answered:
                store.set(asked, name)
                answered.add(asked)
        missing = {rank for rank in missing if not store.check([f"{name}/{rank}"])}
        if missing and time.monotonic() > deadline:
            raise UserError(
                f"rank {', '.join(map(str, sorted(missing)))} did not connect within {RENDEZVOUS_TIMEOUT / 60:g} "
                "minutes; see the logs of these ranks"
            )
        time.sleep(POLL_SECONDS if missing else 0)
    return name


def _ask(store: "Store", rank: int) -> str:
    asked = uuid.uuid4().hex
    store.set(_question(rank), asked)
    name = store.get(asked).decode()
    store.set(f"{name}/{rank}", "")
    return name


def _question(rank: int) -> str:
    return f"diffussm/asked by {rank}"
