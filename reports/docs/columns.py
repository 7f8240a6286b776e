"""Every column of every CSV table, described: the one home of each description. `dictionary` writes them down.

In names `<n>` stands for a number and `<metric>` for one of METRICS; in paths `<scale>` is small or paper, `<device>`
cpu or cuda, `<suite>` a suite of benchmarks.
"""

import re
from typing import NamedTuple

from diffussm.metric_table import METRICS


class Column(NamedTuple):
    name: str
    meaning: str
    unit: str
    source: str


class Table(NamedTuple):
    path: str
    rows: str  # what a row is
    columns: tuple[Column, ...]


RECORD, MANIFEST, T_INTERVAL = "the record", "the launch's manifest", "reports/grid/stats.py, Student t, 95 %"
CLOSED_FORM = "diffussm/cost/closed_form.py"
FIGURE_6 = "Yan et al. 2023, Figure 6: reports/published/fid_over_steps.csv"
STEPS, MACS, SAME = "training steps", "multiply-adds, counted once", "the metric's"

ARM = Column("arm", "arm of the grid", "-", MANIFEST)
STEP = Column(
    "step", "where a milestone is compared: its step, or the control's at equal training MACs", STEPS, MANIFEST
)
PARAMETERS = Column("parameters", "of the network", "numbers", CLOSED_FORM)
MACS_PER_CALL = Column(
    "macs_per_call", "of the network on one image; empty where a mixer from outside states none", MACS, CLOSED_FORM
)
COST = (PARAMETERS, MACS_PER_CALL)
SEEDS = (
    Column("seeds_low", "lower end of the interval of that mean over seeds", SAME, T_INTERVAL),
    Column("seeds_high", "upper end of it", SAME, T_INTERVAL),
)
CURVE = (
    ARM,
    STEP,
    Column("mean", "of the metric over runs that differ in their seed", SAME, RECORD),
    *SEEDS,
    Column("n", "runs measured there", "runs", RECORD),
    Column("samples_low", "the mean less how far a run's interval over samples reaches down, averaged", SAME, RECORD),
    Column("samples_high", "the mean and how far it reaches up, averaged", SAME, RECORD),
)
SAMPLES = (
    Column("row", "arm, or milestone of one arm", "-", MANIFEST),
    Column("sample", "index of the sample; equal ones share noise and label", "-", "samples.npz beside the record"),
    Column("label", "class that was asked for; 0 where there are none", "-", "samples.npz beside the record"),
    Column(
        "pixel_<n>", "value at (row, column, channel), the last fastest", "0 .. 255", "samples.npz beside the record"
    ),
)

TIMER, BENCH = "diffussm/timing.py", "bench/"
CROSSINGS, PARTS = "reports/bench/crossings.py", "reports/bench/parts.py"
SUBJECT = Column("subject", "what is timed: a mixer, a backend, a part, a model", "-", BENCH)
WIDTH = Column("width", "D, where there is one", "channels", BENCH)
LENGTH = Column("length", "L, where there is one", "tokens", BENCH)
BATCH = Column("batch", "B, where there is one", "sequences", BENCH)
PASS = Column("pass", "forward, forward and backward, or training step; empty where it is none of them", "-", BENCH)
DTYPE = Column("dtype", "of the numbers", "-", BENCH)
BENCHMARK = (
    Column("suite", "the benchmark's suite", "-", BENCH),
    Column("group", "what it is compared within", "-", BENCH),
    Column("name", "its name in the group", "-", BENCH),
    SUBJECT,
    WIDTH,
    LENGTH,
    BATCH,
    PASS,
    Column("device", "cpu or cuda", "-", "torch"),
    DTYPE,
    Column("threads", "of torch on the CPU", "threads", "torch"),
)
STATUS = (
    Column("status", "timed, missing, failed or skipped", "-", BENCH),
    Column("reason", "why there is no time; empty where there is one", "-", BENCH),
)
MEDIAN = (
    Column("median_ms", "median of the rounds", "ms", TIMER),
    Column("low_ms", "lower end of its 95 % interval, by order statistics", "ms", TIMER),
    Column("high_ms", "upper end of it", "ms", TIMER),
)
ROUNDS = Column("rounds", "how often it was timed", "rounds", TIMER)
LEAST = (
    Column("macs", "that a call executes; empty where they are not known", MACS, CLOSED_FORM),
    Column("bytes", "that a call moves at least; empty likewise", "bytes", BENCH),
)
HEADLINE = Column("headline_macs", "of a call, whatever backend computes it; empty likewise", MACS, CLOSED_FORM)
ITEMS = Column("items", "images of a call, where it has any", "images", BENCH)
BOUND = (
    Column("bound", "what bounds a call: matmul for its multiply-adds, copy for its bytes", "-", BENCH),
    Column("share_of_bound", "least time by that bound over the median time", "1", BENCH),
)
TIMES = (
    *STATUS,
    *MEDIAN,
    Column("q1_ms", "first quartile of the rounds", "ms", TIMER),
    Column("q3_ms", "third quartile of them", "ms", TIMER),
    ROUNDS,
    Column(
        "peak_memory",
        "of a call above what stood before: the allocator's on a GPU, else the process's",
        "bytes",
        BENCH,
    ),
    LEAST[0],
    HEADLINE,
    LEAST[1],
    ITEMS,
    *BOUND,
    Column("version", "raised when what is timed changes its meaning", "-", BENCH),
)


