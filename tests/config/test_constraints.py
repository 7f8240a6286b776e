"""What sizes must be: each constraint refused by name when a config is made, and nothing else fails later."""

import re
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffussm.config import MIXERS, Config, resolve, validate
from diffussm.data.lookup.facts import check_fit
from diffussm.errors import UserError
from diffussm.models.build import build_model
from diffussm.ssm.s4d import BACKENDS


def refused(base: str = "digits", /, **changes: object) -> str:
    """Return the error message of a base with changes, as section__field=value."""
    with pytest.raises(UserError) as error:
        check_fit(resolve(base, {name.replace("__", "."): value for name, value in changes.items()}))
    return str(error.value).removeprefix(f"{base}: ")


# One field by itself


@pytest.mark.parametrize("field", ["depth", "heads", "hourglass", "patch", "image_size", "channels"])
def test_a_count_of_things_that_must_be_there_is_1_or_more(field: str) -> None:
    made = {"model__mixer": "attention", f"model__{field}": 0}
    assert refused(**made) == f"model.{field} = 0: allowed: 1 or more"


def test_classes_are_0_or_more() -> None:
    assert refused(model__classes=-1) == "model.classes = -1: allowed: 0 or more"


def test_width_is_4_or_more() -> None:
    assert refused(model__width=0) == "model.width = 0: allowed: 4 or more"


def test_width_is_a_multiple_of_4() -> None:
    assert refused(model__width=6) == "model.width = 6: allowed: a multiple of 4"


def test_state_is_2_or_more() -> None:
    assert refused(model__state=0) == "model.state = 0: allowed: 2 or more"


def test_state_is_even() -> None:
    assert refused(model__state=63) == "model.state = 63: allowed: a multiple of 2"


@pytest.mark.parametrize("value", [64.0, "64", True, None, [64]])
def test_sizes_are_whole_numbers(value: object) -> None:
    assert refused(model__width=value) == f"model.width = {value!r}: allowed: a whole number"


def test_seed_fits_63_bits() -> None:
    assert refused(seed=-1) == "seed = -1: allowed: 0 or more"
    assert refused(seed=2**63) == f"seed = {2**63}: allowed: less than {2**63}"


# Fields of the model that must go together


def test_patch_divides_the_image() -> None:
    assert refused(model__patch=3) == "model.patch: 3 does not divide image_size = 8"
    assert refused(model__patch=16) == "model.patch: 16 does not divide image_size = 8"


def test_hourglass_divides_the_tokens() -> None:
    assert refused(model__hourglass=3) == "model.hourglass: 3 does not divide the 64 tokens of the image"
    assert refused(model__patch=8) == "model.hourglass: 2 does not divide the 1 tokens of the image"


def test_hourglass_divides_twice_the_width() -> None:
    message = "model.hourglass: 16 does not divide 2 x width = 72"
    assert refused(model__hourglass=16, model__width=36) == message


def test_hourglass_divides_the_width_where_the_residual_is_full() -> None:
    message = "model.hourglass: 8 does not divide width = 36 at residual = full"
    assert refused(model__hourglass=8, model__width=36, model__residual="full") == message
    assert resolve("digits", {"model.hourglass": 8, "model.width": 36}).model.residual == "short"


@pytest.mark.parametrize("made", [{"model__kind": "dit"}, {"model__mixer": "attention"}])
def test_heads_divide_the_width_where_there_is_attention(made: dict[str, object]) -> None:
    assert refused(**made, model__heads=5) == "model.heads: 5 does not divide width = 64"
    assert refused(**made, model__heads=128) == "model.heads: 128 does not divide width = 64"


def test_hilberts_curve_needs_a_power_of_two_of_tokens_a_side() -> None:
    message = "model.scan: hilbert needs a power of two of tokens a side, not 12"
    assert refused(model__image_size=12, model__scan="hilbert") == message


# The model and the data


def test_image_size_is_that_of_the_data() -> None:
    assert refused(model__image_size=16) == "model.image_size = 16: digits has image_size 8"


def test_channels_are_those_of_the_data() -> None:
    assert refused(model__channels=3) == "model.channels = 3: digits has channels 1"


def test_classes_are_those_of_the_data_or_none() -> None:
    assert refused(model__classes=9) == "model.classes = 9: digits has 10; allowed: 10, or 0 for none"
    assert refused("photos", model__classes=2) == "model.classes = 2: photos has none; allowed: 0"
    check_fit(resolve("digits", {"model.classes": 0, "evaluation.metrics": ["fid"]}))


# The model and how it is sampled


@pytest.mark.parametrize("guidance", [1.5, 0.0])
def test_guidance_needs_classes(guidance: float) -> None:
    problem = f"evaluation.guidance = {guidance}: guidance needs a class-conditional model (model.classes > 0); "
    assert refused("photos", evaluation__guidance=guidance) == problem + "set it to 1 for none"


