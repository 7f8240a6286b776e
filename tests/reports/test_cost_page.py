"""docs/cost.md is current, and its audit covers the current models."""

import pandas as pd
import pytest

from diffussm.cost.executed import executed_macs
from diffussm.cost.named import NAMED, named_config
from reports.docs import cost as cost_page

AUDIT = pd.read_csv(cost_page.AUDIT)


def test_the_page_is_the_generated_one() -> None:
    assert (cost_page.ROOT / "docs" / "cost.md").read_text() == cost_page.page(AUDIT)


@pytest.mark.parametrize("row", AUDIT.to_dict("records"), ids=lambda row: f"{row['model']} {row['backend']}")
def test_the_audit_matches_the_models(row: dict[str, object]) -> None:
    """The closed forms are current, and the counters agree with them within 0.1 %."""
    backend = "auto" if pd.isna(row["backend"]) else str(row["backend"])
    executed = executed_macs(named_config(str(row["model"])), backend)
    assert executed is not None
    assert (row["per_image"], row["products"], row["fixed"]) == (
        executed.per_image,
        executed.products,
        executed.fixed,
    )
    assert row["per_image_fvcore"] == pytest.approx(row["per_image"], rel=1e-3)
    assert row["products_torch"] == pytest.approx(row["products"], rel=1e-3)
    assert row["fixed_fvcore"] == row["fixed"]


def test_every_named_model_is_audited() -> None:
    assert set(AUDIT.model) == set(NAMED)
    assert set(AUDIT[AUDIT.model == "DiffuSSM-XL"].backend) == {"fft", "chunked"}


def test_the_page_quotes_the_papers() -> None:
    page = cost_page.page(AUDIT)
    for shown in ("280.3", "1066.2", "524.5 G", "707.3 M", "about 673 M", "295.6"):
        assert shown in page, shown
