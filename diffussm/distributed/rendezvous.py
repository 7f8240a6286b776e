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

from diffussm.distributed.launch_environment import LaunchInfo
from diffussm.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

GREETING_TIMEOUT = 5.0  # seconds in which a greeting must arrive
RENDEZVOUS_TIMEOUT = 1800.0  # seconds that the tasks wait for each other
WARN_AFTER = 60.0  # seconds after which a task reports that it waits
CONNECT_TIMEOUT = 60.0  # seconds in which an announced store must accept a connection
POLL_INTERVALS = (0.1, 2.0)  # seconds between rounds over the ports: the first and the longest


def open_store(launch: LaunchInfo, timeout: timedelta) -> "Store":
    """Return the store of the step once all of its tasks have connected; later operations on it have `timeout`.

    Raises:
        UserError: All of the ports are taken on task 0's host; or task 0 was not found, or another task did not
        connect,
            within half an hour; or the store cannot be reached.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    reach = timedelta(seconds=CONNECT_TIMEOUT)
    if launch.rank == 0:
        store = TCPStore("localhost", 0, launch.world_size, True, reach, wait_for_workers=False)
        with _announced(launch, store.port):
            _wait_for_all(launch, store)
    else:
        port = find_store_port(launch)
        try:
            store = TCPStore(launch.address, port, launch.world_size, False, reach, wait_for_workers=False)
        except RuntimeError as error:
            raise UserError(f"task 0's store at {launch.address}, port {port}, cannot be reached: {error}") from None
        _wait_for_all(launch, store)
    store.set_timeout(timeout)
    return store


def _wait_for_all(launch: LaunchInfo, store: "Store") -> None:
    from torch.distributed import DistStoreError

    store.set(f"task {launch.rank}", "")
    others = [f"task {rank}" for rank in range(launch.world_size)]
    for seconds in (min(WARN_AFTER, RENDEZVOUS_TIMEOUT), max(RENDEZVOUS_TIMEOUT - WARN_AFTER, 0)):
        try:
            return store.wait(others, timedelta(seconds=seconds))
        except DistStoreError:
            missing = ", ".join(other for other in others if not store.check([other]))
        if missing:
            print(f"task {launch.rank}: waiting for {missing}", file=sys.stderr)
    raise UserError(
        f"{missing} did not connect to {launch.address} within {RENDEZVOUS_TIMEOUT / 60:g} minutes; see their logs"
    )


class _Announcement(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Ignore a client that closed the connection before it had read the greeting."""


@contextmanager
def _announced(launch: LaunchInfo, port: int) -> Iterator[None]:
    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(f"{launch.step_id} {port}\n".encode())

    with _Announcement(("", 0), Answer, bind_and_activate=False) as server:
        server.socket.close()
        server.socket = _listening(launch)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def _listening(launch: LaunchInfo) -> socket.socket:
    both, last_error = socket.has_dualstack_ipv6(), ""
    for port in launch.ports:
        try:
            return socket.create_server(
                ("", port),
                family=socket.AF_INET6 if both else socket.AF_INET,
                dualstack_ipv6=both,
                backlog=launch.world_size,
            )
        except OSError as error:
            last_error = os.strerror(error.errno or 0)
    raise UserError(f"no free port on {launch.address} (tried {_list(launch)}: {last_error}); set MASTER_PORT")


def find_store_port(launch: LaunchInfo) -> int:
    """Return the port of the store, as task 0 of the same step announces it."""
    began, reported = time.monotonic(), False
    pause, longest = POLL_INTERVALS
    while (waited := time.monotonic() - began) < RENDEZVOUS_TIMEOUT:
        for port in launch.ports:
            step, _, store = read_greeting(launch.address, port).rpartition(" ")
            if step == launch.step_id and store.endswith("\n") and store.strip().isdecimal():
                return int(store)
        if waited > WARN_AFTER and not reported:
            print(f"task {launch.rank}: waiting for task 0 at {launch.address}, ports {_list(launch)}", file=sys.stderr)
            reported = True
        time.sleep(pause)
        pause = min(1.5 * pause, longest)
    raise UserError(
        f"task 0 was not found at {launch.address}, ports {_list(launch)}, within {RENDEZVOUS_TIMEOUT / 60:g} minutes; "
        "check its log, the network interface (GLOO_SOCKET_IFNAME) and MASTER_ADDR"
    )


def read_greeting(address: str, port: int) -> str:
    """Return the line that a program sends on connection, or as much of it as arrives in time."""
    greeting, deadline = b"", time.monotonic() + GREETING_TIMEOUT
    try:
        with socket.create_connection((address, port), GREETING_TIMEOUT) as connection:
            while not greeting.endswith(b"\n") and len(greeting) < 1000 and time.monotonic() < deadline:
                if not (more := connection.recv(1000)):
                    break
                greeting += more
    except OSError:
        pass
    return greeting.decode(errors="replace")


def _list(launch: LaunchInfo) -> str:
    return ", ".join(map(str, launch.ports))
