"""`diffussm evaluate`: the same record whoever makes it and however often it is killed; mistakes in one line."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

import tests.tiny as tiny
from ablations import cell, launch
from ablations.cell import Cell
from diffussm import cli, records
from diffussm.commands.evaluate import evaluate_files, evaluate_run
from diffussm.config import request
from diffussm.data.load import reference_images
from diffussm.errors import UserError
from diffussm.metrics import cache, milestones
from diffussm.metrics.catalogue import evaluation_key
from diffussm.metrics.evaluate import Evaluator
from diffussm.processes import ALONE, Processes
from diffussm.rundir import RunDir
from tests.test_shards import in_threads

ROOT = Path(__file__).parents[1]
DIGITS = ("--reference", "digits", "--extractor", "digits-cnn")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _apart(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFUSSM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("DIFFUSSM_WEIGHTS", raising=False)


@pytest.fixture
def diffussm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["diffussm", *map(str, arguments)])
        code = cli.main()
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


METRICS = ["fid", "sfid", "kid", "recall", "label_accuracy"]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Trained and evaluated by the ablations' cell; never changed."""
    cached = pytest.MonkeyPatch()
    cached.setenv("DIFFUSSM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    run = tiny.run_folder(tmp_path_factory.mktemp("runs"), evaluation__metrics=METRICS)
    Cell(run.path).work()
    cached.undo()
    return run


@pytest.fixture
def run(evaluated: RunDir, tmp_path: Path) -> RunDir:
    """A copy of it, without its evaluations."""
    copy = RunDir(tmp_path / evaluated.run_id)
    shutil.copytree(evaluated.path, copy.path)
    for folder in copy.evaluations():
        shutil.rmtree(folder.path)
    return copy


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return reference_images("digits").pixels[100:112]


@pytest.fixture
def npz(pixels: np.ndarray, tmp_path: Path) -> Path:
    path = tmp_path / "samples.npz"
    np.savez(path, arr_0=pixels.transpose(0, 2, 3, 1))
    return path


def listed(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def result(run: RunDir, step: int = 24) -> dict[str, Any]:
    """Of the only evaluation of a step: all that must be the same to the bit."""
    (path,) = run.path.glob(f"milestones/{step}/*/record.json")
    record = json.loads(path.read_text())
    files = {name: (path.parent / name).read_bytes() for name in ("samples.npz", "samples.png")}
    return {name: record[name] for name in ("run_id", "step", "key", "metrics")} | files | {"in": path.parent.name}


def holds_what_it_should(run: RunDir, step: int = 24) -> None:
    (folder,) = run.milestone(step).glob("*/")
    assert listed(folder) == ["record.json", "samples.npz", "samples.png"]


def refused(said: tuple[int, str, str], words: str) -> None:
    code, out, err = said
    assert (code, out) == (2, ""), err
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert words in err


def parsed(out: str) -> dict[str, records.Record]:
    found = json.loads(out)
    return {one.pop("path"): records.Record.model_validate_json(json.dumps(one)) for one in found}


# The same record


def test_as_the_pool_makes_it(run: RunDir, evaluated: RunDir, diffussm: Run) -> None:
    for step in (8, 24):
        code, out, err = diffussm("evaluate", run.path, *(["--step", step] if step == 8 else []))
        assert code == 0
        assert out.count("FID") == 2  # and sFID
        assert err.count("\n") == 1  # progress, once
        assert result(run, step) == result(evaluated, step)
        holds_what_it_should(run, step)


def test_a_record_that_is_there_is_shown(run: RunDir, diffussm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, first, _ = diffussm("evaluate", run.path, "--json")
    assert code == 0
    (record,) = parsed(first).values()
    assert record == records.read(run.record(24, record.key.digest))
    monkeypatch.setattr(Evaluator, "__init__", lambda *_: pytest.fail("it is there"))
    code, again, err = diffussm("evaluate", run.path, "--json")
    assert (code, again, err) == (0, first, "")
    for file in ("ema.safetensors", "../../train-1.jsonl"):  # nothing is read again
        (run.milestone(24) / file).write_bytes(b"")
    assert diffussm("evaluate", run.path, "--json")[1] == first


def test_killed_after_the_record(run: RunDir, diffussm: Run) -> None:
    """Between the record and the end: what is left is removed by whoever looks at it again."""
    assert diffussm("evaluate", run.path)[0] == 0
    (folder,) = run.milestone(24).glob("*/")
    (folder / "shards").mkdir()
    (folder / "shards" / "000000000-000000005.npz").touch()
    (folder / ".samples.npz.0a0b0c0d.tmp").touch()
    assert diffussm("evaluate", run.path)[0] == 0
    holds_what_it_should(run)


def test_what_a_killed_one_left_is_used_or_made_anew(
    run: RunDir, evaluated: RunDir, diffussm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards, one of them torn; shards of another batch; half-written files."""
    (done,) = evaluated.milestone(24).glob("*/")
    folder = run.milestone(24) / done.name
    config = milestones.asked_of(run, {})
    network = milestones.load_network(run, config, "ema", 24, run.machine({})["backend"])
    for batch in (3, 5):
        asked = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"batch": batch})})
        Evaluator(asked)(network, folder / "shards")
    shards = sorted((folder / "shards").iterdir())
    assert len(shards) == 4 + 3
    torn, kept = folder / "shards" / "000000005-000000010.npz", folder / "shards" / "000000000-000000005.npz"
    torn.write_bytes(torn.read_bytes()[:-7])
    (folder / ".samples.npz.0a0b0c0d.tmp").touch()
    (folder / "shards" / ".x.npz.0a0b0c0d.tmp").touch()
    usual, began = milestones.Evaluator.__call__, []
    monkeypatch.setattr(
        milestones.Evaluator, "__call__", lambda *a: began.append((kept.exists(), torn.exists())) or usual(*a)
    )
    code, _, err = diffussm("evaluate", run.path)
    assert code == 0
    assert began == [(True, True)]
    assert "samples 12 of 12" in err
    assert result(run) == result(evaluated)
    holds_what_it_should(run)


def test_two_at_once_of_which_the_other_is_faster(run: RunDir, evaluated: RunDir) -> None:
    """It begins and ends while this one is at it, and takes the shards away."""
    machine, config = run.machine({}), milestones.asked_of(run, {})

    def evaluate(progress: Callable[[int], None]) -> None:
        milestones.evaluate_milestone(run, config, 24, Evaluator(config), machine["backend"], {}, progress)

    met = []

    def then_the_other(done: int) -> None:
        if done == 5:
            met.append(done)
            evaluate(lambda _: None)

    evaluate(then_the_other)
    assert met == [5]
    assert result(run) == result(evaluated)
    holds_what_it_should(run)


@pytest.mark.parametrize("place", ["_write_samples", "measure"])
def test_two_at_once_to_the_last(place: str, run: RunDir, evaluated: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other is done while this one merges the shards, or writes what came out."""
    machine, config = run.machine({}), milestones.asked_of(run, {})
    owner: Any = milestones if place == "_write_samples" else milestones.Evaluator
    if place == "measure":
        from diffussm.metrics import yardstick

        owner = yardstick.Yardstick
    usual, calls = getattr(owner, place), iter(range(10))

    def evaluate() -> None:
        milestones.evaluate_milestone(run, config, 24, Evaluator(config), machine["backend"], {}, lambda _: None)

    def meets_the_other(*arguments: Any) -> Any:
        if next(calls) == 0:
            evaluate()
            if place == "_write_samples":
                raise FileNotFoundError("its temporary file is gone")
        return usual(*arguments)

    monkeypatch.setattr(owner, place, meets_the_other)
    evaluate()
    assert next(calls) >= 2
    assert result(run) == result(evaluated)
    holds_what_it_should(run)


@pytest.mark.parametrize("count", [2, 3])
def test_shared_among_threads(
    count: int, run: RunDir, evaluated: RunDir, npz: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As among the processes of torchrun, which is slow to start."""
    alone = evaluate_files(npz, "digits", "", ("fid",), "", ALONE)

    def both(processes: Processes) -> list[records.Record | None]:
        return [
            evaluate_run(run, None, {}, processes),
            evaluate_files(npz, "digits", "", ("fid",), "", processes),
        ]

    capsys.readouterr()
    first, *others = in_threads(count, both)
    assert others == [[None, None]] * (count - 1)
    assert capsys.readouterr().err.count("12 of 12") == 2
    assert first[0].provenance["processes"] == count
    assert first[1] == alone
    assert result(run) == result(evaluated)
    holds_what_it_should(run)


def torchrun(count: int, *arguments: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    command += ["-m", "diffussm", "evaluate", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_many_processes(count: int, run: RunDir, evaluated: RunDir, npz: Path, diffussm: Run) -> None:
    """A run and samples from elsewhere, in one table, by the first alone."""
    given = ("--metrics", "fid,sfid,kid,recall", *DIGITS, "--json")
    process = torchrun(count, run.path, npz, *given)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    found = parsed(out)  # once, or it is no JSON
    assert [line.split(":")[0].split("/")[-1] for line in err.splitlines() if "samples 1" in line] == [
        f"{run.run_id}, step 24",
        "samples.npz",
    ]
    assert found[str(run.path)].provenance["processes"] == count
    holds_what_it_should(run)
    (folder,) = run.milestone(24).glob("*/")
    many = result(run)
    shutil.rmtree(folder)
    alone = parsed(diffussm("evaluate", run.path, npz, *given)[1])
    assert result(run) == many
    assert alone[str(npz)] == found[str(npz)]
    of_cell = result(evaluated)["metrics"]
    assert alone[str(run.path)].metrics == {name: of_cell[name] for name in alone[str(run.path)].metrics}


LONG = ("--set", "evaluation.samples=600", "--set", "evaluation.batch=5", "--set", "evaluation.sampler_steps=50")


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in found.read_text().split()] if found.exists() else []


@pytest.mark.slow
def test_killed_at_random_and_gone_on_with_by_other_numbers(run: RunDir, diffussm: Run, tmp_path: Path) -> None:
    expected = RunDir(tmp_path / "calm" / run.run_id)
    shutil.copytree(run.path, expected.path)
    assert diffussm("evaluate", expected.path, *LONG)[0] == 0
    (name,) = (path.name for path in expected.milestone(24).glob("*/"))
    shards, chance = run.milestone(24) / name / "shards", random.Random(0)
    left = 0
    for count, everyone in ((2, False), (3, True), (1, True), (2, True)):
        process = torchrun(count, run.path, *LONG)
        deadline = time.monotonic() + 60
        while len(list(shards.glob("[0-9]*.npz"))) <= left and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.5))
        workers = children(process.pid)
        if process.poll() is None:
            for pid in (*workers, process.pid) if everyone else [chance.choice(workers)]:
                os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode != 0
        left = len(list(shards.glob("[0-9]*.npz")))
        assert 0 < left < 120
    process = torchrun(3, run.path, *LONG)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert result(run) == result(expected)
    holds_what_it_should(run)


@pytest.mark.slow
def test_three_at_once(run: RunDir) -> None:
    command = [sys.executable, "-m", "diffussm", "evaluate", str(run.path), "--json", *LONG[2:]]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(3)]  # type: ignore[call-overload]
    said = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said
    assert len({out for out, _ in said}) == 1
    holds_what_it_should(run)


# Samples from elsewhere


def test_an_npz_and_a_folder_measure_the_same(npz: Path, pixels: np.ndarray, tmp_path: Path, diffussm: Run) -> None:
    folder = tmp_path / "png"
    folder.mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image[0]).save(folder / f"{i}.png")
    code, out, _ = diffussm("evaluate", npz, folder, "--reference", "digits", "--json")
    assert code == 0
    found = parsed(out)
    assert list(found) == [str(npz), str(folder)]
    assert found[str(npz)].metrics == found[str(folder)].metrics
    assert {"fid", "sfid", "inception_score", "kid", "precision", "recall"} <= found[str(npz)].metrics.keys()
    assert found[str(npz)].key == found[str(folder)].key
    assert found[str(npz)].key.extractor == "digits-cnn"
    code, out, _ = diffussm("evaluate", npz, folder, *DIGITS, "--metrics", "fid")
    assert code == 0
    assert out.count("FID") == 2
    assert out.count("n = 12") == 1
    assert not list((cache.folder() / "shards").iterdir())


def test_colours(tmp_path: Path, diffussm: Run) -> None:
    colour = reference_images("photos").pixels[:12]
    folder, path = tmp_path / "png", tmp_path / "colour.npz"
    folder.mkdir()
    np.savez_compressed(path, arr_0=colour.transpose(0, 2, 3, 1))
    for i, image in enumerate(colour):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{i:03d}.png")
    given = ("--reference", "photos", "--metrics", "fid", "--json")
    found = parsed(diffussm("evaluate", path, folder, *given)[1])
    assert found[str(path)].metrics == found[str(folder)].metrics
    assert found[str(path)].key.extractor == "photos-cnn"
    np.savez(path, arr_0=colour[:, :1].transpose(0, 2, 3, 1))
    refused(diffussm("evaluate", path, *given), "reference = photos: for 3 channels of 32 pixels a side, not 1 of 32")


def test_a_run_s_own_samples_measure_as_the_run(run: RunDir, diffussm: Run) -> None:
    """All of its 12 are kept."""
    given = ("--metrics", "fid,recall", *DIGITS, "--json")
    code, out, _ = diffussm("evaluate", run.path, *given)
    assert code == 0
    (folder,) = run.milestone(24).glob("*/")
    (of_run,) = parsed(out).values()
    (of_file,) = parsed(diffussm("evaluate", folder / "samples.npz", *given)[1]).values()
    for name, value in of_run.metrics.items():
        assert of_file.metrics[name] == pytest.approx(value, rel=1e-6), name  # in other batches
    assert of_file.run_id.startswith("outside-")


def test_other_numbers_of_samples_share_no_table(npz: Path, pixels: np.ndarray, tmp_path: Path, diffussm: Run) -> None:
    fewer = tmp_path / "fewer.npz"
    np.savez(fewer, arr_0=pixels[:8].transpose(0, 2, 3, 1))
    refused_at_the_end = diffussm("evaluate", npz, fewer, *DIGITS, "--metrics", "fid")
    assert refused_at_the_end[:2] == (2, "")
    assert "records differ in how they were measured (samples)" in refused_at_the_end[2]


def test_a_cache_that_cannot_be_written_to(npz: Path, tmp_path: Path, diffussm: Run, monkeypatch: Any) -> None:
    given = ("evaluate", npz, *DIGITS, "--metrics", "fid", "--json")
    expected = diffussm(*given)[1]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    for place in (npz, "/proc/diffussm"):
        monkeypatch.setenv("DIFFUSSM_CACHE", str(place))
        code, out, _ = diffussm(*given)
        assert (code, out) == (0, expected)
        assert list(temporary.iterdir()) == []


# Mistakes


def jpegs(path: Path) -> None:
    path.mkdir()
    Image.new("L", (8, 8)).save(path / "1.jpg")


def of(array: Any, **more: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, arr_0=array, **more)

    return write


def truncated(path: Path) -> None:
    of(np.zeros((9, 8, 8, 1), dtype=np.uint8))(path)
    path.write_bytes(path.read_bytes()[:-50])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda _: None, "no such file or folder"),
        (lambda path: path.mkdir(), "holds no PNG files"),
        (jpegs, "holds JPEG files"),
        (truncated, "is damaged"),
        (lambda path: path.write_bytes(b""), "is damaged"),
        (of(np.array([None])), "holds Python objects"),
        (of(np.zeros((9, 8, 8, 1))), "is float64; allowed: uint8"),
        (of(np.zeros((9, 1, 8, 8), dtype=np.uint8)), "allowed: (N, H, W, C)"),
        (of(np.zeros((0, 8, 8, 1), dtype=np.uint8)), "holds no images"),
        (of(np.zeros((9, 16, 16, 1), dtype=np.uint8)), "for 1 channels of 8 pixels a side, not 1 of 16"),
        (of(np.zeros((9, 8, 8, 3), dtype=np.uint8)), "for 1 channels of 8 pixels a side, not 3 of 8"),
        (of(np.zeros((9, 8, 16, 1), dtype=np.uint8)), "8 by 16 pixels; needed are squares"),
        (of(np.zeros((3, 8, 8, 1), dtype=np.uint8)), "kid needs more than 3 samples, not 3"),
        (of(np.zeros((1, 8, 8, 1), dtype=np.uint8)), "fid needs more than one sample, not 1"),
    ],
)
def test_samples_that_are_refused(
    make: Callable[[Path], Any], words: str, tmp_path: Path, diffussm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFUSSM_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "samples"
    make(path)
    before = listed(tmp_path)
    refused(diffussm("evaluate", path, *DIGITS), words)
    assert listed(tmp_path) == before


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "say what to hold it against: --reference"),
        (["--reference", "digit"], "evaluation.reference: unknown name 'digit'; did you mean 'digits'?"),
        (["--reference", "nowhere.npz"], "nowhere.npz: no such file"),
        ([*DIGITS[:2], "--extractor", "digit-cnn"], "evaluation.extractor: unknown name 'digit-cnn'; did you mean"),
        ([*DIGITS, "--metrics", "fid,fod"], "evaluation.metrics: unknown name 'fod'; did you mean 'fid'?"),
        ([*DIGITS, "--metrics", "fid,label_accuracy"], "label_accuracy needs labels"),
        ([*DIGITS, "--metrics", "clean_fid"], "clean_fid needs an extractor of natural images, digits-cnn is none"),
        ([*DIGITS[:2], "--extractor", "inception-v3-compat"], "needs weights file weights-inception-2015"),
        ([*DIGITS[:2], "--extractor", "photos-cnn"], "for 3 channels of 32 pixels a side, not 1 of 8"),
        ([*DIGITS, "--step", "8"], "--set and --step are for runs"),
        ([*DIGITS, "--set", "evaluation.samples=5"], "--set and --step are for runs"),
        ([*DIGITS, "--set", "model.width=3"], "--set model.width: only evaluation.<field>"),
        ([*DIGITS[:2], "--extractor", "no_such_module:FACTS"], "no_such_module:FACTS: ModuleNotFoundError"),
        ([*DIGITS[:2], "--extractor", "broken_module:FACTS"], "broken_module:FACTS: ZeroDivisionError"),
        ([*DIGITS[:2], "--extractor", "torn_module:FACTS"], "torn_module:FACTS: SyntaxError"),
        ([*DIGITS[:2], "--extractor", "good_module:NONE"], "good_module:NONE: AttributeError"),
        ([*DIGITS[:2], "--extractor", "good_module:FACTS"], "good_module:FACTS: is no ExtractorFacts"),
        ([*DIGITS[:2], "--extractor", ":FACTS"], "evaluation.extractor = :FACTS"),
    ],
)
def test_mistakes_with_samples(
    given: list[str], words: str, npz: Path, tmp_path: Path, diffussm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "broken_module.py").write_text("1 / 0\n")
    (modules / "torn_module.py").write_text("def\n")
    (modules / "good_module.py").write_text("FACTS = 3\n")
    monkeypatch.syspath_prepend(modules)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("DIFFUSSM_CACHE", str(tmp_path / "cache"))
    before = listed(tmp_path)
    refused(diffussm("evaluate", npz, *given), words)
    assert listed(tmp_path) == before


def test_clean_fid_without_its_weights(npz: Path, diffussm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before Inception is loaded, whose weights are there."""
    from diffussm.metrics import catalogue
    from diffussm.metrics.weights_file import WeightsFile

    monkeypatch.setattr(WeightsFile, "lacks", lambda self, _="": "" if self != catalogue.CLEAN_FID else "X")
    given = (*DIGITS[:2], "--extractor", "inception-v3-compat", "--metrics", "fid,clean_fid")
    refused(diffussm("evaluate", npz, *given), "evaluation.metrics: clean-fid needs X")


STATISTICS = {"mu": np.zeros(64), "sigma": np.eye(64)}
ZEROS = np.zeros((9, 8, 8, 1), dtype=np.uint8)


def stated(**said: Any) -> np.ndarray:
    content = {"channels": 1, "image_size": 8, **said}
    return np.frombuffer(json.dumps(content).encode(), dtype=np.uint8)


@pytest.mark.parametrize(
    ("arrays", "metrics", "words"),
    [
        ({"arr_0": np.zeros((9, 16, 16, 1), dtype=np.uint8)}, "fid", "for 1 channels of 16 pixels a side, not 1 of 8"),
        ({"arr_0": np.zeros((9, 8, 16, 1), dtype=np.uint8)}, "fid", "squares with 1 or 3 channels"),
        ({"arr_0": np.zeros((9, 1, 8, 8), dtype=np.uint8)}, "fid", "squares with 1 or 3 channels"),
        ({"arr_0": np.zeros((0, 8, 8, 1), dtype=np.uint8)}, "fid", "squares with 1 or 3 channels"),
        ({"arr_0": np.zeros((9, 8, 8, 1))}, "fid", "not uint8 (N, H, W, C)"),
        ({"arr_0": np.array([None])}, "fid", "objects are not read"),
        ({"arr_0": ZEROS[:1]}, "fid", "fid needs more than one image of the reference"),
        ({"x": ZEROS}, "fid", "has neither arr_0 nor mu, but x"),
        (STATISTICS, "fid,precision", "precision needs more than 3 images of the reference, reference has 0"),
        ({**STATISTICS, "arr_0": ZEROS}, "fid,sfid", "sfid needs mu_s and sigma_s beside mu and sigma"),
        ({"mu": np.zeros(64)}, "fid", "mu without a sigma of its size"),
        ({**STATISTICS, "diffussm": stated(extractor_sha256="0" * 64)}, "fid", "are of a network with sha256 0000"),
        ({**STATISTICS, "diffussm": stated(image_size=16)}, "fid", "for 1 channels of 16 pixels a side, not 1 of 8"),
    ],
)
def test_references_that_are_refused_before_anything_starts(
    arrays: dict[str, Any], metrics: str, words: str, run: RunDir, npz: Path, tmp_path: Path, diffussm: Run
) -> None:
    reference = tmp_path / "reference.npz"
    np.savez(reference, **arrays)
    before = listed(tmp_path)
    for samples in (run.path, npz):
        refused(diffussm("evaluate", samples, "--reference", reference, *DIGITS[2:], "--metrics", metrics), words)
    assert listed(tmp_path) == before


def test_another_transform_and_numbers_that_are_not_finite(run: RunDir, tmp_path: Path, diffussm: Run) -> None:
    reference = tmp_path / "reference.npz"
    given = ("evaluate", run.path, "--reference", reference, "--metrics", "fid")
    np.savez(reference, **STATISTICS, diffussm=stated(transform="centre-crop 8"))
    before = listed(tmp_path)
    refused(diffussm(*given), "made with transform 'centre-crop 8', the data with 'none'")
    np.savez(reference, mu=np.full(64, np.nan), sigma=np.eye(64))
    refused(diffussm(*given), "reference.npz: mu: holds numbers that are not finite")
    np.savez(reference, **STATISTICS)
    assert listed(tmp_path) == before
    assert diffussm(*given)[0] == 0  # one that says nothing fits


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--step", "7"], "--step 7: weights are kept of steps 8, 16, 24"),
        (["--set", "model.width=3"], "--set model.width: only evaluation.<field>"),
        (["--set", "evaluation.sample=3"], "did you mean 'evaluation.samples'?"),
        (["--set", "evaluation.samples=1"], "evaluation.samples"),
        (["--set", "evaluation.samples=3", "--metrics", "kid"], "kid needs more than 3 samples, not 3"),
        (["--set", "evaluation.weights=raw"], "no raw weights are kept yet"),
        (["--metrics", "fod"], "evaluation.metrics"),
        (["--metrics", "clean_fid"], "clean_fid needs an extractor of natural images"),
        (["--extractor", "digit-cnn"], "did you mean 'digits-cnn'?"),
        (["--extractor", "digits16-cnn"], "for 1 channels of 16 pixels a side, not 1 of 8"),
        (["--extractor", "inception-v3-compat", "--metrics", "fid"], "needs weights file weights-inception-2015"),
        (["--reference", "digits16"], "for 1 channels of 16 pixels a side, not 1 of 8"),
        (["--reference", "nowhere.npz"], "nowhere.npz: no such file"),
    ],
)
def test_mistakes_with_runs(given: list[str], words: str, run: RunDir, diffussm: Run) -> None:
    before = listed(run.path)
    refused(diffussm("evaluate", run.path, *given), words)
    assert listed(run.path) == before


def test_outputs_that_are_not_finite(run: RunDir, diffussm: Run) -> None:
    path = run.weights(24, "ema")
    weights = load_file(path)
    weights[next(iter(weights))].view(-1)[0] = float("nan")
    save_file(weights, path)
    before = listed(run.path)
    refused(diffussm("evaluate", run.path), f"{run.run_id}, step 24: sample 0 is not finite")
    assert listed(run.path) == before


def test_weights_that_are_gone(run: RunDir, diffussm: Run) -> None:
    """A record by an extractor whose weights are not here is shown; one cannot be made."""
    given = ("--extractor", "inception-v3-compat", "--metrics", "fid")
    config = milestones.asked_of(run, {"extractor": "inception-v3-compat", "metrics": ["fid"]})
    key = evaluation_key(config)
    record = records.Record(run_id=run.run_id, step=24, key=key, metrics={"fid": 1.0}, timing={}, provenance={})
    records.write(record, run.record(24, key.digest))
    code, out, _ = diffussm("evaluate", run.path, *given)
    assert code == 0
    assert "FID      1.00" in out
    refused(diffussm("evaluate", run.path, *given, "--step", "8"), "needs weights file")


# Grids and cells


def test_a_grid_that_lacks_weights_writes_nothing(tmp_path: Path) -> None:
    given = ["--grid", "hourglass_vs_patch", "--runs", str(tmp_path / "runs")]
    given += ["--set", "evaluation.extractor=inception-v3-compat", "--set", 'evaluation.metrics=["fid"]']
    with pytest.raises(UserError, match="inception-v3-compat: needs weights file weights-inception") as told:
        launch.main(given)
    assert "\n" not in str(told.value)
    assert listed(tmp_path) == []


def test_a_cell_whose_weights_are_gone_refuses_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny.config(evaluation__extractor="inception-v3-compat", evaluation__metrics=["fid"])
    run = RunDir.create(tmp_path, config)
    run.add_request(request(config))
    monkeypatch.setattr("sys.argv", ["cell", str(run.path)])
    assert cell.main() == 2
    err = capsys.readouterr().err
    assert err.startswith("error: evaluation.extractor = inception-v3-compat: needs weights file")
    assert err.count("\n") == 1
    assert run.checkpoints() == []
    assert not (run.path / "train-1.jsonl").exists()
    assert not run.kept_milestones("ema")
    assert run.state()["phase"] == "failed"
