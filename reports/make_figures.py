"""Make every table and figure from what lies on disk: `python reports/make_figures.py`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from a clone

import numpy as np
import pandas as pd

from diffussm.errors import UserError, exit_code
from reports import bench, figures, tables
from reports.runs import GridResults, load, manifests

HERE = Path(__file__).parent
OUT = HERE / "out"
PUBLISHED_CURVES = {  # grid -> figure of the paper, and its curves as arms of the grid
    "hourglass_vs_patch": ("6-right", {"DiffuSSM-XL M=2": "M = 2, P = 1", "DiffuSSM-XL P=2": "M = 1, P = 2"}),
}
SHOWN_SAMPLES = 12


class Parser(argparse.ArgumentParser):
    """argparse, with its errors told like any other mistake of a user's."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="make_figures.py", description="Make tables and figures from records.", allow_abbrev=False)
    parser.add_argument("--grid", metavar="NAME", help="only this grid (default: all that were launched)")
    parser.add_argument("--base", metavar="NAME", help="only this base")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="run folders (default: runs)")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="where to write (default: reports/out)")
    options = parser.parse_args(arguments)

    found = manifests(options.runs, options.grid, options.base)
    written = [path for manifest in found for path in report(load(manifest, options.runs), options.out)]
    if not options.grid and not options.base:
        written += bench.report(options.runs / "bench", options.out / "bench")
    for path in written:
        print(path)
    if not found:
        grid = options.grid or "hourglass_vs_patch"
        base = f" --base {options.base}" if options.base else ""
        raise UserError(f"no runs in {options.runs}: make them with: python ablations/launch.py --grid {grid}{base}")
    return 0


def report(results: GridResults, out: Path) -> list[Path]:
    """All tables and figures of one grid on one base, in `out`/<grid>/<base>; returns the files to look at."""
    folder = out / results.grid / results.base
    folder.mkdir(parents=True, exist_ok=True)
    runs = tables.run_table(results)
    shown = [
        _write(folder / "runs", runs, tables.markdown(runs), results.run_ids),
        _results(results, folder / "results"),
    ]
    if results.key is not None:
        shown += [*_curves(results, folder / "fid_over_steps"), *_samples(results, folder / "samples")]
    return shown


def _results(results: GridResults, stem: Path) -> Path:
    table = tables.results_table(results)
    text = f"# {results.grid} on {results.base}\n\nClaim: {results.claim} ({results.source})\n\n"
    text += tables.results_markdown(results, table)
    if results.key is not None:
        text += f"\n± is the half-width of the 95 % Student-t interval over seeds. {_how_measured(results)}\n"
        gaps = tables.differences(results, "fid")
        gaps.to_csv(stem.with_name("differences.csv"), index=False)
        _write_ids(stem.with_name("differences"), results.run_ids)
        sentences = tables.findings(gaps, "FID")
        text += "\n## What the intervals say\n\n" + "".join(f"- {sentence}\n" for sentence in sentences)
        text += "\nIntervals are per comparison, not corrected for their number.\n"
    return _write(stem, table, text, results.run_ids)


def _how_measured(results: GridResults) -> str:
    key, floor = results.key, results.done["fid_floor"].iloc[0]
    assert key is not None
    return (
        f"{key.fid_name}: {_sampler(results)}, "
        f"{key.weights} weights, against {key.reference_samples} images of {key.reference}; "
        f"real images score {floor:.2f} at this n (noise floor, 20 draws)."
    )


def _curves(results: GridResults, stem: Path) -> list[Path]:
    assert results.key is not None
    curve = tables.curves(results, "fid")
    by_seed = results.done.pivot_table(index=["arm", "step"], columns="seed", values="fid")
    by_seed.columns = [f"seed_{seed}" for seed in by_seed.columns]
    table = curve.merge(by_seed.reset_index(), on=["arm", "step"])
    text = f"{results.key.fid_name}, mean ± half-width of the 95 % interval over seeds\n\n"
    text += tables.curve_markdown(results, curve)
    published = _published(results.grid)
    floor = float(results.done["fid_floor"].iloc[0])
    measured = [arm for arm in results.arms if arm in set(curve.arm)]
    figure = figures.fid_over_steps(
        curve, measured, results.key.fid_name, floor, f"measured ({results.base})", published
    )
    figures.save(figure, stem.with_suffix(".png"))
    return [_write(stem, table, text, results.run_ids), stem.with_suffix(".png")]


def _samples(results: GridResults, stem: Path) -> list[Path]:
    """Samples of the least seed that every measured arm has, at the last step, from the same noise and labels."""
    assert results.key is not None
    last = results.done[results.done.step == results.done.steps]
    seeds = set.intersection(*(set(group.seed) for _, group in last.groupby("arm"))) if len(last) else set()
    if not seeds:
        return []
    chosen = last[last.seed == min(seeds)]
    images: dict[str, Any] = {}
    rows, labels = [], np.empty(0, dtype=np.int64)
    for row in chosen.itertuples():
        record = results.folders[row.run_id].record(row.step, row.key)
        with np.load(record.with_name("samples.npz")) as stored:
            images[row.arm], labels = stored["arr_0"][:SHOWN_SAMPLES], stored["labels"][:SHOWN_SAMPLES]
        flat = images[row.arm].reshape(len(labels), -1)
        rows += [
            {"arm": row.arm, "sample": i, "label": label, **{f"pixel_{p}": v for p, v in enumerate(pixels)}}
            for i, (label, pixels) in enumerate(zip(labels, flat, strict=True))
        ]
    title = f"{results.grid} on {results.base}: same noise and labels (columns), seed {min(seeds)}, {_sampler(results)}"
    figures.save(figures.sample_rows(images, labels, title), stem.with_suffix(".png"))
    pd.DataFrame(rows).to_csv(stem.with_suffix(".csv"), index=False)
    _write_ids(stem, list(chosen.run_id))
    return [stem.with_suffix(".png")]


def _sampler(results: GridResults) -> str:
    assert results.key is not None
    fields = {"sampler": results.key.sampler.upper(), "sampler_steps": f"{results.key.sampler_steps} steps"}
    shown = [text for field, text in fields.items() if field not in results.varied]
    if "guidance" not in results.varied:
        shown.append(f"guidance {results.key.guidance:g}")
    return ", ".join([*shown, *(f"{field} as the arm says" for field in sorted(results.varied))])


def _published(grid: str) -> pd.DataFrame | None:
    if grid not in PUBLISHED_CURVES:
        return None
    figure, arms = PUBLISHED_CURVES[grid]
    reported = pd.read_csv(HERE / "published" / "fid_over_steps.csv")
    return reported[reported.figure == figure].assign(arm=lambda table: table.curve.map(arms))


def _write(stem: Path, table: pd.DataFrame, text: str, run_ids: list[str]) -> Path:
    """The table as CSV and Markdown, with the ids of the runs behind it; returns the Markdown's path."""
    table.to_csv(stem.with_suffix(".csv"), index=False)
    stem.with_suffix(".md").write_text(text)
    _write_ids(stem, run_ids)
    return stem.with_suffix(".md")


def _write_ids(stem: Path, run_ids: list[str]) -> None:
    stem.with_suffix(".runs.json").write_text(json.dumps(sorted(set(run_ids)), indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(exit_code(main))
