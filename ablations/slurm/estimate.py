"""Estimates of how long planned runs take as jobs of a profile."""

from ablations.plan.estimate import CORE_RATE, Estimates, describe_core_rate, describe_gpu_rates, gpu_rates
from ablations.plan.plan import PlannedRun
from ablations.slurm.profile import Profile


class ClusterEstimates(Estimates):
    """Estimated times of planned runs as jobs of a profile, from assumed rates: measurements on this machine do not
    apply."""

    def __init__(self, profile: Profile):
        super().__init__({}, 1)
        self.profile = profile

    def gpus(self, p: PlannedRun) -> int:
        """Return the number of GPUs of the run's training."""
        return self.profile.gpus(p.run.arm.resources)

    def _rates(self, p: PlannedRun) -> tuple[float, float]:
        needs, evaluators = p.run.arm.resources, self.profile.tasks(kind="evaluate")
        trainers = self.profile.tasks(needs)
        if gpus := self.gpus(p):
            training, evaluation = gpu_rates(p)  # of a task, which uses one
            evaluator_gpus = max(1, self.profile.gpus(kind="evaluate"))
            return training * min(gpus, trainers), evaluation * min(evaluator_gpus, evaluators)
        training, evaluation = self.profile.cpus(needs), self.profile.cpus(kind="evaluate")
        return CORE_RATE * training * trainers, CORE_RATE * evaluation * evaluators

    def _describe_rates(self, p: PlannedRun) -> list[str]:
        return describe_gpu_rates(p) if self.gpus(p) else [describe_core_rate()]
