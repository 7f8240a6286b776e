"""The command that times what a training step takes beside the network."""

import pytest
from torch import Tensor

import tests.support.tiny as tiny
from bench import host_work
from diffussm.config import resolve
from diffussm.data.load import training_data


def test_the_parts_of_a_step_add_up_to_it() -> None:
    backward = Tensor.backward
    windows = host_work.measure(tiny.config(training__clip=1.0), steps=21)
    assert len(windows) == 2  # of ten steps, after the first
    for window in windows:
        assert sum(window[part] for part in host_work.PARTS) == pytest.approx(window["step"])
        assert min(window.values()) > 0
    assert Tensor.backward is backward


def test_the_medians_of_windows_are_shown() -> None:
    parts = {"forward": 0.02, "backward": 0.05, "optimiser": 0.01, "moving average": 0.005, "host work": 0.015}
    slow = {name: 10 * seconds for name, seconds in parts.items()}
    windows = [{**part, "step": sum(part.values())} for part in (parts, slow, parts)]
    first, *rows = host_work.table("case", windows).splitlines()
    assert first == "case: 100.00 ms a step"
    assert [row.split()[-3:] for row in rows] == [
        ["20.00", "ms", "20.00%"],
        ["50.00", "ms", "50.00%"],
        ["10.00", "ms", "10.00%"],
        ["5.00", "ms", "5.00%"],
        ["15.00", "ms", "15.00%"],
    ]


@pytest.mark.parametrize("case", host_work.CASES)
def test_the_data_of_each_case_are_there(case: str) -> None:
    base, changes, _ = host_work.CASES[case]
    config = resolve(base, changes)
    m = config.model
    values, labels = training_data(config.data).batch(0, 3, 8, 2, 4)
    assert values.shape == (4, m.channels, m.image_size, m.image_size)
    assert labels.shape == (4,)
