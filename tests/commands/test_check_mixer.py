"""The checks of mixers from outside find what they are there to find."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tests.support.tiny as tiny
from diffussm.commands.check_mixer import MixerFault, check_mixer
from diffussm.config import ModelConfig, resolve
from diffussm.cost.closed_form import forward_macs, parameters
from diffussm.errors import UserError
from diffussm.models.build import build_model, parameter_groups
from diffussm.run.claim import assume_owner_dead
from diffussm.run.runner import TaskRunner
from diffussm.ssm.s4d import S4D


class Good(nn.Module):
    """A running mean with a learned weight, over what the direction allows."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.width, 2 * config.width)
        self.bidirectional = config.direction == "bidirectional"
        self.decay = nn.Parameter(torch.zeros(config.width))

    def forward(self, u: Tensor) -> Tensor:
        mean = u.mean(1, keepdim=True) if self.bidirectional else u.cumsum(1)
        return self.linear(u + self.decay.sigmoid() * mean)

    def ssm_parameters(self) -> list[str]:
        return ["decay"]

    @staticmethod
    def macs(config: ModelConfig) -> int:
        return 2 * config.length * config.width**2


class Narrow(Good):
    def forward(self, u: Tensor) -> Tensor:
        return super().forward(u)[..., : u.shape[-1]]


class LooksAhead(Good):
    def forward(self, u: Tensor) -> Tensor:
        return self.linear(u + u.sum(1, keepdim=True))


class MixesSamples(Good):
    def forward(self, u: Tensor) -> Tensor:
        return super().forward(u + u.mean(0, keepdim=True))


class WrongGradient(Good):
    def forward(self, u: Tensor) -> Tensor:
        return super().forward(u) + u.detach().repeat(1, 1, 2)


class Cheap(Good):
    @staticmethod
    def macs(config: ModelConfig) -> int:
        return config.width


class Unseeded(Good):
    count = 0

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        Unseeded.count += 1
        nn.init.constant_(self.decay, Unseeded.count)


def name(mixer: type) -> str:
    return f"{__name__}:{mixer.__name__}"


def test_a_good_one_passes() -> None:
    found = check_mixer(name(Good))
    assert "forward: outputs depend on earlier positions only" in found
    assert "bidirectional: outputs depend on earlier and later positions" in found


@pytest.mark.parametrize(
    ("mixer", "words"),
    [
        (Narrow, r"y has shape \(2, 16, 16\), expected"),
        (LooksAhead, "depends on a later position"),
        (MixesSamples, "depends on another sample"),
        (WrongGradient, "gradients differ from finite differences"),
        (Cheap, "states 16 MACs, but [\\d,]+ are counted"),
        (Unseeded, "initial values are not drawn from torch's default generator"),
    ],
)
def test_faults_are_found(mixer: type, words: str) -> None:
    with pytest.raises(MixerFault, match=words):
        check_mixer(name(mixer))


def test_costs_and_groups_of_a_mixer_from_outside() -> None:
    config = resolve("digits", {"model.mixer": name(Good)})
    model = build_model(config)
    assert parameters(config) == sum(p.numel() for p in model.parameters())
    assert forward_macs(config).mixer == 2 * 64 * 64**2
    _, ssm = parameter_groups(model, 1.0, 0.5, 0.1)
    assert [p.shape for p in ssm["params"]] == [(64,)]
    assert (ssm["lr"], ssm["weight_decay"]) == (0.5, 0.0)


class Borrows(nn.Module):
    """Parts of the package, a buffer and a tied weight inside a mixer from outside."""

    directions = ("bidirectional",)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.s4d = S4D(config.width, config.state, True, "auto")
        self.one = nn.Linear(2 * config.width, 2 * config.width)
        self.two = nn.Linear(2 * config.width, 2 * config.width)
        self.two.weight = self.one.weight
        self.register_buffer("scale", torch.ones(()))

    def forward(self, u: Tensor) -> Tensor:
        return self.two(self.one(self.s4d(u))) * self.scale


def test_parts_of_the_package_start_as_they_do_elsewhere() -> None:
    mixer = build_model(resolve("digits", {"model.mixer": name(Borrows)})).get_submodule("blocks.0.mixer.s4d")
    assert mixer.get_parameter("log_decay").exp().sub(0.5).abs().max() < 1e-6
    check_mixer(name(Borrows))


def test_buffers_and_tied_weights_survive_a_milestone(tmp_path: Path) -> None:
    run = tiny.run_folder(tmp_path, model__mixer=name(Borrows), evaluation__weights="ema")
    tiny.run_folder(tmp_path, model__mixer=name(Borrows), evaluation__weights="raw")
    TaskRunner(run.path).run_pending(assume_owner_dead)
    assert len(list(run.path.glob("milestones/24/*/record.json"))) == 2


def test_initial_values_follow_the_seed_and_leave_torchs_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    config = resolve("digits", {"model.mixer": name(Good)})
    one, two = build_model(config), build_model(config)
    other = build_model(resolve("digits", {"model.mixer": name(Good), "seed": 1}))
    assert torch.equal(before, torch.random.get_rng_state())
    weights = [model.get_parameter("blocks.0.mixer.linear.weight") for model in (one, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            "no_such_module:Mixer",
            "No module named 'no_such_module'; run from the folder that contains no_such_module.py",
        ),
        (f"{__name__}:Nothing", "has no attribute 'Nothing'"),
        ("math:pi", "not a subclass of torch.nn.Module"),
    ],
)
def test_a_missing_mixer_is_an_error(given: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parameters(resolve("digits", {"model.mixer": given}))


def test_a_direction_that_it_does_not_know_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one_way.py").write_text(
        "from tests.commands.test_check_mixer import Good\n\n\nclass OneWay(Good):\n    directions = ('forward',)\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    with pytest.raises(UserError, match=r"model\.direction = bidirectional: one_way:OneWay supports forward only"):
        parameters(resolve("digits", {"model.mixer": "one_way:OneWay"}))
    assert parameters(resolve("digits", {"model.mixer": "one_way:OneWay", "model.direction": "forward"}))
