"""Label accuracy: how often the extractor's classifier sees the class that a sample was asked for."""

from diffussm.metrics.statistics.jackknife import of_share
from diffussm.metrics.statistics.protocol import Estimate, MetricInputs


def measure(inputs: MetricInputs) -> Estimate:
    """The share of samples whose largest logit is that of their label, with Wilson's interval."""
    assert inputs.labels is not None
    share = float((inputs.samples.argmax(1) == inputs.labels).mean())
    return Estimate(share, of_share(share, len(inputs.samples)))
