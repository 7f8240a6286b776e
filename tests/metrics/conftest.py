"""For tests of Inception: a file of random weights, written once, and no network."""

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support import random_inception


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_inception.write(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def refuse(connecting: socket.socket, address: Any) -> None:
        assert connecting.family == socket.AF_UNIX, "the network was asked"
        connect(connecting, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)
