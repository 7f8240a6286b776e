"""Tables and quantities as text."""

import pytest

from diffussm.tables import aligned, display_width, format_count, format_duration, markdown, plural


def test_aligned() -> None:
    rows = [{"arm": "a", "seed": 0, "note": ""}, {"arm": "longer", "seed": 12, "note": "it ends here"}]
    assert aligned(rows, ("arm", "note")).splitlines() == [
        "arm     seed  note",
        "--------------------------",
        "a          0",
        "longer    12  it ends here",
    ]
    assert aligned([]) == ""


def test_wide_characters_take_two_columns() -> None:
    rows = [{"arm": "\u82b1", "seed": 1}, {"arm": "e\u0301te", "seed": 2}]
    assert aligned(rows, ("arm",)).splitlines()[2:] == ["\u82b1      1", "e\u0301te     2"]
    assert [display_width(text) for text in ("abc", "\u82b1\u5349", "e\u0301", "")] == [3, 4, 1, 0]


def test_markdown() -> None:
    assert markdown(["name", "value"], [("a|b", 1), ("c", "")], [1]) == (
        "| name | value |\n|---|---:|\n| a\\|b | 1 |\n| c |  |\n"
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "unknown"),
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (999_994, "999.99 k"),
        (999_995, "1.00 M"),
        (118_640_000_000, "118.64 G"),
        (3.61e19, "36.10 E"),
        (1.234e21, "1,234.00 E"),
    ],
)
def test_count(number: float | None, text: str) -> None:
    assert format_count(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unknown"),
        (0.4, "0 s"),
        (59.6, "1 min 00 s"),
        (127, "2 min 07 s"),
        (3900, "1 h 05 min"),
        (90_000, "1 d 1 h"),
        (100_000_000, "1,157 d 9 h"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


def test_plural() -> None:
    assert [plural(n, "run") for n in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]
