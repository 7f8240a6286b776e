"""What the cluster's configuration says that a launch must know."""

import re
from dataclasses import dataclass

from ablations.slurm.commands import ask

MAX_ARRAY_SIZE = 1001  # SLURM's own default


@dataclass(frozen=True)
class Site:
    """`settings` are those of `scontrol show config`; empty where no cluster answers."""

    settings: dict[str, str]

    @classmethod
    def here(cls) -> "Site":
        text = ask("scontrol", "show", "config") or ""
        pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
        return cls({name.strip(): value.strip() for name, value in pairs})

    @property
    def answers(self) -> bool:
        return bool(self.settings)

    @property
    def most_in_array(self) -> int:
        """Runs in one array: MaxArraySize caps the index, and some sites' wrappers the count."""
        return max(1, int(self.settings.get("MaxArraySize", MAX_ARRAY_SIZE)) - 1)

    @property
    def version(self) -> str:
        return self.settings.get("SLURM_VERSION", "")

    @property
    def kill_seconds(self) -> int:
        """Between SIGTERM and SIGKILL."""
        found = re.match(r"\d+", self.settings.get("KillWait", ""))
        return int(found[0]) if found else 30
