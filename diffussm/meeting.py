"""Where the tasks of an srun step meet: the first one opens a store at a free port and tells the others which.

SLURM does not tell the tasks a port that is free on the first one's host, so the step's name gives a few, in order. At
the first of them that no other program has, the first task tells whoever connects the step's name and where its store
is. The others ask at each port until they hear their step's name, and pass by what else answers: a database, another
step's first task, or a program that says nothing.
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
from typing import TYPE_CHECKING

from diffussm.errors import UserError
from diffussm.placement import Placement

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

ANSWER = 5.0  # seconds for what is at a port to say what it is
ARRIVAL = 1800.0  # seconds until the first task must be there, which may come later than others
REMARK = 60.0  # seconds after which a task says that it waits


@contextmanager
def store_of(place: Placement, patience: timedelta) -> Iterator["Store"]:
    """The store of all tasks of the step, with `patience` for what is asked of it; inside, tasks can still come.

    Raises:
        UserError: All of the ports are taken on the first task's host, or it was not found there within half an hour.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    if place.rank == 0:
        store = TCPStore(place.address, 0, place.count, True, patience, wait_for_workers=False)
        with _announced(place, store.port):
            yield store
    else:
        yield TCPStore(place.address, _heard(place), place.count, False, patience, wait_for_workers=False)


@contextmanager
def _announced(place: Placement, port: int) -> Iterator[None]:
    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(f"{place.step} {port}\n".encode())

    with socketserver.ThreadingTCPServer(("", 0), Answer, bind_and_activate=False) as server:
        server.socket.close()
        server.socket = _listening(place)
        server.daemon_threads = True
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
    while (waited := time.monotonic() - began) < ARRIVAL:
        for port in place.ports:
            step, _, store = _said(place.address, port).rpartition(" ")
            if step == place.step:
                return int(store)
        if waited > REMARK and not said:
            print(f"task {place.rank}: waits for task 0 at {place.address}, ports {_list(place)}", file=sys.stderr)
            said = True
        time.sleep(0.1)
    raise UserError(f"task 0 was not at {place.address}, ports {_list(place)}, within {ARRIVAL / 60:g} minutes")


def _said(address: str, port: int) -> str:
    """The line with which a program greets, if there is one."""
    try:
        with socket.create_connection((address, port), ANSWER) as connection:
            return connection.makefile("rb").readline(1000).decode(errors="replace")
    except OSError:
        return ""


def _list(place: Placement) -> str:
    return ", ".join(map(str, place.ports))
