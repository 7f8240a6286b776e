"""What a job does, on the node."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Training:
    """Trains one run."""

    run: str

    def __call__(self) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Evaluations:
    runs: str
    ids: tuple[str, ...]
    code: str

    def __call__(self) -> None:
        raise NotImplementedError
