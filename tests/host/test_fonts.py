"""Texts in any script are drawn in a font that has all of it, or with escapes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from diffussm.host import fonts
from diffussm.host.fonts import dejavu_sans, drawable

ARC = "\u2312"  # which DejaVu Sans Mono has, and DejaVu Sans has not


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only installed fonts: DejaVu Sans Mono, one for which every character is the same, and no font."""
    brought = dejavu_sans()
    assert brought
    folder = tmp_path / "fonts"
    (folder / "truetype").mkdir(parents=True)
    mono = folder / "truetype" / "DejaVuSansMono.ttf"
    mono.write_bytes(brought.with_name(mono.name).read_bytes())
    last = "LastResortHE-Regular.ttf"
    (folder / last).write_bytes(brought.with_name(last).read_bytes())
    (folder / "a.ttf").write_bytes(b"no font")
    monkeypatch.setattr(fonts, "_folders", lambda: iter([folder, tmp_path / "none"]))
    for function in (fonts._installed, fonts.installed_with, fonts._has):
        function.cache_clear()
    return mono


@pytest.fixture(autouse=True, scope="module")
def _forgotten() -> Iterator[None]:
    """The fonts of this machine are found anew afterwards."""
    yield
    for function in (fonts._installed, fonts.installed_with, fonts._has):
        function.cache_clear()


@pytest.mark.parametrize("text", ["daisy", "Ромашка", "زهرة", "a$b$", ""])
def test_dejavu_draws_what_it_has(text: str) -> None:
    assert drawable(text) == (text, dejavu_sans())


def test_an_installed_font_draws_what_only_it_has(installed: Path) -> None:
    shown = drawable(f"an arc {ARC}")
    assert shown == (f"an arc {ARC}", installed)
    assert bytes(shown.font(20).getmask(ARC)) != bytes(shown.font(20).getmask("\uffff"))


@pytest.mark.parametrize(
    ("text", "shown"), [("花卉 3", r"\u82b1\u5349 3"), ("\udcff\n\x1b", r"\udcff\n\x1b"), (f"花{ARC}", rf"\u82b1{ARC}")]
)
def test_what_no_font_has_is_escaped(text: str, shown: str) -> None:
    assert drawable(text).text == shown
