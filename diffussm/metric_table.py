"""The table of metrics, with one object for each. No torch.

A record's metrics have these names. Each comes with its interval over samples, `<name>_samples_low` and
`<name>_samples_high`, and a Frechet distance also with `<name>_floor` and `<name>_infinity`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

LAYERS = ("features", "spatial", "logits")  # of an extractor, in the order in which they are extracted

ADM = "Dhariwal and Nichol 2021, their evaluator"
NAEEM = "Naeem et al. 2020"
PROPORTION = "share of 1"
FEATURES_SQUARED = "squared units of the features"
JACKKNIFE = "delete-a-group jackknife"
WILSON = "Wilson's score interval"


@dataclass(frozen=True)
class Metric:
    """A metric: its name, its meaning, its requirements and the function that computes it.

    `function` is a `module:function` that takes a diffussm.metrics.statistics.protocol.MetricInputs and returns an
    Estimate. It is imported when the metric is measured, so that this table imports nothing.
    """

    name: str  # in configs, keys, records and tables: must never change
    title: str
    unit: str
    better: Literal["lower", "higher"]
    digits: int  # shown after the point
    meaning: str
    source: str
    layer: str  # the layer that it is computed from: one of LAYERS, or the metric's name if it has its own network
    function: str
    interval: str  # the method of its 95 % interval over samples; "": it has none
    reference: Literal["nothing", "gaussian", "images"] = "nothing"  # "gaussian": it is a Frechet distance
    extractor: Literal["any", "scores", "classifies", "natural images"] = "any"  # the kind of extractor that it needs
    least_samples: int = 1
    least_images: int = 0  # of a reference that is given as images
    needs_labels: bool = False  # whether it needs the requested classes of the samples
    by_default: bool = False  # whether it is measured for external samples if no metrics are named; part of their keys
    details: str = ""  # how it is computed with ADM's Inception, or where it differs from other code
    interval_coverage: str = ""  # how often its interval holds the true value, by a simulation in tests/metrics/

    @property
    def has_own_network(self) -> bool:
        """Return whether it is computed from its own network instead of the extractor."""
        return self.layer not in LAYERS


_FRECHET = "Frechet distance of Gaussians fitted to features of samples and of the reference"

METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            name="fid",
            title="FID",
            unit=FEATURES_SQUARED,
            better="lower",
            digits=2,
            meaning=_FRECHET,
            source=f"Heusel et al. 2017; {ADM}",
            layer="features",
            function="diffussm.metrics.statistics.fid:frechet",
            interval=JACKKNIFE,
            reference="gaussian",
            least_samples=2,
            least_images=2,
            by_default=True,
            details="layer pool_3 (2,048 features) of torch-fidelity's port of the graph that ADM's evaluator runs; in "
            "float64, by eigenvalues",
            interval_coverage="0.943 (n = 500, d = 16), 0.983 (300, 120); equal populations 0.993",
        ),
        Metric(
            name="sfid",
            title="sFID",
            unit=FEATURES_SQUARED,
            better="lower",
            digits=2,
            meaning=f"{_FRECHET}: the first 7 channels of a spatial layer, flattened H, W, C",
            source=f"Nash et al. 2021; {ADM}",
            layer="spatial",
            function="diffussm.metrics.statistics.fid:frechet",
            interval=JACKKNIFE,
            reference="gaussian",
            least_samples=2,
            least_images=2,
            by_default=True,
            details="layer mixed_6/conv: 2,023 features",
            interval_coverage="as FID's, which is the same function",
        ),
        Metric(
            name="inception_score",
            title="IS",
            unit="effective classes",
            better="higher",
            digits=2,
            meaning="exp of the mean KL divergence of class probabilities from their mean, over splits of 5,000 in "
            "order",
            source=f"Salimans et al. 2016; {ADM}",
            layer="logits",
            function="diffussm.metrics.statistics.inception_score:measure",
            interval=JACKKNIFE,
            extractor="scores",
            by_default=True,
            details="logits without bias; torch-fidelity's function, called split by split as it would shuffle them",
            interval_coverage="0.965, 0.932, 0.948",
        ),
        Metric(
            name="kid",
            title="KID",
            unit="squared kernel distance",
            better="lower",
            digits=5,
            meaning="unbiased squared MMD of features under a cubic kernel: mean over 100 subsets of 1,000, or of half "
            "of the smaller set where that is less",
            source="Binkowski et al. 2018; torch-fidelity",
            layer="features",
            function="diffussm.metrics.statistics.kid:measure",
            interval=f"{JACKKNIFE}, over the reference too",
            reference="images",
            least_samples=4,
            least_images=4,
            by_default=True,
            details="torch-fidelity's function",
            interval_coverage="0.950, 0.958, 0.962 (three n and m, d = 16); it adds the variance from drawing subsets",
        ),
        Metric(
            name="precision",
            title="precision",
            unit=PROPORTION,
            better="higher",
            digits=4,
            meaning="share of samples within the reference's manifold: a ball round each image to its third neighbour",
            source=f"Kynkaanniemi et al. 2019; {ADM}",
            layer="features",
            function="diffussm.metrics.statistics.precision_recall:precision",
            interval=WILSON,
            reference="images",
            least_samples=4,
            least_images=4,
            by_default=True,
            details="all images of the reference's file; distances in float32: ADM's float16 gives 0 to 0.006 more",
            interval_coverage="0.943 to 0.950",
        ),
        Metric(
            name="recall",
            title="recall",
            unit=PROPORTION,
            better="higher",
            digits=4,
            meaning="share of the reference's images within the samples' manifold",
            source=f"Kynkaanniemi et al. 2019; {ADM}",
            layer="features",
            function="diffussm.metrics.statistics.precision_recall:recall",
            interval=JACKKNIFE,
            reference="images",
            least_samples=4,
            least_images=4,
            by_default=True,
            details="as precision",
            interval_coverage="0.993 to 1.000: up to twice as wide as need be",
        ),
        Metric(
            name="density",
            title="density",
            unit="multiple of the reference's",
            better="higher",
            digits=4,
            meaning="mean over samples of the number of balls that a sample lies in, over 5: a ball round each image "
            "of the reference to its fifth neighbour; above 1 where samples crowd together",
            source=NAEEM,
            layer="features",
            function="diffussm.metrics.statistics.density_coverage:density",
            interval="delete-one jackknife of a mean",
            reference="images",
            least_samples=2,
            least_images=6,
            details="on the layer of precision; balls without their surface, as in the authors' code",
            interval_coverage="0.937 to 0.970",
        ),
        Metric(
            name="coverage",
            title="coverage",
            unit=PROPORTION,
            better="higher",
            digits=4,
            meaning="share of the reference's images whose ball, to the fifth neighbour, holds a sample",
            source=NAEEM,
            layer="features",
            function="diffussm.metrics.statistics.density_coverage:coverage",
            interval=f"{WILSON} with a design effect",
            reference="images",
            least_samples=2,
            least_images=6,
            details="as density",
            interval_coverage="0.950 to 0.987: 1.04 to 1.3 times as wide as need be, the jackknife's up to 1.7 times",
        ),
        Metric(
            name="label_accuracy",
            title="label accuracy",
            unit=PROPORTION,
            better="higher",
            digits=3,
            meaning="share of samples that the extractor's classifier assigns to the requested class",
            source="ours",
            layer="logits",
            function="diffussm.metrics.statistics.label_accuracy:measure",
            interval=WILSON,
            extractor="classifies",
            needs_labels=True,
            interval_coverage="0.943 to 0.950",
        ),
        Metric(
            name="clean_fid",
            title="clean-fid",
            unit=FEATURES_SQUARED,
            better="lower",
            digits=2,
            meaning="FID by clean-fid with its own resize (mode clean): another number than FID",
            source="Parmar et al. 2022",
            layer="clean_fid",
            function="diffussm.metrics.features.clean_fid:measure",
            interval="",
            reference="images",
            extractor="natural images",
            least_images=1,
            details="clean-fid's own network and distance; its reference must be images",
        ),
        Metric(
            name="clean_fid_legacy",
            title="clean-fid, legacy",
            unit=FEATURES_SQUARED,
            better="lower",
            digits=2,
            meaning="FID by clean-fid in mode legacy_tensorflow: comparable with FID",
            source="Parmar et al. 2022",
            layer="clean_fid_legacy",
            function="diffussm.metrics.features.clean_fid:measure",
            interval="",
            reference="images",
            extractor="natural images",
            least_images=1,
        ),
    )
}

# Those that have a noise floor and an extrapolation, those of clean-fid's own network, and those that external samples
# are measured by if no metrics are named.
FRECHET = tuple(name for name, metric in METRICS.items() if metric.reference == "gaussian")
CLEAN_FID = tuple(name for name, metric in METRICS.items() if metric.has_own_network)
BY_DEFAULT = tuple(name for name, metric in METRICS.items() if metric.by_default)

SUFFIXES = {
    "samples_low": "lower end of the 95 % interval over samples",
    "samples_high": "upper end of the 95 % interval over samples",
    "floor": "what real images score against the reference they are drawn from at the same n: mean of 20 draws",
    "infinity": "extrapolated to infinitely many samples (Chong and Forsyth 2020)",
}


def layers_of(metrics: Collection[str]) -> list[str]:
    """Return the layers of the extractor from which the metrics are computed."""
    needed = {METRICS[metric].layer for metric in metrics}
    return [layer for layer in LAYERS if layer in needed]
