"""What is known of a feature extractor before it runs. No torch."""

from dataclasses import dataclass

from diffussm.metrics.features.weights_file import WeightsFile


@dataclass(frozen=True)
class ExtractorFacts:
    """A network that extracts features, with torch-fidelity's interface.

    `network` is the `package.module:Class` of a torch_fidelity.FeatureExtractorBase. It is built with
    (`name`, layers, feature_extractor_weights_path=weights), takes uint8 images (B, C, H, W) and returns the layers in
    order. `features`, `spatial` and `logits` are its names for them, "" if it lacks one; metrics that need it are then
    rejected.
    """

    name: str
    network: str
    weights: WeightsFile
    channels: int
    image_size: int | None  # None: it accepts any size and resizes by itself
    data: str  # the data set that it is for
    classifies: bool = False  # whether its classes are those of the data set, with the same numbers
    scores: bool = False  # whether its class probabilities are meaningful for an Inception Score
    features: str = "features"
    spatial: str = ""
    logits: str = ""
    batch: int = 500  # images per call
    classes: int | None = None  # number of its classes; None: not known here
    class_names: tuple[str, ...] = ()  # in the order of its classes; empty: not known here
    sizes: str = ""  # of its layers, as a key states them; "": not known here
    data_digest: str = ""  # of the data set that it was trained on; "": not stated
