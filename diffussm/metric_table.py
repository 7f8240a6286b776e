"""What can be measured of samples: names, meanings, units, sources. No torch.

A record's metrics have these names. Beside each lies its interval over samples, `<name>_samples_low` and
`<name>_samples_high`, and beside a Frechet distance `<name>_floor` and `<name>_infinity`.
"""

from dataclasses import dataclass
from typing import Literal

ADM = "Dhariwal and Nichol 2021, their evaluator"
PROPORTION = "share of 1"


@dataclass(frozen=True)
class Measure:
    title: str
    unit: str
    better: Literal["lower", "higher"]
    digits: int  # shown after the point
    meaning: str
    source: str
    has_interval: bool = True


_FRECHET = "Frechet distance of Gaussians fitted to features of samples and of the reference"

MEASURES = {
    "fid": Measure("FID", "squared units of the features", "lower", 2, f"{_FRECHET}", f"Heusel et al. 2017; {ADM}"),
    "sfid": Measure(
        "sFID",
        "squared units of the features",
        "lower",
        2,
        f"{_FRECHET}: the first 7 channels of a spatial layer, flattened H, W, C",
        f"Nash et al. 2021; {ADM}",
    ),
    "inception_score": Measure(
        "IS",
        "effective classes",
        "higher",
        2,
        "exp of the mean KL divergence of class probabilities from their mean, over splits of 5,000 in order",
        f"Salimans et al. 2016; {ADM}",
    ),
    "kid": Measure(
        "KID",
        "squared kernel distance",
        "lower",
        5,
        "unbiased squared MMD of features under a cubic kernel: mean over 100 subsets of 1,000, or of half of the "
        "smaller set where that is less",
        "Binkowski et al. 2018; torch-fidelity",
    ),
    "precision": Measure(
        "precision",
        PROPORTION,
        "higher",
        4,
        "share of samples within the reference's manifold: a ball round each image to its third neighbour",
        f"Kynkaanniemi et al. 2019; {ADM}",
    ),
    "recall": Measure(
        "recall",
        PROPORTION,
        "higher",
        4,
        "share of the reference's images within the samples' manifold",
        f"Kynkaanniemi et al. 2019; {ADM}",
    ),
    "label_accuracy": Measure(
        "label accuracy",
        PROPORTION,
        "higher",
        3,
        "share of samples that the extractor's classifier gives the class they were asked for",
        "ours",
    ),
    "clean_fid": Measure(
        "clean-fid",
        "squared units of the features",
        "lower",
        2,
        "FID by clean-fid with its own resize (mode clean): another number than FID",
        "Parmar et al. 2022",
        has_interval=False,
    ),
    "clean_fid_legacy": Measure(
        "clean-fid, legacy",
        "squared units of the features",
        "lower",
        2,
        "FID by clean-fid in mode legacy_tensorflow: comparable with FID",
        "Parmar et al. 2022",
        has_interval=False,
    ),
}

FRECHET = ("fid", "sfid")  # those that have a noise floor and an extrapolation
CLEAN_FID = ("clean_fid", "clean_fid_legacy")

SUFFIXES = {
    "samples_low": "lower end of the 95 % interval over samples",
    "samples_high": "upper end of the 95 % interval over samples",
    "floor": "what real images score against the reference they are drawn from at the same n: mean of 20 draws",
    "infinity": "extrapolated to infinitely many samples (Chong and Forsyth 2020)",
}
