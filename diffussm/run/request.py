"""From a config to a run folder in which its training and evaluations are requested. No torch."""

from pathlib import Path

from diffussm.config import Config, request
from diffussm.data.catalogue import check_fit
from diffussm.errors import UserError
from diffussm.metrics.requirements import missing_requirement
from diffussm.run.tasks import key_of, missing_milestones
from diffussm.store.rundir import RunDir


def request_run(runs: Path, config: Config, replay: bool = False) -> RunDir:
    """Return the folder of the config's run below `runs`, where all that the config asks of the run is requested.

    Raises UserError, and writes no request, where the model does not fit its data, where data or weights are missing,
    or where the run kept no weights of a milestone, unless a `replay` may train to there again.
    """
    check_fit(config)
    if requirement := missing_requirement(config):
        raise UserError(requirement)
    run, asked = RunDir.create(runs, config), request(config)
    without_record = set(missing_milestones(run, asked, key_of(run.path, asked)))
    lost = [step for step in run.lost_milestones(asked) if step in without_record]
    if lost and not replay:
        raise UserError(
            f"training.milestones: {run.run_id} is trained to step {run.trained_steps()} and kept no weights of step "
            f"{lost[0]}: request kept milestones or later ones, or let it be trained again to there (--replay)"
        )
    run.add_request(asked)
    if lost:
        run.allow_replay(asked)
    return run
