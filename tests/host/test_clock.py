"""Stored times are UTC, whatever the machine's time zone, and sort as text."""

import time

import pytest

from diffussm.data.load import reference_images
from diffussm.data.pixels import ArrayPixels
from diffussm.host.clock import utc
from diffussm.metrics import external
from diffussm.metrics.external import evaluate_external, external_config


def test_utc_in_any_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert utc(1_769_850_300.25) == "2026-01-31T09:05:00.250Z"
        monkeypatch.setattr(time, "time", lambda: 1_769_850_300)
        assert utc() == "2026-01-31T09:05:00.000Z"
    finally:
        monkeypatch.undo()
        time.tzset()
    assert utc(9) < utc(10) < utc(100)


def test_a_record_states_when_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "utc", lambda: utc(1_769_850_300))
    pixels = ArrayPixels(reference_images("digits").pixels[:12])
    config = external_config(pixels, "digits", metrics=("fid",))
    assert evaluate_external(pixels, config).provenance["created"] == "2026-01-31T09:05:00.000Z"
