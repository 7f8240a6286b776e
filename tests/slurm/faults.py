"""Jobs whose trainings go wrong, or slowly, as a test wants it: Python itself is told to change the trainer in them."""

from pathlib import Path
from textwrap import indent

SITE = """\
import importlib.abc
import importlib.util
import os
import sys
import time
from pathlib import Path


class Hook(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "diffussm.training.trainer":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def loaded(module):
            load(module)
            change(module.Trainer)

        spec.loader.exec_module = loaded
        return spec


def change(trainer):
    step, steps = trainer.step, 0

    def troubled(self):
        nonlocal steps
        steps += 1
        config, rank = self.config, self.processes.rank
TROUBLE
        return step(self)

    trainer.step = troubled


sys.meta_path.insert(0, Hook())
"""


def trouble(folder: Path, code: str) -> list[str]:
    """What a launch must be told for its jobs to do that at each step. The code knows `steps` (of its process), `rank`
    and `config`."""
    (folder / "sitecustomize.py").write_text(SITE.replace("TROUBLE", indent(code, " " * 8)))
    return ["--set-slurm", f"environment.PYTHONPATH={folder}"]


def until(file: Path, code: str) -> str:
    """The code, as long as that file is not there."""
    return f"if not Path({str(file)!r}).exists():\n{indent(code, '    ')}"
