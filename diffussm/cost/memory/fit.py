"""Whether a training fits a GPU, and what would: fewer images at once, or recomputation of blocks. No torch."""

from dataclasses import dataclass
from functools import cached_property

from diffussm.config import Checkpointing, Config
from diffussm.cost.memory.account import Account, account
from diffussm.tables import plural

GB = 10**9  # a GPU of 80 GB has a little more, which is left to CUDA itself, the allocator and communication
WORTH_IT = 0.95  # of the peak: what takes more than that is no alternative


@dataclass(frozen=True)
class Choice:
    """How a batch may be computed, and what that takes."""

    micro_batch: int  # images at once
    checkpointing: Checkpointing
    account: Account
    changes: tuple[str, ...]  # of the settings in use

    def __str__(self) -> str:
        return " and ".join(self.changes)


@dataclass(frozen=True)
class Fit:
    """A training of `config` on `gpus` GPUs of `memory_gb`; None if that is unknown."""

    config: Config
    gpus: int
    memory_gb: float | None

    @cached_property
    def account(self) -> Account | None:
        """The account of one GPU; None if an external mixer does not say what it keeps."""
        return account(self.config, self.gpus)

    @property
    def fits(self) -> bool:
        """Whether the memory suffices, as far as both are known."""
        return self.account is None or self._fits(self.account)

    @cached_property
    def alternatives(self) -> tuple[Choice, ...]:
        """What takes less: half the images at once and recomputation; where this does not fit, what would."""
        if self.account is None:
            return ()
        checkpointing = self.config.training.checkpointing
        found = [self._halved(checkpointing)]
        if checkpointing == "none":
            found.append(self._choice(self.account.images, "block"))
            if not any(choice and self._fits(choice.account) for choice in found):
                found.append(self._halved("block"))
        return tuple(
            choice
            for choice in found
            if choice and choice.account.peak < WORTH_IT * self.account.peak and self._fits(choice.account)
        )

    def __str__(self) -> str:
        """Return the memory in one sentence without a full stop."""
        if self.account is None:
            return "unknown, as the mixer does not say what it keeps"
        of = "" if self.memory_gb is None else f" of {self.memory_gb:g}"
        taken = f"about {gigabytes(self.account)}{of} GB a GPU at {plural(self.account.images, 'image')}"
        if self.fits:
            return "; ".join([taken, *(f"{choice}: {gigabytes(choice.account)}" for choice in self.alternatives)])
        would = " or ".join(f"{choice} ({gigabytes(choice.account)})" for choice in self.alternatives)
        return f"{taken}, which does not fit{f'; {would} would' if would else ' by any micro_batch and checkpointing'}"

    def _halved(self, checkpointing: Checkpointing) -> Choice | None:
        """Return the most images at once, of halves of halves, that take less and fit; None if not even one does."""
        assert self.account is not None
        images = self.account.images
        while images > 1:
            images = -(-images // 2)
            choice = self._choice(images, checkpointing)
            if self._fits(choice.account):
                return choice
        return None

    def _choice(self, images: int, checkpointing: Checkpointing) -> Choice:
        chosen = account(self.config, self.gpus, images, checkpointing)
        assert self.account is not None
        assert chosen is not None  # as that of any other number of images
        changes = [f"micro_batch = {images}"] if images != self.account.images else []
        changes += [f"checkpointing = {checkpointing}"] if checkpointing != self.config.training.checkpointing else []
        return Choice(images, checkpointing, chosen, tuple(changes))

    def _fits(self, account: Account) -> bool:
        return self.memory_gb is None or account.peak <= self.memory_gb * GB


def gigabytes(account: Account) -> str:
    """Return the peak in units of 10^9 bytes, as a number to read."""
    size = account.peak / GB
    return f"{size:.0f}" if size >= 10 else f"{max(size, 0.1):.1f}"
