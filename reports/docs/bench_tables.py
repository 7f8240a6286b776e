"""The columns of the tables of benchmarks (see `reports.bench`)."""

from reports.docs.columns import CLOSED_FORM, DEVICE, MACS, THREADS, Column, Table

TIMER, BENCH = "diffussm/timing/intervals.py", "bench/"
CROSSINGS, PARTS = "reports/bench/crossings.py", "reports/bench/parts.py"
SUITE = Column("suite", "the benchmark's suite", "-", BENCH)
GROUP = Column("group", "benchmarks that are compared with one another", "-", BENCH)
NAME = Column("name", "its name in the group", "-", BENCH)
SUBJECT = Column("subject", "what is timed: a mixer, a backend, a part, a model", "-", BENCH)
WIDTH = Column("width", "D; empty where it does not apply", "channels", BENCH)
LENGTH = Column("length", "L; empty where it does not apply", "tokens", BENCH)
BATCH = Column("batch", "B; empty where it does not apply", "sequences", BENCH)
PASS = Column("pass", "forward, forward and backward, or training step; empty where it does not apply", "-", BENCH)
DTYPE = Column("dtype", "dtype of the tensors", "-", BENCH)
BENCHMARK = (
    SUITE,
    GROUP,
    NAME,
    SUBJECT,
    WIDTH,
    LENGTH,
    BATCH,
    PASS,
    DEVICE,
    DTYPE,
    THREADS,
)
STATUS = (
    Column("status", "timed, missing, failed or skipped", "-", BENCH),
    Column("reason", "why there is no time; empty where there is one", "-", BENCH),
)
LOW = Column("low", "lower end of the 95 % interval", "1", TIMER)  # of a ratio
HIGH = Column("high", "upper end of the interval", "1", TIMER)
MEDIAN = Column("median_ms", "median of the rounds", "ms", TIMER)
WITH_INTERVAL = (
    MEDIAN,
    Column("low_ms", "lower end of its 95 % interval, by order statistics", "ms", TIMER),
    HIGH._replace(name="high_ms", unit="ms"),
)
ROUNDS = Column("rounds", "number of timings", "rounds", TIMER)
N = ROUNDS._replace(name="n")
EXECUTED = Column("macs", "MACs that a call executes; empty where unknown", MACS, CLOSED_FORM)
BYTES = Column("bytes", "the least bytes that a call moves; empty where unknown", "bytes", BENCH)
HEADLINE = Column("headline_macs", "MACs of a call, independent of the backend; empty where unknown", MACS, CLOSED_FORM)
ITEMS = Column("items", "images of a call; empty where it does not apply", "images", BENCH)
SETTING = Column("setting", "pass, width and dtype as text", "-", BENCH)
BOUND = (
    Column("bound", "what limits a call: matmul (its multiply-adds) or copy (its bytes)", "-", BENCH),
    Column("share_of_bound", "least time by this bound over the median time", "1", BENCH),
)
TIMES = (
    *STATUS,
    *WITH_INTERVAL,
    Column("q1_ms", "first quartile of the rounds", "ms", TIMER),
    Column("q3_ms", "third quartile of the rounds", "ms", TIMER),
    ROUNDS,
    Column(
        "peak_memory",
        "peak memory of a call above the level before it: of the allocator on a GPU, else of the process",
        "bytes",
        BENCH,
    ),
    EXECUTED,
    HEADLINE,
    BYTES,
    ITEMS,
    *BOUND,
    Column("version", "version of the benchmark, raised when its meaning changes", "-", BENCH),
)

