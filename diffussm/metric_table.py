"""The table of metrics, with one object for each. No torch.

A record's metrics have these names. Each comes with its interval over samples, `<name>_samples_low` and
`<name>_samples_high`, and a Frechet distance also with `<name>_floor` and `<name>_infinity`.
"""

from collections.abc import Collection, Mapping

from diffussm.errors import UserError
from diffussm.metric import LAYERS, Metric

ADM = "Dhariwal and Nichol 2021, their evaluator"
NAEEM = "Naeem et al. 2020"
PROPORTION = "share of 1"
FEATURES_SQUARED = "squared units of the features"
JACKKNIFE = "delete-a-group jackknife"
WILSON = "Wilson's score interval"
SINGULAR = "fewer samples than features: singular covariances, and a bias that hides differences (Heusel et al. 2017)"
WIDE = "its 95 % interval may be 0.2 wide or wider (binomial)"
FRECHET_ROUNDING = 0.01  # by which records of earlier versions may be below zero; measurements state their own


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
            least=0.0,
            rounding=FRECHET_ROUNDING,
            samples_per_feature=1.0,
            unreliable=SINGULAR,
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
            least=0.0,
            rounding=FRECHET_ROUNDING,
            samples_per_feature=1.0,
            unreliable=SINGULAR,
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
            least=1.0,
            rounding=1e-4,
            samples_per_feature=10.0,
            unreliable="its logarithm is too low by up to (classes - 1) / 2n, above 5 % (Miller 1955)",
            layer="logits",
            function="diffussm.metrics.statistics.inception_score:measure",
            interval=JACKKNIFE,
            extractor="scores",
            by_default=True,
            details="logits without bias; in float64",
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
            reliable_samples=200,
            unreliable="equal sets differ by as much as noise of 25 grey levels changes it (simulated)",
            layer="features",
            function="diffussm.metrics.statistics.kid:measure",
            interval=f"{JACKKNIFE}, over the reference too",
            reference="images",
            least_samples=4,
            least_images=4,
            by_default=True,
            details="from the subsets that torch-fidelity draws, and equal to its value to 1e-6",
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
            least=0.0,
            greatest=1.0,
            reliable_samples=100,
            unreliable=WIDE,
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
            least=0.0,
            greatest=1.0,
            reliable_samples=200,
            unreliable="balls grow, so that it is too high: 0.96 at n = 30, 0.91 at 100, 0.89 from 200 on (simulated)",
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
            least=0.0,
            reliable_samples=100,
            unreliable=WIDE,
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
            least=0.0,
            greatest=1.0,
            reliable_samples=100,
            samples_per_image=0.5,
            unreliable="too few samples for the balls: 0.28 at n = 60, 0.89 at 500, 0.97 at 898 of 898 (simulated)",
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
            least=0.0,
            greatest=1.0,
            reliable_samples=100,
            unreliable=WIDE,
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
            least=0.0,
            rounding=FRECHET_ROUNDING,
            reliable_samples=2048,
            unreliable=SINGULAR,
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
            least=0.0,
            rounding=FRECHET_ROUNDING,
            reliable_samples=2048,
            unreliable=SINGULAR,
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


def impossible_value(metrics: Mapping[str, float]) -> str:
    """Return what is wrong with a record's metrics, of which the first that cannot be is named; "" if nothing."""
    for name in (f"{metric}{suffix}" for metric in METRICS for suffix in ("", "_floor")):
        if name in metrics:
            try:
                METRICS[name.removesuffix("_floor")].possible(metrics[name])
            except UserError as error:
                return f"{name}: {error}"
    return ""
