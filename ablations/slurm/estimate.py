"""How long planned runs will take as jobs of a profile."""

from ablations.plan.estimate import CORE_RATE, GPU_RATES, Estimates, core_words, gpu_words
from ablations.plan.plan import Planned
from ablations.slurm.profile import Profile


class ClusterEstimates(Estimates):
    """Times of planned runs as jobs of a profile; nothing that was measured on this machine counts there."""

    def __init__(self, profile: Profile):
        super().__init__({}, 1)
        self.profile = profile

    def gpus(self, p: Planned) -> int:
        """Of the run's training."""
        return self.profile.gpus(p.run.arm.resources)

    def _rates(self, p: Planned) -> tuple[float, float]:
        needs, precision = p.run.arm.resources, p.run.config.training.precision
        if gpus := self.gpus(p):
            used = min(gpus, self.profile.tasks(needs))  # a task computes on one
            return GPU_RATES[precision] * used, GPU_RATES[precision]
        return CORE_RATE * self.profile.cpus(needs) * self.profile.tasks(needs), CORE_RATE * self.profile.cpus(needs)

    def _rate_words(self, p: Planned) -> str:
        return gpu_words(p.run.config.training.precision) if self.gpus(p) else core_words()
