"""The data dictionary is the generated page; it has every field and column that is written, and no other."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import tests.support.synthetic_bench as synthetic_bench
import tests.support.synthetic_records as synthetic
import tests.support.tiny as tiny
from ablations import launch
from diffussm.data.load import reference_images
from diffussm.data.pixels import ArrayPixels
from diffussm.metrics.external import evaluate_external, external_config
from reports import make_figures
from reports.docs import cost as cost_page
from reports.docs import dictionary, metrics
from reports.docs.columns import Column, Table, stands_for
from reports.docs.dictionary import TABLES


def test_the_page_is_the_generated_one() -> None:
    assert dictionary.PAGE.read_text() == dictionary.page()


@pytest.mark.parametrize(
    "columns",
    [dictionary.record_fields(), *(list(table.columns) for table in TABLES)],
    ids=["record", *(t.path for t in TABLES)],
)
def test_every_description_is_complete(columns: list[Column]) -> None:
    assert all(all(column) for column in columns)
    assert len({column.name for column in columns}) == len(columns)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The columns of every CSV file of a complete report, and of the audit, by path as in the dictionary."""
    folder = tmp_path_factory.mktemp("written")
    synthetic.write(folder / "runs", synthetic.all_metrics)
    synthetic_bench.write(folder / "runs" / "bench", synthetic_bench.every_suite())
    assert make_figures.main(["--runs", str(folder / "runs"), "--out", str(folder / "out")]) == 0
    paths = {path.relative_to(folder / "out").as_posix(): path for path in (folder / "out").rglob("*.csv")}
    named = {as_described(name): path for name, path in paths.items()}
    return {name: list(pd.read_csv(path)) for name, path in {**named, "docs/cost_audit.csv": cost_page.AUDIT}.items()}


def as_described(name: str) -> str:
    """A path with the placeholders of the dictionary in place of names."""
    patterns = {
        "hourglass_vs_patch/digits": "<grid>/<base>",
        "small-cpu": "<scale>-<device>",
        r"time_\w+": "time_<suite>",
    }
    for pattern, words in patterns.items():
        name = re.sub(pattern, words, name)
    return name


def test_every_table_is_described(written: dict[str, list[str]]) -> None:
    assert {table.path for table in TABLES} == set(written)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.path)
def test_every_column_is_described_and_occurs(table: Table, written: dict[str, list[str]]) -> None:
    """The columns are in the order of the table."""
    described = []
    for column in written[table.path]:
        (name,) = [described.name for described in table.columns if stands_for(described.name, column)]
        described.append(name)
    assert list(dict.fromkeys(described)) == [column.name for column in table.columns]


def leaves(content: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in content.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")


def test_records_have_the_fields_that_are_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All described fields occur, except metrics that were not asked, and external code, an extractor of one's own,
    latents and a model's folder, which were not used: the record of a run, and that of external samples."""
    monkeypatch.setenv("DIFFUSSM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "one.toml").write_text(
        "".join(f'{name} = "a test"\n' for name in ("claim", "source", "expected", "cost", "command"))
        + 'base = "digits"\nseeds = 1\n[arms.A]\n'
    )
    settings = [f"--set={key}={value}" for key, value in tiny.SETTINGS.items()]
    where = ["--grid", str(tmp_path / "one.toml"), "--runs", str(tmp_path / "runs"), "--executor", "debug"]
    assert launch.main([*where, *settings]) == 0
    record, *_ = (tmp_path / "runs").rglob("record.json")
    pixels = ArrayPixels(reference_images("digits").pixels[:12])
    outside = evaluate_external(pixels, external_config(pixels, "digits"))
    assert outside is not None
    for provenance in (json.loads(record.read_text())["provenance"], outside.provenance):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", provenance["created"])
    held = {
        re.sub(r"^provenance\.packages\..*", "provenance.packages.*", name)
        for content in (json.loads(record.read_text()), outside.model_dump())
        for name in leaves(content)
        if name not in ("provenance.packages", "provenance.machine", "provenance.data_digests")
    }
    described = {column.name for column in dictionary.record_fields()}
    assert held <= described
    of_others = ("external_code.", "data_digests.extractor", "data_baked", "model.")
    of_own = ("metrics.", *(f"provenance.{name}" for name in of_others))
    assert not [name for name in described - held if not name.startswith(of_own)]


def test_synthetic_records_have_all_metrics_that_are_described() -> None:
    assert {f"metrics.{name}" for name in synthetic.all_metrics("A", 0, 8)} == {
        column.name for column in dictionary.metrics()
    }


def test_the_page_of_metrics_is_the_generated_one() -> None:
    """Made by `make dictionary`."""
    assert metrics.PAGE.read_text() == metrics.page()
