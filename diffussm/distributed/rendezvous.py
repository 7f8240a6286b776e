"""Where the tasks of an srun step meet: the first one opens a store at a free port and tells the others which.

SLURM does not tell the tasks a port that is free on the first one's host, so the step's name gives a few, in order. At
the first of them that no other program has, the first task tells whoever connects the step's name and where its store
is. The others ask at each port until they hear their step's name, and pass by what else answers: a database, another
step's first task, or a program that says nothing. The store is given out when all have come.
"""

import os
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from diffussm.distributed.launch_environment import Placement
from diffussm.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

ANSWER = 5.0  # seconds for what is at a port to say what it is
ARRIVAL = 1800.0  # seconds between the first of the tasks to come and the last one
REMARK = 60.0  # seconds after which a task says that it waits
REACH = 60.0  # seconds to connect to a store that is known to be there
PAUSES = (0.1, 2.0)  # seconds between rounds of questions, at first and in the end


def store_of(place: Placement, patience: timedelta) -> "Store":
    """The store of all tasks of the step, when all are there; with `patience` for what is asked of it later.

    Raises:
        UserError: All of the ports are taken on the first task's host; or the first one was not found there, or another
            one did not come, within half an hour; or the store cannot be reached.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    reach = timedelta(seconds=REACH)
    if place.rank == 0:
        store = TCPStore("localhost", 0, place.count, True, reach, wait_for_workers=False)
        with _announced(place, store.port):
            _wait_for_all(place, store)
    else:
        port = _heard(place)
        try:
            store = TCPStore(place.address, port, place.count, False, reach, wait_for_workers=False)
        except RuntimeError as error:
            raise UserError(f"task 0's store at {place.address}, port {port}, cannot be reached: {error}") from None
        _wait_for_all(place, store)
    store.set_timeout(patience)
    return store


def _wait_for_all(place: Placement, store: "Store") -> None:
    from torch.distributed import DistStoreError

    store.set(f"task {place.rank}", "")
    others = [f"task {rank}" for rank in range(place.count)]
    for seconds in (min(REMARK, ARRIVAL), max(ARRIVAL - REMARK, 0)):
        try:
            return store.wait(others, timedelta(seconds=seconds))
        except DistStoreError:
            missing = ", ".join(other for other in others if not store.check([other]))
        if missing:
            print(f"task {place.rank}: waits for {missing}", file=sys.stderr)
    raise UserError(f"{missing} did not come to {place.address} within {ARRIVAL / 60:g} minutes")


class _Announcement(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Who asked is gone; what was to be said is not missed."""


@contextmanager
def _announced(place: Placement, port: int) -> Iterator[None]:
    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(f"{place.step} {port}\n".encode())

    with _Announcement(("", 0), Answer, bind_and_activate=False) as server:
        server.socket.close()
        server.socket = _listening(place)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def _listening(place: Placement) -> socket.socket:
    both, obstacle = socket.has_dualstack_ipv6(), ""
    for port in place.ports:
        try:
            return socket.create_server(
                ("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both, backlog=place.count
            )
        except OSError as error:
            obstacle = os.strerror(error.errno or 0)
    raise UserError(f"{place.address}, ports {_list(place)}: {obstacle}; MASTER_PORT may name another")


def _heard(place: Placement) -> int:
    """The port of the store."""
    began, said = time.monotonic(), False
    pause, longest = PAUSES
    while (waited := time.monotonic() - began) < ARRIVAL:
        for port in place.ports:
            step, _, store = _said(place.address, port).rpartition(" ")
            if step == place.step and store.endswith("\n") and store.strip().isdecimal():
                return int(store)
        if waited > REMARK and not said:
            print(f"task {place.rank}: waits for task 0 at {place.address}, ports {_list(place)}", file=sys.stderr)
            said = True
        time.sleep(pause)
        pause = min(1.5 * pause, longest)
    raise UserError(f"task 0 was not at {place.address}, ports {_list(place)}, within {ARRIVAL / 60:g} minutes")


def _said(address: str, port: int) -> str:
    """The line with which a program greets, or what of it comes in time."""
    greeting, deadline = b"", time.monotonic() + ANSWER
    try:
        with socket.create_connection((address, port), ANSWER) as connection:
            while not greeting.endswith(b"\n") and len(greeting) < 1000 and time.monotonic() < deadline:
                if not (more := connection.recv(1000)):
                    break
                greeting += more
    except OSError:
        pass
    return greeting.decode(errors="replace")


def _list(place: Placement) -> str:
    return ", ".join(map(str, place.ports))