def test_balanced_classes_need_classes() -> None:
    problem = "evaluation.labels = balanced: needs a class-conditional model (model.classes > 0); set it to random"
    assert refused("photos", evaluation__labels="balanced") == problem


def test_guided_channels_are_fewer_than_the_models() -> None:
    message = "evaluation.guidance_channels = 1: must be below model.channels = 1, or 0 for all channels"
    assert refused(evaluation__guidance=2.0, evaluation__guidance_channels=1) == message


def test_label_accuracy_needs_classes() -> None:
    assert refused(model__classes=0) == "evaluation.metrics: label_accuracy needs model.classes > 0"


def test_a_sampler_takes_a_step_or_more() -> None:
    message = "evaluation.sampler_steps = 0: allowed: 1 or more"
    assert refused(evaluation__sampler_steps=0) == message


def test_ddims_steps_divide_the_timesteps() -> None:
    message = "evaluation.sampler_steps: 30 does not divide diffusion.timesteps = 1000"
    assert refused(evaluation__sampler_steps=30) == message
    assert refused(diffusion__timesteps=30) == message.replace("30", "20").replace("1000", "30")


def test_ddpm_takes_no_more_steps_than_there_are() -> None:
    message = "evaluation.sampler_steps: 1001 is above diffusion.timesteps = 1000"
    assert refused(evaluation__sampler="ddpm", evaluation__sampler_steps=1001) == message
    assert resolve("digits", {"evaluation.sampler": "ddpm", "evaluation.sampler_steps": 1000})


@pytest.mark.parametrize("sampler", ["dpm-solver++", "unipc"])
def test_a_solver_takes_fewer_steps_than_there_are(sampler: str) -> None:
    message = f"evaluation.sampler_steps: 1000 is not below diffusion.timesteps = 1000, as {sampler} needs"
    assert refused(evaluation__sampler=sampler, evaluation__sampler_steps=1000) == message
    assert resolve("digits", {"evaluation.sampler": sampler, "evaluation.sampler_steps": 999})


def test_timesteps_are_21_or_more() -> None:
    message = "diffusion.timesteps = 20: allowed: 21 or more"
    assert refused(diffusion__timesteps=20) == message


# Nothing else


@st.composite
def models(draw: st.DrawFn) -> dict[str, object]:
    """Fields of a small model, of which about half fit together."""
    side, patch = draw(st.sampled_from([1, 2, 3, 4])), draw(st.sampled_from([1, 2, 3]))  # side: in tokens
    fitting = [n for n in range(1, side**2 + 1) if side**2 % n == 0]
    return {
        "kind": draw(st.sampled_from(["diffussm", "dit"])),
        "depth": draw(st.sampled_from([1, 2])),
        "width": draw(st.sampled_from([4, 8, 12, 4, 8, 12, 4, 8, 12, 6])),
        "heads": draw(st.sampled_from([1, 2, 3, 4])),
        "hourglass": draw(st.sampled_from(fitting * 3 + [8])),
        "patch": patch,
        "mixer": draw(st.sampled_from(MIXERS)),
        "direction": draw(st.sampled_from(["bidirectional", "forward"])),
        "residual": draw(st.sampled_from(["short", "full"])),
        "scan": draw(st.sampled_from(["raster", "serpentine", "hilbert"])),
        "state": draw(st.sampled_from([2, 4, 6])),
        "s4d_init": draw(st.sampled_from(["lin", "inv", "real"])),
        "image_size": side * patch + draw(st.sampled_from([0, 0, 0, 0, 1])),
        "channels": draw(st.sampled_from([1, 2, 3])),
        "classes": draw(st.sampled_from([0, 1, 3])),
    }


def by_itself(fields: dict[str, object]) -> Config:
    return validate({"model": fields}, "drawn")


def on_a_base(fields: dict[str, object]) -> Config:
    """The base's config with all of the fields that such a model uses."""
    while True:
        try:
            return resolve("photos", {f"model.{name}": value for name, value in fields.items()})
        except UserError as error:
            unused = re.match(r"model\.(\w+): not used with", str(error))
            if not unused:
                raise
        fields = {name: value for name, value in fields.items() if name != unused[1]}


@pytest.mark.parametrize("make", [by_itself, on_a_base])
@settings(max_examples=120, deadline=None)
@given(fields=models(), backend=st.sampled_from(["auto", *BACKENDS]))
def test_what_is_not_refused_runs(
    make: Callable[[dict[str, object]], Config], fields: dict[str, object], backend: str
) -> None:
    """Refused by a field's name, or built and called on two images."""
    try:
        c = make(fields)
    except UserError as error:
        message = str(error)
        named = re.match(r"(?:drawn|photos): model\.(\w+)(?: = |: )", message)
        assert named is not None, message
        assert named[1] in fields, message
        return
    m = c.model
    x = torch.zeros(2, m.channels, m.image_size, m.image_size)
    output = build_model(c, backend)(x, torch.tensor([0, 999]), torch.tensor([0, m.classes]))
    assert output.shape == (2, 2 * m.channels, m.image_size, m.image_size)
