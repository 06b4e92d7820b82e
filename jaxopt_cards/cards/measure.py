"""Measures the facts about each transformation; run `python -m jaxopt_cards.cards.measure`."""

import ast
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxopt_cards as jc
from jaxopt_cards.cards.facts import FILE, Facts, measured
from jaxopt_cards.cards.index import PACKAGE, entries

# So large that single numbers per array are negligible, and blocks of state are full.
SHAPE = (512, 512)
SIZE = SHAPE[0] * SHAPE[1]
# Values of arguments without a default, as shown on cards.
SETTINGS = {
    **dict.fromkeys(["learning_rate", "momentum", "decay", "l1", "l2", "strength"], "0.1"),
    **dict.fromkeys(["max_delta", "max_norm", "threshold", "clipping"], "1.0"),
    **dict.fromkeys(["inner", "fast"], "sgd(0.1)"),
    "order": "['hidden1']",
    "pretrained": "params",
}
# Other values for some transformations: gradient descent has no state to compress.
INSTEAD = {
    "compress_state": {"inner": "adam(0.1)"},
    "magnitude_prune": {"threshold": "1.0"},
}
# Other arguments that must be set so that an argument is used.
BESIDE = {
    ("compress_state", "block_size"): {"bits": "8"},
    ("magnitude_prune", "sparsity"): {"threshold": "None"},
}


def transformations() -> dict[str, Callable[..., Any]]:
    """The public functions that make a transformation from numbers or other transformations."""
    names = [name for name, known in entries().items() if known.module == PACKAGE]
    made = {name: getattr(jc, name) for name in names}
    return {name: make for name, make in made.items() if _settings(name) is not None}


def measure(name: str) -> Facts:
    """Builds the transformation, compiles an update of one array, and analyses it."""
    # JAX's defaults; the caller may have stricter settings.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        tx = _built(name)
        params, grads = _tree(0), _tree(1)
        state = tx.init(params)
        update = jax.jit(_update(tx)).lower(grads, state, params).compile()
        costs: dict[str, float] = update.cost_analysis() or {}
        held = sum(leaf.size * leaf.dtype.itemsize for leaf in _arrays(state))
        return Facts(
            state_bytes=round(held / SIZE, 2),
            passes=round(costs["bytes accessed"] / (4 * SIZE), 1),
            # The compiler counts roots and powers separately.
            operations=round((costs["flops"] + costs.get("transcendentals", 0)) / SIZE, 1),
            needs_params=_needs_params(tx, grads, state),
            elementwise=_is_elementwise(update, grads, state, params),
            **_readers(update, grads, state, params),
            traced=tuple(each for each in _numbers(name) if _may_be_traced(name, each)),
            settings=_told(name),
        )


def _settings(name: str) -> dict[str, str] | None:
    """Values of the required arguments; `None` if it does not make a transformation from them."""
    signature = inspect.signature(getattr(jc, name))
    if "GradientTransformation" not in str(signature.return_annotation):
        return None
    required = [p.name for p in signature.parameters.values() if p.default is p.empty]
    if not set(required) <= set(SETTINGS):
        return None  # `leafwise`, whose arguments are functions
    return {key: SETTINGS[key] for key in required} | INSTEAD.get(name, {})


def _told(name: str) -> str:
    """The settings on which the numbers depend, without learning rates, which do not matter."""
    settings = _settings(name) or {}
    bearing = {k: v for k, v in settings.items() if k in INSTEAD.get(name, {}) or v[0].isalpha()}
    return ", ".join(f"{key}={text}" for key, text in bearing.items())


def _built(name: str, **numbers: Any) -> optax.GradientTransformationExtraArgs:
    """The transformation with its settings, some of which are replaced by numbers."""
    words = {"sgd": jc.sgd, "adam": jc.adam, "params": _tree(0)}
    texts = _settings(name) or {}
    for argument in numbers:
        texts |= BESIDE.get((name, argument), {})
    settings = {key: eval(text, words) for key, text in texts.items()}  # of the tables above
    return optax.with_extra_args_support(getattr(jc, name)(**settings | numbers))


