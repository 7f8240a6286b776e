"""`diffussm convert`."""

from pathlib import Path

from diffussm.errors import unknown
from diffussm.models.pretrained import describe_pretrained, from_pretrained, save_pretrained
from diffussm.models.trained import load_network, select_milestone
from diffussm.store.rundir import RunDir, is_run_folder


def convert(source: Path, folder: Path, step: int | None, weights: str, heads: int | None) -> None:
    """Save the model of a run, or another program's, in `folder`. `step` and `weights` choose of a run's."""
    if weights not in ("ema", "raw"):
        raise unknown("--weights", weights, ["ema", "raw"])
    if is_run_folder(source):
        run = RunDir(source)
        step = select_milestone(run, weights, step)
        config = run.config()
        model = load_network(run, config, weights, step, "auto")
        save_pretrained(
            model, folder, run_id=run.run_id, step=step, kind=weights, diffusion=config.diffusion, data=config.data
        )
    else:
        known = describe_pretrained(source) if source.is_dir() else None
        model = from_pretrained(source, heads=heads)
        save_pretrained(model, folder, diffusion=known and known.diffusion, data=known and known.data)
