"""Training from a copy of the data on the node's own disk, where one is set (`diffussm train --stage DIR`)."""

import contextlib
import os
from collections.abc import Iterator

from diffussm.config import Config
from diffussm.data.lookup.facts import find_required
from diffussm.data.prepared.reader import DamagedShard
from diffussm.data.prepared.stage import VARIABLE, stage_folder, staged
from diffussm.distributed.group import ProcessGroup
from diffussm.errors import UserError
from diffussm.stopping import StopRequest
from diffussm.store.integrity.stamp import DamagedFile


def stage_setting() -> dict[str, str]:
    """Return where data are copied to, for the provenance of an attempt; nothing if they are not."""
    given = os.environ.get(VARIABLE)
    return {"stage": given} if given else {}


@contextlib.contextmanager
def staged_data(config: Config, processes: ProcessGroup, stop: StopRequest) -> Iterator[Config]:
    """Yield the config with its prepared data set at the copy that is set, if one is, made by all processes together.

    A damaged file of the copy that is found inside is deleted, so that the next start copies it again: that is a
    DamagedFile, or a UserError of one process of several, whose others wait for it.
    """
    stage = stage_folder()
    folder = find_required(config.data).folder if stage else None
    if stage is None or folder is None:
        yield config
        return
    with processes.join():
        copy = staged(folder, stage, stop.check)
    try:
        yield config.model_copy(update={"data": config.data.model_copy(update={"root": str(copy)})})
    except DamagedShard as damage:
        damage.path.unlink(missing_ok=True)
        end = DamagedFile(damage.path, "this copy is deleted, and made again at the next start")
        raise end if processes.world_size == 1 else UserError(str(end)) from None