BENCH_TABLES = (
    Table("bench/<scale>-<device>/timing.csv", "a benchmark, timed or not", (*BENCHMARK, *TIMES)),
    Table(
        "bench/<scale>-<device>/ratios.csv",
        "a ratio of times from interleaved rounds",
        (
            *BENCHMARK,
            Column("of", "subject whose time is the numerator", "-", BENCH),
            Column("to", "subject whose time is the denominator", "-", BENCH),
            Column("ratio", "median over rounds", "1", TIMER),
            LOW._replace(meaning="lower end of the 95 % interval of the median"),
            HIGH,
            N,
        ),
    ),
    Table(
        "bench/<scale>-<device>/lengths.csv",
        "a mixer at a length",
        (
            SETTING,
            SUBJECT,
            PASS,
            WIDTH,
            DTYPE,
            LENGTH,
            BATCH,
            Column("ns_per_token", "median time of a call, divided by batch times length", "ns", TIMER),
            LOW._replace(name="ns_low", unit="ns"),
            HIGH._replace(name="ns_high", unit="ns"),
            Column("bytes_per_token", "peak memory of a call, divided by batch times length", "bytes", BENCH),
        ),
    ),
    Table(
        "bench/<scale>-<device>/crossings.csv",
        "a quantity in a setting",
        (
            SETTING,
            Column("quantity", "time or memory", "-", CROSSINGS),
            Column(
                "length",
                "length from which attention takes more than S4D with its fastest backend; empty where there is none "
                "within the measured lengths",
                "tokens",
                CROSSINGS,
            ),
            Column("low", "the same for the ends of the intervals that favour S4D", "tokens", CROSSINGS),
            Column("high", "the same for the ends that favour attention", "tokens", CROSSINGS),
            Column("says", "the result in a sentence", "-", CROSSINGS),
        ),
    ),
    Table(
        "bench/<scale>-<device>/parts.csv",
        "a part of a block",
        (
            Column("block", "shape and pass of the block", "-", BENCH),
            Column("part", "name of the part", "-", BENCH),
            *WITH_INTERVAL,
            Column("share", "share of the sum of medians over the parts of the block", "1", PARTS),
            Column(
                "sum_over_whole",
                "that sum over the median of the whole block; empty where that was not timed",
                "1",
                PARTS,
            ),
        ),
    ),
    Table(
        "bench/<scale>-<device>/lead.csv",
        "a DiffuSSM and a DiT, timed in interleaved rounds",
        (
            Column("pairing", "both names", "-", BENCH),
            GROUP,
            Column("ours", "the DiffuSSM", "-", BENCH),
            Column("theirs", "the DiT", "-", BENCH),
            Column(
                "macs", "MACs of a call of ours, independent of the backend; empty where unknown", MACS, CLOSED_FORM
            ),
            Column("macs_of_theirs", "MACs of a call of theirs; empty where unknown", MACS, CLOSED_FORM),
            Column("macs_lead", "speed-up in MACs: macs_of_theirs / macs", "1", CLOSED_FORM),
            Column(
                "seconds_lead", "speed-up in time: time of theirs over that of ours, median over rounds", "1", TIMER
            ),
            LOW._replace(name="seconds_low"),
            HIGH._replace(name="seconds_high"),
            N,
        ),
    ),
    Table(
        "bench/<scale>-<device>/copies.csv",
        "a block at a shape and pass",
        (
            Column("shape", "D, L and B", "-", BENCH),
            PASS,
            Column("of", "mixer of the block in the numerator", "-", BENCH),
            Column("to", "mixer in its place in the denominator: the identity mixer", "-", BENCH),
            Column("ratio", "ratio of their times, the overhead: median over rounds", "1", TIMER),
            LOW,
            HIGH,
            N,
        ),
    ),
    Table(
        "bench/<scale>-<device>/roofline.csv",
        "a benchmark with a bound, in order of its share",
        (SUITE, GROUP, NAME, *BOUND, MEDIAN, EXECUTED, BYTES),
    ),
    Table(
        "bench/<scale>-<device>/time_<suite>.csv",
        "a benchmark of the suite, timed or not",
        (GROUP, NAME, *STATUS, *WITH_INTERVAL, ITEMS),
    ),
)