def _tree(seed: int) -> Any:
    """Parameters or gradients: one array in one layer."""
    numbers = np.random.default_rng(seed).standard_normal(SHAPE, dtype=np.float32)
    return {"hidden1": {"kernel": jnp.asarray(numbers)}}


def _arrays(state: Any) -> list[jax.ShapeDtypeStruct]:
    return jax.tree.leaves(jax.eval_shape(lambda: state))


def _update(tx: optax.GradientTransformationExtraArgs) -> Callable[..., Any]:
    """A step, with the loss that some transformations need, and a line search measures."""

    def loss(params: Any) -> jax.Array:
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)) + jnp.float32(1)

    def update(grads: Any, state: Any, params: Any) -> Any:
        told = {"value": jnp.float32(1), "grad": grads, "value_fn": loss}
        return tx.update(grads, state, params, **told)

    return update


def _needs_params(tx: optax.GradientTransformationExtraArgs, grads: Any, state: Any) -> bool:
    """Whether an update without parameters raises."""
    try:
        jax.eval_shape(_update(tx), grads, state, None)
    except ValueError:
        return True
    return False


def _is_elementwise(update: Callable[..., Any], grads: Any, state: Any, params: Any) -> bool:
    """Whether one huge or NaN gradient changes only its own update."""

    def updates(factor: float) -> np.ndarray:
        changed = jax.tree.map(lambda grad: grad.at[3, 5].multiply(factor), grads)
        after = state
        for _ in range(2):
            result, after = update(changed, after, params)
        return np.delete(np.asarray(result["hidden1"]["kernel"]).ravel(), 3 * SHAPE[1] + 5)

    usual = updates(1.0)
    return all(np.array_equal(usual, updates(factor)) for factor in (1e4, float("nan")))


def _readers(update: Callable[..., Any], grads: Any, state: Any, params: Any) -> dict[str, str]:
    """The functions that give other points than the parameters after some updates."""
    for _ in range(2):
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
    found = {"gradient_at": jc.nesterov_point, "evaluated_at": jc.slow_weights}
    readers = dict.fromkeys(found, "")
    for what, function in found.items():
        try:
            point = function(params, state)
        except ValueError:  # the state has none
            continue
        same = np.array_equal(point["hidden1"]["kernel"], params["hidden1"]["kernel"])
        readers[what] = "" if same else function.__name__
    return readers


def _numbers(name: str) -> list[str]:
    """The arguments that are numbers."""
    definition = entries()[name].definition
    assert isinstance(definition, ast.FunctionDef)
    parameters = (*definition.args.args, *definition.args.kwonlyargs)
    return [each.arg for each in parameters if _is_number(ast.unparse(each.annotation or each))]


def _is_number(annotation: str) -> bool:
    """Whether an annotation allows a number."""
    words = ("ArrayLike", "ScalarOrSchedule", "float", "int")
    kind = annotation.removeprefix("Annotated[").replace(",", " | ").split(" | ")[0]
    return any(word in kind.split(".") for word in words)


def _may_be_traced(name: str, argument: str) -> bool:
    """Whether an argument may be traced, so that one program runs with many values."""
    default = inspect.signature(getattr(jc, name)).parameters[argument].default
    value = default if type(default) in (int, float) else 0.5

    def step(value: jax.Array) -> Any:
        tx = _built(name, **{argument: value})
        return _update(tx)(_tree(1), tx.init(_tree(0)), _tree(0))[0]

    try:
        jax.eval_shape(jax.vmap(step), jnp.asarray([value, value]))
    except (ValueError, TypeError, jax.errors.JAXTypeError):
        return False
    return True


def main(*, only_new: bool = False) -> None:
    """Measures all techniques, or those without facts, and writes the file."""
    known = measured()["techniques"] if only_new else {}
    names = transformations()
    techniques = {name: known.get(name) or measure(name)._asdict() for name in sorted(names)}
    if known.keys() == techniques.keys():
        return
    content = {"jax": jax.__version__, "platform": jax.default_backend(), "techniques": techniques}
    path = Path(__file__).with_name(FILE)
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{path}: {len(techniques)} techniques")


if __name__ == "__main__":
    main()
