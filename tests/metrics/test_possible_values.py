"""What cannot be is an error, never a record: statistics that no features have, and values outside a metric's range."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diffussm.errors import NotFinite, UserError
from diffussm.metric_table import METRICS, impossible_value
from diffussm.metrics.reference.gaussian import stated_gaussian
from diffussm.metrics.statistics.fid import frechet_estimate
from diffussm.metrics.statistics.finite import finite
from diffussm.metrics.statistics.frechet import FrechetDistance, Statistics
from diffussm.metrics.statistics.jackknife import Interval
from diffussm.metrics.statistics.protocol import Estimate
from diffussm.store import records
from tests.support.evaluating import DIGITS, Run, assert_error
from tests.support.synthetic_records import all_metrics

SIZE = 6


def covariance(rank: int = SIZE, scale: float = 1.0) -> np.ndarray:
    factor = np.random.default_rng(0).normal(size=(SIZE, rank))
    return scale * factor @ factor.T


def asymmetric(x: np.ndarray) -> np.ndarray:
    return x + 0.01 * np.triu(x, 1)


def indefinite(x: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(x)
    values[0] = -0.01 * values[-1]
    return (vectors * values) @ vectors.T


BAD: list[tuple[Callable[[np.ndarray], np.ndarray], str]] = [
    (asymmetric, r"sigma is no covariance: it is not symmetric \(opposite entries differ by up to"),
    (indefinite, r"sigma is no covariance: it has a negative eigenvalue \(-"),
    (np.negative, "sigma is no covariance: it has a negative eigenvalue"),
    (lambda x: x.astype(complex), "sigma is complex128; allowed: real numbers"),
    (lambda x: x.astype(str), "sigma is <U32; allowed: real numbers"),
    (lambda x: x > 0, "sigma is bool; allowed: real numbers"),
    (lambda x: np.where(x == x.max(), np.nan, x), "sigma: holds numbers that are not finite"),
    (lambda x: x[:-1], r"mu of shape \(6,\) and sigma of \(5, 6\) do not fit"),
    (lambda x: x[0], r"mu of shape \(6,\) and sigma of \(6,\) do not fit"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD)
def test_statistics_that_no_features_have(
    spoil: Callable[[np.ndarray], np.ndarray], message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", mu=np.zeros(SIZE), sigma=spoil(covariance()))
    with pytest.raises(UserError, match=rf"a\.npz: {message}"):
        stated_gaussian(tmp_path / "a.npz", "features")


@pytest.mark.parametrize("rank", [1, 3, SIZE])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_rounding_is_no_fault(rank: int, dtype: type, scale: float, tmp_path: Path) -> None:
    """A covariance of fewer features than dimensions is singular: rounding makes some eigenvalues negative."""
    sigma = covariance(rank, scale).astype(dtype)
    np.savez(tmp_path / "a.npz", mu_s=np.zeros(SIZE), sigma_s=sigma)
    np.testing.assert_array_equal(stated_gaussian(tmp_path / "a.npz", "spatial").covariance, sigma)


@pytest.mark.parametrize("spoil", [asymmetric, indefinite])
def test_no_command_measures_against_them(
    spoil: Callable[[np.ndarray], np.ndarray], tmp_path: Path, diffussm: Run
) -> None:
    good, bad, samples = (tmp_path / f"{name}.npz" for name in ("good", "bad", "samples"))
    assert diffussm("reference", "build", "digits", good)[0] == 0
    with np.load(good) as arrays:
        np.savez(bad, **{**arrays, "sigma": spoil(arrays["sigma"])})
        np.savez(samples, arr_0=arrays["arr_0"][:20])
    for command in (
        ("evaluate", samples, "--reference", bad, "--extractor", "digits-cnn", "--metrics", "fid"),
        ("reference", "show", bad),
        ("reference", "compare", good, bad),
    ):
        assert_error(diffussm(*command), f"{bad}: sigma is no covariance: ")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("fid", -5.3, "0 or more"),
        ("fid", float("nan"), "0 or more"),
        ("fid", float("inf"), "0 or more"),
        ("sfid", -1.0, "0 or more"),
        ("clean_fid", -1.0, "0 or more"),
        ("clean_fid_legacy", -1.0, "0 or more"),
        ("inception_score", 0.9, "1 or more"),
        ("kid", float("nan"), "any finite number"),
        ("precision", 1.01, "0 to 1"),
        ("recall", -0.01, "0 to 1"),
        ("coverage", 2.0, "0 to 1"),
        ("density", -0.1, "0 or more"),
        ("label_accuracy", 1.0001, "0 to 1"),
    ],
)
def test_an_impossible_value_becomes_no_record(name: str, value: float, allowed: str) -> None:
    metric = METRICS[name]
    message = f"{metric.title} = {value:.6g} is impossible: allowed: {allowed}"
    with pytest.raises(UserError, match=message):
        Estimate(value, Interval(value, value)).entries(metric)
    with pytest.raises(UserError, match=message):
        Estimate(1.0, floor=value).entries(metric)
    assert impossible_value({**all_metrics("A", 0, 24), name: value}).startswith(f"{name}: {message}")
    assert not impossible_value(all_metrics("A", 0, 24))


def test_every_metric_has_its_range() -> None:
    """KID is an unbiased estimate, and is below zero where the populations are equal."""
    assert [name for name, metric in METRICS.items() if np.isinf(metric.least)] == ["kid"]


def test_a_value_beyond_its_range_by_rounding_is_the_end_of_the_range() -> None:
    assert Estimate(-2e-7, floor=-1e-7, rounding=1e-6).entries(METRICS["fid"]) == {"fid": 0.0, "fid_floor": 0.0}
    with pytest.raises(UserError, match=r"FID = -2e-06 is impossible: allowed: 0 or more \(rounding: 1e-06\)"):
        Estimate(-2e-6, rounding=1e-6).entries(METRICS["fid"])
    assert Estimate(0.99999).entries(METRICS["inception_score"]) == {"inception_score": 1.0}


@pytest.mark.parametrize(("size", "count"), [(64, 20), (64, 300), (256, 40)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rounding_of_a_distance_to_itself(size: int, count: int, dtype: type) -> None:
    """At most a twentieth of what is allowed: singular covariances too, and statistics stored in float32."""
    x = np.random.default_rng(size + count).normal(size=(count, size)) * 10 + 5
    found = Statistics.of(x)
    distance = FrechetDistance(Statistics(*(part.astype(dtype).astype(np.float64) for part in found)))
    assert abs(distance(found)) < distance.rounding(found) / 20
    assert frechet_estimate(x, distance).entries(METRICS["fid"])["fid"] == pytest.approx(0, abs=1e-2)


def test_features_of_the_reference_are_finite() -> None:
    features = np.zeros((4100, 2), dtype=np.float32)
    features[4003, 1] = np.inf
    with pytest.raises(NotFinite, match="reference image 4003: its features are not finite"):
        finite(features, "its features", "reference image")


def test_a_stored_record_of_an_impossible_value_is_damaged(samples_record: records.Record, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    content = samples_record.model_dump(mode="json")
    for value, valid in ((content["metrics"]["fid"], True), (-1e-9, True), (-5.3, False)):
        content["metrics"]["fid"] = value
        path.write_text(json.dumps(content))
        assert (records.read(path) is not None) == valid


@pytest.fixture
def samples_record(tmp_path: Path, diffussm: Run) -> records.Record:
    samples = tmp_path / "samples.npz"
    np.savez(samples, arr_0=np.zeros((20, 8, 8, 1), dtype=np.uint8))
    code, out, _ = diffussm("evaluate", samples, *DIGITS, "--metrics", "fid", "--json")
    assert code == 0
    (found,) = json.loads(out)
    found.pop("path")
    return records.Record.model_validate_json(json.dumps(found))
