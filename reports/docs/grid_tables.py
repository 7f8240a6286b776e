"""The columns of the tables of a grid (see `reports.grid`)."""

from reports.docs.columns import COST, MACS_PER_CALL, PARAMETERS, STEPS, Column, Table

RECORD, MANIFEST, RUN_FOLDER = "the record", "the launch's manifest", "the run folder"
T_INTERVAL = "reports/grid/stats.py, Student t, 95 %"
FIGURE_6 = "Yan et al. 2023, Figure 6: reports/published/fid_over_steps.csv"
SAME = "the metric's"
SAMPLES_FILE = "samples.npz beside the record"

ARM = Column("arm", "arm of the grid", "-", MANIFEST)
STEP = Column(
    "step", "where a milestone is compared: its step, or the control's at equal training MACs", STEPS, MANIFEST
)
SEEDS = (
    Column("seeds_low", "lower end of the interval of the mean over seeds", SAME, T_INTERVAL),
    Column("seeds_high", "upper end of the interval", SAME, T_INTERVAL),
)
CURVE = (
    ARM,
    STEP,
    Column("mean", "mean of the metric over runs that differ in their seed", SAME, RECORD),
    *SEEDS,
    Column("n", "number of runs with a record", "runs", RECORD),
    Column(
        "samples_low", "the mean, less the lower half-width of a run's interval over samples, averaged", SAME, RECORD
    ),
    Column("samples_high", "the mean, plus the upper half-width, averaged", SAME, RECORD),
)
SAMPLES = (
    Column("row", "arm, or milestone of one arm", "-", MANIFEST),
    Column("sample", "index of the sample; equal ones share noise and label", "-", SAMPLES_FILE),
    Column("label", "requested class; 0 where there are no classes", "-", SAMPLES_FILE),
    Column(
        "pixel_<n>",
        "value at (row, column, channel), the last fastest; missing if an image has more than 3 x 64 x 64",
        "0 .. 255",
        SAMPLES_FILE,
    ),
)


def _with_seeds(name: str, meaning: str, unit: str) -> tuple[Column, ...]:
    """Return the columns of a mean over seeds with its interval."""
    interval = (column._replace(name=f"{name}_{column.name}", unit=unit) for column in SEEDS)
    return (Column(name, f"{meaning}: mean over runs at the last step", unit, RECORD), *interval)


GRID_TABLES = (
    Table(
        "<grid>/<base>/runs.csv",
        "a run, whether done or not",
        (
            ARM,
            Column("seed", "seed of weights, data order and noise", "-", MANIFEST),
            Column("run_id", "the run's folder in runs/", "-", MANIFEST),
            Column(
                "state",
                "done, failed, diverged, cancelled, or missing: pending, running or interrupted",
                "-",
                RUN_FOLDER,
            ),
            Column("reason", "why it failed or diverged", "-", RUN_FOLDER),
            Column("last_measured_step", "the last milestone with a record", STEPS, RECORD),
            Column("asked_steps", "requested training steps", STEPS, MANIFEST),
            *COST,
            Column("<metric>", "the metric at last_measured_step", SAME, RECORD),
            Column("<metric>_samples_low", "lower end of its interval over samples", SAME, RECORD),
            Column("<metric>_samples_high", "upper end of its interval over samples", SAME, RECORD),
            Column("<metric>_floor", "its noise floor", SAME, RECORD),
            Column("<metric>_infinity", "its extrapolation to infinitely many samples", SAME, RECORD),
        ),
    ),
    Table(
        "<grid>/<base>/results.csv",
        "an arm at its last step",
        (
            ARM,
            Column("step", "the last requested step of the arm", STEPS, MANIFEST),
            Column("runs", "number of runs in each state", "-", "the run folders"),
            Column("n", "number of runs with a record at that step", "runs", RECORD),
            *COST,
            *_with_seeds("<metric>", "the metric", SAME),
            Column(
                "<metric>_samples_half_width", "half-width of its interval over samples: mean over runs", SAME, RECORD
            ),
            *_with_seeds("<metric>_infinity", "its extrapolation to infinitely many samples", SAME),
            *_with_seeds("seconds_per_step", "median time of a training step", "s"),
        ),
    ),
    Table(
        "<grid>/<base>/differences.csv",
        "two arms that differ in one axis, at a milestone",
        (
            STEP,
            ARM,
            Column("other", "the arm that it is compared with", "-", MANIFEST),
            Column("mean", "mean difference, FID of arm minus FID of other, over shared seeds", "that of FID", RECORD),
            Column("low", "lower end of the interval of that mean over paired seeds", "that of FID", T_INTERVAL),
            Column("high", "upper end of the interval", "that of FID", T_INTERVAL),
            Column("n", "number of shared seeds", "seeds", RECORD),
            Column(
                "separates",
                "whether the difference is significant: the interval excludes 0",
                "True or False",
                "reports/grid/tables.py",
            ),
            *COST,
            PARAMETERS._replace(name="parameters_of_other"),
            MACS_PER_CALL._replace(name="macs_per_call_of_other"),
        ),
    ),
    Table(
        "<grid>/<base>/fid_over_steps.csv",
        "an arm at a milestone; the metric is FID",
        (
            *CURVE,
            Column("seed_<n>", "FID of the run of that seed", SAME, RECORD),
            *COST,
            Column("floor", "FID of real images with the same n; empty where it was not measured", SAME, RECORD),
        ),
    ),
    Table(
        "<grid>/<base>/fid_over_steps_reported.csv",
        "a point of the paper's Figure 6",
        (
            Column("figure", "panel of the figure", "-", FIGURE_6),
            Column("curve", "the curve's name there", "-", FIGURE_6),
            Column("step", "training step", STEPS, FIGURE_6),
            Column("fid", "FID-50K, digitised, with about 1 % reading error", "squared units of features", FIGURE_6),
            Column("tag", "certainty of the number, A to D", "-", "reports/published/README.md"),
            Column("note", "how it was read, or what contradicts it", "-", FIGURE_6),
            Column("arm", "arm of the grid that the curve corresponds to", "-", "reports/paper/published.py"),
        ),
    ),
    Table(
        "<grid>/<base>/metrics_over_steps.csv",
        "a metric of an arm at a milestone",
        (Column("metric", "name of the metric in the record", "-", "diffussm/metric_table.py"), *CURVE),
    ),
    Table("<grid>/<base>/samples.csv", "a sample of an arm at its last step", SAMPLES),
    Table("<grid>/<base>/samples_over_steps.csv", "a sample of the first arm at a milestone", SAMPLES),
)
