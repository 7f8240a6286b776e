"""`diffussm evaluate`: the same record whoever makes it and however often it is killed."""

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

from diffussm.commands.evaluate import evaluate_files, evaluate_run
from diffussm.distributed.group import SINGLE_PROCESS, ProcessGroup
from diffussm.metrics.context import SINGLE_PROCESS_CONTEXT, EvaluationContext
from diffussm.metrics.evaluation import milestones, model
from diffussm.metrics.key import evaluation_key
from diffussm.metrics.sampling import SampleMaker
from diffussm.metrics.shards import Shards
from diffussm.metrics.suite import MetricSuite, metric_suite
from diffussm.models.trained import load_network, requested_config
from diffussm.store import records
from diffussm.store.hashes import file_sha256
from diffussm.store.rundir import RunDir
from tests.support.ending import popen
from tests.support.evaluating import DIGITS, ROOT, Run, assert_complete_evaluation, parsed, result
from tests.support.processes import children
from tests.support.threads import in_threads


def test_as_the_pool_makes_it(run: RunDir, evaluated: RunDir, diffussm: Run) -> None:
    for step in (8, 24):
        code, out, err = diffussm("evaluate", run.path, *(["--step", step] if step == 8 else []))
        assert code == 0
        assert out.count("FID") == 4  # and sFID, each in its row and in a footnote: n is small
        assert err.count("\n") == 1  # progress, once
        assert result(run, step) == result(evaluated, step)
        assert_complete_evaluation(run, step)


