"""Rendezvous of the tasks of an srun step: task 0 opens a store at a free port and announces which port that is.

SLURM gives the tasks no port that is free on task 0's host, so a few candidates are derived from the step's name. At
the first free one, task 0 sends a greeting to whoever connects: the step's name and the port of its store. The other
tasks read the greeting at each port until one has their step's name, and ignore any other program: a database, task 0
of another step, or a program that sends nothing. The store is returned when all tasks have connected.
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

ANSWER = 5.0  # seconds in which a greeting must arrive
ARRIVAL = 1800.0  # seconds that the tasks wait for the last one of them
REMARK = 60.0  # seconds after which a task reports that it waits
REACH = 60.0  # seconds to connect to a store that was announced
PAUSES = (0.1, 2.0)  # seconds between rounds over the ports, at first and at most


def open_store(place: Placement, timeout: timedelta) -> "Store":
    """Return the store of the step once all of its tasks have connected; later operations on it have `timeout`.

    Raises:
        UserError: All of the ports are taken on the first task's host; or the first one was not found there, or another
            one did not come, within half an hour; or the store cannot be reached.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    reach = timedelta(seconds=REACH)
    if place.rank == 0:
        store = TCPStore("localhost", 0, place.world_size, True, reach, wait_for_workers=False)
        with _announced(place, store.port):
            _wait_for_all(place, store)
    else:
        port = find_store_port(place)
        try:
            store = TCPStore(place.address, port, place.world_size, False, reach, wait_for_workers=False)
        except RuntimeError as error:
            raise UserError(f"task 0's store at {place.address}, port {port}, cannot be reached: {error}") from None
        _wait_for_all(place, store)
    store.set_timeout(timeout)
    return store


def _wait_for_all(place: Placement, store: "Store") -> None:
    from torch.distributed import DistStoreError

    store.set(f"task {place.rank}", "")
    others = [f"task {rank}" for rank in range(place.world_size)]
    for seconds in (min(REMARK, ARRIVAL), max(ARRIVAL - REMARK, 0)):
        try:
            return store.wait(others, timedelta(seconds=seconds))
        except DistStoreError:
            missing = ", ".join(other for other in others if not store.check([other]))
        if missing:
            print(f"task {place.rank}: waiting for {missing}", file=sys.stderr)
    raise UserError(f"{missing} did not connect to {place.address} within {ARRIVAL / 60:g} minutes; see their logs")


class _Announcement(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Ignore a client that closed the connection before it had read the greeting."""


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
                ("", port),
                family=socket.AF_INET6 if both else socket.AF_INET,
                dualstack_ipv6=both,
                backlog=place.world_size,
            )
        except OSError as error:
            obstacle = os.strerror(error.errno or 0)
    raise UserError(f"no free port on {place.address} (tried {_list(place)}: {obstacle}); set MASTER_PORT")


def find_store_port(place: Placement) -> int:
    """Return the port of the store, as task 0 of the same step announces it."""
    began, reported = time.monotonic(), False
    pause, longest = PAUSES
    while (waited := time.monotonic() - began) < ARRIVAL:
        for port in place.ports:
            step, _, store = read_greeting(place.address, port).rpartition(" ")
            if step == place.step and store.endswith("\n") and store.strip().isdecimal():
                return int(store)
        if waited > REMARK and not reported:
            print(f"task {place.rank}: waiting for task 0 at {place.address}, ports {_list(place)}", file=sys.stderr)
            reported = True
        time.sleep(pause)
        pause = min(1.5 * pause, longest)
    raise UserError(
        f"task 0 was not found at {place.address}, ports {_list(place)}, within {ARRIVAL / 60:g} minutes; check its "
        "log, the network interface (GLOO_SOCKET_IFNAME) and MASTER_ADDR"
    )


def read_greeting(address: str, port: int) -> str:
    """Return the line that a program sends on connection, or as much of it as arrives in time."""
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
