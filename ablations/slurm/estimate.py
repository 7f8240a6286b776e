"""Estimates of how long planned runs take as jobs of a profile."""

from ablations.plan.estimate import CORE_RATE, GPU_RATES, Estimates, describe_core_rate, describe_gpu_rate
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
        needs, precision = p.run.arm.resources, p.run.config.training.precision
        if gpus := self.gpus(p):
            used = min(gpus, self.profile.tasks(needs))  # a task uses one
            return GPU_RATES[precision] * used, GPU_RATES[precision]
        return CORE_RATE * self.profile.cpus(needs) * self.profile.tasks(needs), CORE_RATE * self.profile.cpus(needs)

    def _describe_rate(self, p: PlannedRun) -> str:
        return describe_gpu_rate(p.run.config.training.precision) if self.gpus(p) else describe_core_rate()
