"""The table of metrics: what it says of each is what the code does, and the rest of the package takes it from there."""

import importlib
import inspect
import subprocess
import sys

import pytest

from diffussm.config import EvaluationConfig
from diffussm.data.load import reference_images
from diffussm.metric import LAYERS, Metric
from diffussm.metric_table import FRECHET, METRICS, layers_of
from diffussm.metrics.external import default_metrics
from diffussm.metrics.features.registry import extractor_facts
from diffussm.metrics.key import external_key
from diffussm.metrics.reference.facts import reference_facts
from diffussm.metrics.requirements import unsupported_metrics
from diffussm.metrics.statistics import density_coverage, precision_recall
from diffussm.metrics.statistics.jackknife import Interval
from diffussm.metrics.statistics.protocol import Estimate, MetricInputs
from diffussm.metrics.suite import MetricSuite

TABLE = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


@TABLE
def test_each_metric_s_function_takes_the_inputs_and_gives_an_estimate(metric: Metric) -> None:
    module, _, name = metric.function.partition(":")
    signature = inspect.signature(getattr(importlib.import_module(module), name))
    assert [parameter.annotation for parameter in signature.parameters.values()] == [MetricInputs]
    assert signature.return_annotation is Estimate


@TABLE
def test_each_entry_makes_sense(metric: Metric) -> None:
    assert metric.layer in LAYERS or metric.layer == metric.name
    assert (metric.reference == "nothing") == (metric.least_images == 0)
    assert not (metric.by_default and (metric.needs_labels or metric.has_own_network))


def test_titles_differ() -> None:
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)


def test_the_schema_allows_the_table_s_names_in_its_order() -> None:
    assert EvaluationConfig.model_json_schema()["properties"]["metrics"]["items"]["enum"] == list(METRICS)


def test_neighbours_need_as_many_samples_and_images() -> None:
    for name in ("precision", "recall"):
        metric = METRICS[name]
        assert metric.least_samples == metric.least_images == precision_recall.NEIGHBOURS + 1
    for name in ("density", "coverage"):
        assert METRICS[name].least_images == density_coverage.NEIGHBOURS + 1


def test_a_suite_computes_the_metrics_of_the_table() -> None:
    names = [name for name, metric in METRICS.items() if not metric.has_own_network]
    named = tuple(name for name in names if not METRICS[name].needs_labels)
    evaluation = EvaluationConfig(reference="digits", extractor="digits-cnn", metrics=named, samples=60)
    key = external_key(evaluation, (1, 8)).model_copy(update={"metrics": tuple(names)})
    suite = MetricSuite(evaluation, key)
    suite.load_reference()
    images = reference_images("digits")
    found = suite.measure(suite.extract(images.pixels[:60]).__getitem__, images.labels[:60])
    assert [name for name in METRICS if name in found] == names
    for name in names:
        assert (f"{name}_samples_low" in found) == bool(METRICS[name].interval)
        assert (f"{name}_floor" in found) == (name in FRECHET)
        assert found[f"{name}_samples_low"] <= found[name] + 1e-9
        assert found[f"{name}_samples_high"] >= found[name] - 1e-9


@pytest.mark.parametrize("samples", range(1, 6))
def test_a_metric_is_refused_below_its_least_number_of_samples(samples: int) -> None:
    refused = unsupported_metrics(extractor_facts("digits-cnn"), reference_facts("digits"), samples)
    few = {name for name, obstacle in refused.items() if "sample" in obstacle}
    assert few == {name for name, metric in METRICS.items() if metric.least_samples > samples}


def test_what_is_measured_where_no_metrics_are_named() -> None:
    """These tuples are in the keys of stored records."""
    assert default_metrics("digits-cnn", "digits") == ("fid", "sfid", "inception_score", "kid", "precision", "recall")
    assert default_metrics("photos-cnn", "photos") == ("fid", "sfid", "kid", "precision", "recall")


def test_layers_are_in_the_extractor_s_order() -> None:
    assert layers_of(("label_accuracy", "sfid", "kid", "clean_fid")) == ["features", "spatial", "logits"]
    assert layers_of(("recall", "fid")) == ["features"]


def test_an_estimate_s_entries_in_a_record() -> None:
    assert Estimate(1.0).entries(METRICS["fid"]) == {"fid": 1.0}
    assert list(Estimate(1.0, Interval(0.5, 2.0), 0.1, 0.9).entries(METRICS["fid"]).items()) == [
        ("fid", 1.0),
        ("fid_floor", 0.1),
        ("fid_samples_low", 0.5),
        ("fid_samples_high", 2.0),
        ("fid_infinity", 0.9),
    ]


def test_the_table_loads_neither_torch_nor_numpy() -> None:
    script = "import diffussm.metric_table, sys; sys.exit(bool({'torch', 'numpy', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