def test_a_record_that_is_there_is_shown(run: RunDir, diffussm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, first, _ = diffussm("evaluate", run.path, "--json")
    assert code == 0
    (record,) = parsed(first).values()
    assert record == records.read(run.record(24, record.key.digest))
    monkeypatch.setattr(milestones, "metric_suite", lambda *_: pytest.fail("it is there"))
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
    assert_complete_evaluation(run)


def test_shards_of_a_killed_process_are_used_or_made_again(
    run: RunDir, evaluated: RunDir, diffussm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards, one of them torn; shards of another batch; half-written files."""
    (done,) = evaluated.milestone(24).glob("*/")
    folder = run.milestone(24) / done.name
    config = requested_config(run, {})
    suite = metric_suite(config.evaluation, evaluation_key(config))
    network = load_network(run, config, "ema", 24, run.execution().backend)
    made_of = {"weights": file_sha256(run.weights(24, "ema")), "key": done.name}
    for batch in (3, 5):
        asked = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"batch": batch})})
        make_samples = SampleMaker(asked, network)
        shards = Shards(folder / "shards", 12, batch, (*suite.layers, "pixels"), made_of)
        for written in shards.missing():
            pixels = make_samples(written.start, written.size).pixels
            shards.write(written, {**suite.extract(pixels), "pixels": pixels})
    assert len(list((folder / "shards").iterdir())) == 4 + 3
    torn, kept = folder / "shards" / "000000005-000000010.npz", folder / "shards" / "000000000-000000005.npz"
    torn.write_bytes(torn.read_bytes()[:-7])
    (folder / ".samples.npz.0a0b0c0d.tmp").touch()
    (folder / "shards" / ".x.npz.0a0b0c0d.tmp").touch()
    usual, began = milestones.read_kept_weights, []
    monkeypatch.setattr(
        milestones, "read_kept_weights", lambda *a: began.append((kept.exists(), torn.exists())) or usual(*a)
    )
    code, _, err = diffussm("evaluate", run.path)
    assert code == 0
    assert began == [(True, True)]
    assert "samples 12 of 12" in err
    assert result(run) == result(evaluated)
    assert_complete_evaluation(run)


def test_two_at_once_of_which_the_other_is_faster(run: RunDir, evaluated: RunDir) -> None:
    """It begins and ends while this one is at it, and takes the shards away."""
    execution, config = run.execution(), requested_config(run, {})

    def evaluate(progress: Callable[[int], None]) -> None:
        context = EvaluationContext(report=progress)
        milestones.evaluate_milestone(run, config, 24, execution.backend, "cpu", {}, context)

    met = []

    def then_the_other(done: int) -> None:
        if done == 5:
            met.append(done)
            evaluate(lambda _: None)

    evaluate(then_the_other)
    assert met == [5]
    assert result(run) == result(evaluated)
    assert_complete_evaluation(run)


@pytest.mark.parametrize("place", ["write_samples", "measure"])
def test_two_at_once_to_the_last(place: str, run: RunDir, evaluated: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other is done while this one merges the shards, or writes what came out."""
    execution, config = run.execution(), requested_config(run, {})
    owner: Any = model if place == "write_samples" else MetricSuite
    usual, calls = getattr(owner, place), iter(range(10))

    def evaluate() -> None:
        milestones.evaluate_milestone(run, config, 24, execution.backend, "cpu", {}, SINGLE_PROCESS_CONTEXT)

    def meets_the_other(*arguments: Any) -> Any:
        if next(calls) == 0:
            evaluate()
            if place == "write_samples":
                raise FileNotFoundError("its temporary file is gone")
        return usual(*arguments)

    monkeypatch.setattr(owner, place, meets_the_other)
    evaluate()
    assert next(calls) >= 2
    assert result(run) == result(evaluated)
    assert_complete_evaluation(run)


@pytest.mark.parametrize("count", [2, 3])
def test_shared_among_threads(
    count: int, run: RunDir, evaluated: RunDir, npz: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As among the processes of torchrun, which is slow to start."""
    options = {"reference": "digits", "metrics": ("fid",)}
    alone = evaluate_files(npz, options, SINGLE_PROCESS)

    def both(processes: ProcessGroup) -> list[records.Record | None]:
        return [
            evaluate_run(run, None, {}, processes),
            evaluate_files(npz, options, processes),
        ]

    capsys.readouterr()
    first, *others = in_threads(count, both)
    assert others == [[None, None]] * (count - 1)
    assert capsys.readouterr().err.count("12 of 12") == 2
    assert first[0].provenance["processes"] == count
    assert alone is not None
    assert first[1].metrics == alone.metrics
    assert (first[1].run_id, first[1].key) == (alone.run_id, alone.key)
    assert result(run) == result(evaluated)
    assert_complete_evaluation(run)


def torchrun(count: int, *arguments: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    command += ["-m", "diffussm", "evaluate", *map(str, arguments)]
    return popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_many_processes(count: int, run: RunDir, evaluated: RunDir, npz: Path, diffussm: Run) -> None:
    """A run and samples from elsewhere, in one table, by the first alone."""
    given = ("--metrics", "fid,sfid,kid,recall", *DIGITS, "--json")
    process = torchrun(count, run.path, npz, *given)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    found = parsed(out)  # once, or it is no JSON
    assert [line.split(":")[0].split("/")[-1] for line in err.splitlines() if "samples 1" in line] == [
        f"{run.run_id}, step 24",
        "samples.npz",
    ]
    assert found[str(run.path)].provenance["processes"] == count
    assert_complete_evaluation(run)
    (folder,) = run.milestone(24).glob("*/")
    many = result(run)
    shutil.rmtree(folder)
    alone = parsed(diffussm("evaluate", run.path, npz, *given)[1])
    assert result(run) == many
    untimed = {"provenance", "timing"}
    assert alone[str(npz)].model_dump(exclude=untimed) == found[str(npz)].model_dump(exclude=untimed)
    of_cell = result(evaluated)["metrics"]
    assert alone[str(run.path)].metrics == {name: of_cell[name] for name in alone[str(run.path)].metrics}


LONG = ("--set", "evaluation.samples=600", "--set", "evaluation.batch=5", "--set", "evaluation.sampler_steps=50")


@pytest.mark.slow
def test_killed_at_random_and_gone_on_with_by_other_numbers(run: RunDir, diffussm: Run, tmp_path: Path) -> None:
    expected = RunDir(tmp_path / "calm" / run.run_id)
    shutil.copytree(run.path, expected.path)
    assert diffussm("evaluate", expected.path, *LONG)[0] == 0
    (name,) = (path.name for path in expected.milestone(24).glob("*/"))
    shards, chance = run.milestone(24) / name / "shards", random.Random(0)
    shard_count = 0
    for count, everyone in ((2, False), (3, True), (1, True), (2, True)):
        process = torchrun(count, run.path, *LONG)
        deadline = time.monotonic() + 60
        while len(list(shards.glob("[0-9]*.npz"))) <= shard_count and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.5))
        workers = children(process.pid)
        if process.poll() is None:
            for pid in (*workers, process.pid) if everyone else [chance.choice(workers)]:
                os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode != 0
        shard_count = len(list(shards.glob("[0-9]*.npz")))
        assert 0 < shard_count < 120
    process = torchrun(3, run.path, *LONG)
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    assert result(run) == result(expected)
    assert_complete_evaluation(run)


@pytest.mark.slow
def test_three_at_once(run: RunDir) -> None:
    command = [sys.executable, "-m", "diffussm", "evaluate", str(run.path), "--json", *LONG[2:]]
    running = [popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    outputs = [process.communicate(timeout=900) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], outputs
    assert len({out for out, _ in outputs}) == 1
    assert_complete_evaluation(run)


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


def test_a_run_beside_samples_from_elsewhere(
    run: RunDir, npz: Path, pixels: np.ndarray, tmp_path: Path, diffussm: Run
) -> None:
    """In one table, also against a file that says nothing of its transform."""
    plain = tmp_path / "plain.npz"
    np.savez(plain, arr_0=pixels.transpose(0, 2, 3, 1))
    count = ("--set", f"evaluation.samples={len(pixels)}")
    code, out, err = diffussm("evaluate", run.path, npz, "--reference", plain, *DIGITS[2:], "--metrics", "fid", *count)
    assert code == 0, err
    assert out.count("FID") == 3  # in two rows and a footnote: n is small