def _with_seeds(name: str, meaning: str, unit: str) -> tuple[Column, ...]:
    """A mean over seeds with its interval."""
    interval = (column._replace(name=f"{name}_{column.name}", unit=unit) for column in SEEDS)
    return (Column(name, f"{meaning}: mean over runs at the last step", unit, RECORD), *interval)


TABLES = (
    Table(
        "<grid>/<base>/runs.csv",
        "a run, whatever became of it",
        (
            ARM,
            Column("seed", "of weights, data order and noise", "-", MANIFEST),
            Column("run_id", "the run's folder in runs/", "-", MANIFEST),
            Column("state", "done, missing, failed, diverged or cancelled", "-", "the run folder"),
            Column("reason", "why it failed or diverged", "-", "the run folder"),
            Column("last_measured_step", "the last milestone with a record", STEPS, RECORD),
            Column("asked_steps", "how far it was to be trained", STEPS, MANIFEST),
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
            Column("step", "the last step asked of the arm", STEPS, MANIFEST),
            Column("runs", "how many runs are in which state", "-", "the run folders"),
            Column("n", "runs measured at that step", "runs", RECORD),
            *COST,
            *_with_seeds("<metric>", "the metric", SAME),
            Column(
                "<metric>_samples_half_width", "of its interval over samples: mean over runs", SAME, RECORD
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
            Column("mean", "FID of arm less FID of other, over seeds that both have", "that of FID", RECORD),
            Column("low", "lower end of the interval of that mean over paired seeds", "that of FID", T_INTERVAL),
            Column("high", "upper end of it", "that of FID", T_INTERVAL),
            Column("n", "seeds that both have", "seeds", RECORD),
            Column("separates", "whether the interval excludes 0", "True or False", "reports/grid/tables.py"),
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
            Column("floor", "FID of real images at the same n; empty where it was not measured", SAME, RECORD),
        ),
    ),
    Table(
        "<grid>/<base>/fid_over_steps_reported.csv",
        "a point of the paper's Figure 6",
        (
            Column("figure", "panel of the figure", "-", FIGURE_6),
            Column("curve", "the curve's name there", "-", FIGURE_6),
            Column("step", "training step", STEPS, FIGURE_6),
            Column("fid", "FID-50K as read off, about 1 % error", "squared units of features", FIGURE_6),
            Column("tag", "how sure the number is, A to D", "-", "reports/published/README.md"),
            Column("note", "how it was read, or what contradicts it", "-", FIGURE_6),
            Column("arm", "arm of the grid that the curve corresponds to", "-", "reports/paper/published.py"),
        ),
    ),
    Table(
        "<grid>/<base>/metrics_over_steps.csv",
        "a metric of an arm at a milestone",
        (Column("metric", "which: its name in the record", "-", "diffussm/metric_table.py"), *CURVE),
    ),
    Table("<grid>/<base>/samples.csv", "a sample of an arm at its last step", SAMPLES),
    Table("<grid>/<base>/samples_over_steps.csv", "a sample of the first arm at a milestone", SAMPLES),
    Table("bench/<scale>-<device>/timing.csv", "a benchmark, timed or not", (*BENCHMARK, *TIMES)),
    Table(
        "bench/<scale>-<device>/ratios.csv",
        "a ratio, of times measured in turns",
        (
            *BENCHMARK,
            Column("of", "what takes the time above the line", "-", BENCH),
            Column("to", "what takes the time below it", "-", BENCH),
            Column("ratio", "median over rounds", "1", TIMER),
            Column("low", "lower end of the 95 % interval of the median", "1", TIMER),
            Column("high", "upper end of it", "1", TIMER),
            ROUNDS._replace(name="n"),
        ),
    ),
    Table(
        "bench/<scale>-<device>/lengths.csv",
        "a mixer at a length",
        (
            Column("setting", "pass, width and dtype in words", "-", BENCH),
            SUBJECT,
            PASS,
            WIDTH,
            DTYPE,
            LENGTH,
            BATCH,
            Column("ns_per_token", "median time of a call, divided by batch times length", "ns", TIMER),
            Column("ns_low", "lower end of the 95 % interval of it", "ns", TIMER),
            Column("ns_high", "upper end of it", "ns", TIMER),
            Column("bytes_per_token", "peak memory of a call, divided by batch times length", "bytes", BENCH),
        ),
    ),
    Table(
        "bench/<scale>-<device>/crossings.csv",
        "a setting and what is compared",
        (
            Column("setting", "pass, width and dtype in words", "-", BENCH),
            Column("quantity", "time or memory", "-", CROSSINGS),
            Column(
                "length", "from which attention takes more than S4D by its fastest backend; empty where none such lies "
                "among those measured", "tokens", CROSSINGS
            ),
            Column("low", "the same of the ends of the intervals that favour S4D; empty likewise", "tokens", CROSSINGS),
            Column("high", "the same of the ends that favour attention", "tokens", CROSSINGS),
            Column("says", "all this in a sentence", "-", CROSSINGS),
        ),
    ),
    Table(
        "bench/<scale>-<device>/parts.csv",
        "a part of a block",
        (
            Column("block", "its shape and pass in words", "-", BENCH),
            Column("part", "its name", "-", BENCH),
            *MEDIAN,
            Column("share", "of the sum of medians over the block's parts", "1", PARTS),
            Column("sum_over_whole", "that sum over the median of the whole block; empty without it", "1", PARTS),
        ),
    ),
    Table(
        "bench/<scale>-<device>/lead.csv",
        "a DiffuSSM and a DiT timed in turns",
        (
            Column("pairing", "both in words", "-", BENCH),
            BENCHMARK[1],
            Column("ours", "the DiffuSSM", "-", BENCH),
            Column("theirs", "the DiT", "-", BENCH),
            Column("macs", "of a call of ours, whatever backend computes it; empty where not known", MACS, CLOSED_FORM),
            Column("macs_of_theirs", "of a call of theirs; empty likewise", MACS, CLOSED_FORM),
            Column("macs_lead", "macs_of_theirs / macs", "1", CLOSED_FORM),
            Column("seconds_lead", "time of theirs over that of ours: median over rounds", "1", TIMER),
            Column("seconds_low", "lower end of the 95 % interval of it", "1", TIMER),
            Column("seconds_high", "upper end of it", "1", TIMER),
            ROUNDS._replace(name="n"),
        ),
    ),
    Table(
        "bench/<scale>-<device>/copies.csv",
        "a block at a shape and pass",
        (
            Column("shape", "in words", "-", BENCH),
            PASS,
            Column("of", "the mixer of the block above the line", "-", BENCH),
            Column("to", "what stands in its place below it", "-", BENCH),
            Column("ratio", "of their times: median over rounds", "1", TIMER),
            Column("low", "lower end of the 95 % interval of it", "1", TIMER),
            Column("high", "upper end of it", "1", TIMER),
            ROUNDS._replace(name="n"),
        ),
    ),
    Table(
        "bench/<scale>-<device>/roofline.csv",
        "a benchmark that has a bound, the furthest from it first",
        (*BENCHMARK[:3], *BOUND, MEDIAN[0], *LEAST),
    ),
    Table(
        "bench/<scale>-<device>/time_<suite>.csv",
        "a benchmark of the suite, timed or not",
        (*BENCHMARK[1:3], *STATUS, *MEDIAN, ITEMS),
    ),
    Table(
        "paper/figure_3.csv",
        "a model at a resolution; then what the paper's table implies",
        (
            Column("model", "size and variant, or whose reported total it is", "-", "reports/paper/figure_3.py"),
            Column("resolution", "of the images; latents have an eighth", "pixels a side", "reports/paper/figure_3.py"),
            Column("tokens", "L: latent tokens at patch 1", "tokens", CLOSED_FORM),
            PARAMETERS,
            MACS_PER_CALL._replace(source=f"{CLOSED_FORM}; reported: reports/published/imagenet.csv"),
            Column("dense", "of them in products of dense layers", MACS, CLOSED_FORM),
            Column("mixer", "of them in mixers, attention's projections included", MACS, CLOSED_FORM),
            Column("attention_products", "of them 2 D L^2 in each block: all that the paper counts", MACS, CLOSED_FORM),
        ),
    ),
    Table(
        "docs/cost_audit.csv",
        "a named model, and where it has S4D, a backend",
        (
            Column("model", "its name", "-", "diffussm/cost/named.py"),
            Column("backend", "that computes S4D; empty where there is none", "-", "diffussm/ssm/choice.py"),
            Column("per_image", "of a call on one image, as executed", MACS, "closed form, diffussm/cost/executed.py"),
            Column("per_image_fvcore", "the same as counted", MACS, "fvcore with diffussm/cost/handles.py"),
            Column("fixed", "once per call, whatever the batch", MACS, "closed form, diffussm/cost/executed.py"),
            Column("fixed_fvcore", "the same as counted", MACS, "fvcore with diffussm/cost/handles.py"),
            Column(
                "products", "of per_image: matrix products, attention", MACS, "closed form, diffussm/cost/executed.py"
            ),
            Column("products_torch", "the same as counted", MACS, "torch's FlopCounterMode"),
            Column("residue_fvcore", "per_image_fvcore / per_image - 1", "1", "diffussm/cost/audit.py"),
            Column("residue_torch", "products_torch / products - 1", "1", "diffussm/cost/audit.py"),
        ),
    ),
)  # fmt: skip


def stands_for(name: str, column: str) -> bool:
    """Whether the described name is that of the column, or a pattern that it fits."""
    pattern = re.escape(name).replace("<n>", r"\d+").replace("<metric>", f"({'|'.join(METRICS)})")
    return re.fullmatch(pattern, column) is not None
