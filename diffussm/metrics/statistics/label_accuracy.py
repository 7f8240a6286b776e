"""Label accuracy: how often the extractor's classifier predicts the requested class of a sample."""

from diffussm.metrics.statistics.jackknife import wilson_interval
from diffussm.metrics.statistics.protocol import Estimate, MetricInputs


def measure(inputs: MetricInputs) -> Estimate:
    """Return the share of samples whose largest logit is that of their label, with Wilson's interval."""
    assert inputs.labels is not None
    share = float((inputs.samples.argmax(1) == inputs.labels).mean())
    return Estimate(share, wilson_interval(share, len(inputs.samples)))
