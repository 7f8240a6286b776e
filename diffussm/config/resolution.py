"""From a base and overrides to a config.

A base is a whole recipe (`recipes`); overrides are dotted keys on top of it. `resolve` makes the frozen Config and
resets the fields that the chosen parts do not use, so that equal runs have one id.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from diffussm.config.overrides import apply_overrides, unknown_key
from diffussm.config.recipes import load_base
from diffussm.config.schema import SOLVERS, Config, EvaluationConfig, ModelConfig, is_external
from diffussm.config.schema_errors import first_problem
from diffussm.errors import UserError, unknown
from diffussm.metric_table import METRICS


def resolve(base: str, overrides: Mapping[str, Any] | None = None) -> Config:
    """Return the config of a base, or of a recipe in a `.toml` file, with dotted-key overrides.

    Raises UserError, which names the field. What depends on the data, `diffussm.data.lookup.resolution` fills in.
    """
    return validate(merge(base, overrides), base)


def merge(base: str, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the sections of a config, not validated yet: those of a base with dotted-key overrides.

    `size` names a row of the base's table for the model's kind: depth, width and heads where no override sets them.
    """
    overrides = dict(overrides or {})
    recipe = dict(load_base(base))
    sizes = recipe.pop("sizes")
    size = overrides.pop("size", recipe.pop("size", None))
    tree = apply_overrides(recipe, overrides)
    model = tree["model"]
    kind = model.get("kind", ModelConfig.model_fields["kind"].default)
    if str(kind) in sizes and size is not None:
        if str(size) not in sizes[str(kind)]:
            raise unknown("size", str(size), sizes[str(kind)])
        tree["model"] = model = sizes[str(kind)][str(size)] | model
    elif size is not None and not sizes:
        raise UserError(f"{base}: size = {size}: it has no table of sizes")
    whole = ModelConfig().model_dump() | model
    for name in [name for name, used in _USED_IF.items() if not used(whole)]:
        if f"model.{name}" in overrides:
            raise UserError(f"model.{name}: not used with {_describe_model(whole)}; remove it")
        model.pop(name, None)
    evaluation = tree.get("evaluation", {})
    if evaluation.get("guidance", 1.0) == 1:
        if overrides.get("evaluation.guidance_channels"):
            raise UserError(
                "evaluation.guidance_channels: not used without guidance; remove it or set evaluation.guidance"
            )
        evaluation.pop("guidance_channels", None)
    return tree


def _is_diffussm(m: Mapping[str, Any]) -> bool:
    return m["kind"] == "diffussm"


def _is_s4d(m: Mapping[str, Any]) -> bool:
    return _is_diffussm(m) and m["mixer"] == "s4d"


def _is_s4d_or_external(m: Mapping[str, Any]) -> bool:
    return _is_diffussm(m) and (m["mixer"] == "s4d" or is_external(m["mixer"]))


def _attends_or_is_external(m: Mapping[str, Any]) -> bool:
    return m["kind"] == "dit" or m["mixer"] == "attention" or is_external(m["mixer"])


def _depends_on_scan(m: Mapping[str, Any]) -> bool:
    """Return whether the scan matters: to attention and to identity only if M > 1 groups neighbouring tokens."""
    return _is_diffussm(m) and (m["mixer"] not in ("attention", "identity") or m["hourglass"] != 1)


# Fields of a model that only some use: elsewhere they are reset to their defaults, so that equal models have one id.
# An external mixer may use any.
_USED_IF: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "hourglass": _is_diffussm,
    "mixer": _is_diffussm,
    "residual": _is_diffussm,
    "scan": _depends_on_scan,
    "heads": _attends_or_is_external,
    "state": _is_s4d_or_external,
    "direction": _is_s4d_or_external,
    "s4d_init": _is_s4d,
}


def _describe_model(m: Mapping[str, Any]) -> str:
    if m["kind"] == "dit":
        return "model.kind = dit"
    return f"model.mixer = {m['mixer']} and model.hourglass = {m['hourglass']}"


def validate(tree: Mapping[str, Any], source: str) -> Config:
    """Return the tree as a Config; raise UserError for the first problem: field, value and what is allowed."""
    try:
        config = Config.model_validate_json(json.dumps(tree))
    except (ValidationError, TypeError) as error:
        raise UserError(_describe(error, tree, source)) from None
    _check_evaluation(config, source)
    return config


def _check_evaluation(config: Config, source: str) -> None:
    """Raise UserError if the evaluation does not fit the run.

    It is no validator of the schema, because the stored config.json has no evaluation.
    """
    e, timesteps = config.evaluation, config.diffusion.timesteps
    if e.sampler in SOLVERS and e.sampler_steps >= timesteps:
        raise UserError(
            f"{source}: evaluation.sampler_steps: {e.sampler_steps} is not below diffusion.timesteps = {timesteps}, "
            f"as {e.sampler} needs"
        )
    if e.sampler_steps > timesteps or (e.sampler == "ddim" and timesteps % e.sampler_steps):
        wrong = "does not divide" if e.sampler == "ddim" else "is above"
        raise UserError(
            f"{source}: evaluation.sampler_steps: {e.sampler_steps} {wrong} diffusion.timesteps = {timesteps}"
        )
    if e.ddim_eta and e.sampler != "ddim":
        raise UserError(
            f"{source}: evaluation.ddim_eta = {e.ddim_eta}: not used by evaluation.sampler = {e.sampler}; remove it"
        )
    if not config.model.classes and (problems := _needing_classes(e)):
        raise UserError(f"{source}: {'; '.join(problems)}")
    if e.guidance_channels >= config.model.channels and e.guidance_channels:
        raise UserError(
            f"{source}: evaluation.guidance_channels = {e.guidance_channels}: must be below "
            f"model.channels = {config.model.channels}, or 0 for all channels"
        )


def _needing_classes(e: EvaluationConfig) -> list[str]:
    """Return what of an evaluation needs a model with classes, and what to set instead."""
    problems = [
        f"evaluation.metrics: {name} needs model.classes > 0" for name in e.metrics if METRICS[name].needs_labels
    ]
    conditional = "needs a class-conditional model (model.classes > 0); set it to"
    if e.guidance != 1:
        problems.append(f"evaluation.guidance = {e.guidance}: guidance {conditional} 1 for none")
    if e.labels != "random":
        problems.append(f"evaluation.labels = {e.labels}: {conditional} random")
    return problems


def _describe(error: ValidationError | TypeError, tree: Mapping[str, Any], source: str) -> str:
    if isinstance(error, TypeError):  # a TOML date or time, which no field takes
        return f"{source}: {error}"
    problem = first_problem(error, tree)
    if problem.is_unknown:
        return str(unknown_key(".".join(map(str, problem.key)), source))
    return f"{source}: {problem.at()}"
