"""One table of all public transformations and wrappers; each row is one way to build one."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

import jaxopt_cards as jc
from tests.common.table import OPTIMIZERS


@dataclass(frozen=True)
class Transformation:
    """A transformation for parameters like `params()`, and what it takes to run it."""

    name: str  # begins with the public function that the row is about
    make: Callable[..., Any]  # of the arrays in `given`
    optax: Callable[..., Any] | None = None  # the same of Optax, where Optax has it
    given: Callable[[], tuple] = tuple  # arrays of the user's, fresh ones at each call
    extra: dict[str, Any] = field(default_factory=dict, hash=False)  # what `update` needs by name
    keeps_halves: bool = False  # where Optax's schedule, of float32, widens half precision
    # How gradients may say that there is none, as of counters among the parameters.
    absent: tuple[str, ...] = ("None", "float0")

    @property
    def function(self) -> str:
        """The public function."""
        return self.name.split()[0].rstrip(",")


def params(kernel=(8, 4), scale=(8,), dtype="float32"):
    """Parameters that eight devices can split, with the paths of the other laws."""
    numbers = lambda shape, start: (  # noqa: E731
        jnp.sin(start + jnp.arange(float(jnp.zeros(shape).size))).reshape(shape).astype(dtype)
    )
    return {"hidden1": {"kernel": numbers(kernel, 1.0)}, "scale": numbers(scale, 2.0)}


def falling(count):
    """A schedule in the widest float there is."""
    return 0.05 / (1.0 + jnp.asarray(count, float) / 10.0)


def array(value):
    """The arguments of a function of one array."""
    return lambda: (jnp.array(value),)


def hidden(tree):
    """Which leaves are of the layer `hidden1`: a mask for trees of any container."""
    return jc.select(tree, "hidden1")


def labels(tree):
    return jax.tree.map(lambda chosen: "trained" if chosen else "frozen", hidden(tree))


def sign_momentum():
    """An equation of the reader's own."""

    def update(grad, mean, param, step):
        mean = 0.9 * mean + 0.1 * grad
        return -0.1 * jnp.sign(mean), mean

    return jc.leafwise(jnp.zeros_like, update)


def others(tree):
    return jax.tree.map(lambda chosen: not chosen, hidden(tree))


ADAM = partial(jc.adam, 0.05)
AHEAD = partial(jc.scale_by_true_nesterov, 0.05)
LAYERS = ["hidden1", "scale"]
Row = Transformation


def stages_of_optimizers():
    """Each stage at its defaults; if it takes a learning rate, at 0.05."""
    for name in jc.__all__:
        make = getattr(jc, name)
        if name.startswith("scale_by_") and make.__module__.startswith("jaxopt_cards.optimizers."):
            rate = [0.05] if "learning_rate" in inspect.signature(make).parameters else []
            yield Row(name, partial(make, *rate), getattr(optax, name, None))


TRANSFORMATIONS = [
    *(
        Row(case.name, partial(case.make, 0.05), case.optax and partial(case.optax, 0.05))
        for case in OPTIMIZERS
        if case.name != "lookahead"
    ),
    # Hyperparameters that are arrays.
    Row("adam of arrays", lambda rate, b1: jc.adam(rate, b1), given=lambda: tuple(jnp.ones(2) / 9)),
    Row("adagrad from an array", lambda start: jc.adagrad(0.05, start), given=array(0.1)),
    Row("rmsprop from an array", lambda s: jc.rmsprop(0.05, initial_scale=s), given=array(0.1)),
    Row("ftrl from an array", lambda start: jc.ftrl(0.05, -0.5, start), given=array(0.1)),
    Row("momentum by a schedule", lambda: jc.sgd(0.05, momentum=falling)),
    # Single stages.
    *stages_of_optimizers(),
    Row("scale_by_learning_rate", *(partial(m.scale_by_learning_rate, 0.05) for m in (jc, optax))),
    Row(
        "scale_by_learning_rate, a schedule",
        *(partial(m.scale_by_learning_rate, falling) for m in (jc, optax)),
    ),
    Row("trace", partial(jc.trace, 0.9), partial(optax.trace, 0.9)),
    Row("trace by a schedule", partial(jc.trace, falling)),
    Row("leafwise", sign_momentum),
    Row("clip", partial(jc.clip, 0.1), partial(optax.clip, 0.1)),
    Row("clip_by_block_rms", *(partial(m.clip_by_block_rms, 0.1) for m in (jc, optax))),
    Row(
        "clip_by_global_norm",
        *(partial(m.clip_by_global_norm, 0.1) for m in (jc, optax)),
        absent=(),
    ),
    Row("clip_by_norm", partial(jc.clip_by_norm, 0.1)),
    Row("adaptive_grad_clip", *(partial(m.adaptive_grad_clip, 0.01) for m in (jc, optax))),
    Row("add_decayed_weights", *(partial(m.add_decayed_weights, 0.1) for m in (jc, optax))),
    Row(
        "add_decayed_weights by a schedule",
        *(partial(m.add_decayed_weights, falling) for m in (jc, optax)),
        keeps_halves=True,
    ),
    Row(
        "add_decayed_weights by pattern",
        partial(jc.add_decayed_weights, 0.1, "kernel"),
        absent=("float0",),
    ),
    Row("add_l1_decay", partial(jc.add_l1_decay, 0.1)),
    Row("add_elastic_net", partial(jc.add_elastic_net, 0.1, 0.1, 0.01)),
    Row(
        "add_l2_sp",
        lambda kernel: jc.add_l2_sp({"hidden1": {"kernel": kernel}}),
        given=lambda: (jnp.ones((8, 4)),),
    ),
    Row("max_norm", partial(jc.max_norm, 0.5)),
    Row("max_norm by pattern", partial(jc.max_norm, 0.5, mask="kernel"), absent=("float0",)),
    Row("proximal_l1", partial(jc.proximal_l1, 0.05)),
    Row("proximal_l1 by a schedule", partial(jc.proximal_l1, falling)),
    Row("magnitude_prune", partial(jc.magnitude_prune, 0.1)),
    Row("magnitude_prune to a share", partial(jc.magnitude_prune, sparsity=0.5)),
    Row(
        "magnitude_prune by pattern",
        partial(jc.magnitude_prune, 0.1, mask="kernel"),
        absent=("float0",),
    ),
    Row(
        "reduce_on_plateau",
        *(partial(m.reduce_on_plateau, patience=2) for m in (jc, optax.contrib)),
        extra={"value": 1.0},
    ),
    Row(
        "polyak_average", lambda decay: jc.chain(ADAM(), jc.polyak_average(decay)), given=array(0.9)
    ),
    Row("polyak_average, uniform", lambda: jc.chain(ADAM(), jc.polyak_average("uniform"))),
    # Wrappers.
    Row("lookahead", lambda: jc.lookahead(ADAM(), 3)),
    Row("lookahead, reset", lambda: jc.lookahead(ADAM(), 3, reset_state=True)),
    Row("layerwise_decay", lambda xi: jc.layerwise_decay(ADAM(), xi, LAYERS), given=array(0.5)),
    Row("skip_nonfinite", lambda: jc.skip_nonfinite(ADAM())),
    Row("probe", lambda: jc.probe(ADAM(), last=3, every=2)),
    Row(
        "compress_state, 16 bits",
        lambda key: jc.compress_state(ADAM(), min_size=4, key=key),
        given=lambda: (jax.random.key(3),),
    ),
    Row(
        "compress_state, 8 bits",
        lambda key: jc.compress_state(ADAM(), 8, block_size=3, min_size=4, key=key),
        given=lambda: (jax.random.key(3),),
    ),
    Row("compress_state, default key", lambda: jc.compress_state(jc.amsgrad(0.05), 8, min_size=9)),
    Row("pack_small_leaves", lambda: jc.pack_small_leaves(ADAM()), absent=()),
    Row("pack_small_leaves, one of two", lambda: jc.pack_small_leaves(ADAM(), 8), absent=()),
    # Wrappers around wrappers, and Optax's around ours.
    Row(
        "skip_nonfinite of compress_state of lookahead",
        lambda: jc.skip_nonfinite(
            jc.compress_state(jc.lookahead(jc.amsbound(0.05)), 8, min_size=4)
        ),
    ),
    Row("probe of a probe", lambda: jc.probe(jc.chain(jc.probe(jc.sgd(0.1)), ADAM()), 3)),
    Row(
        "probe of pack_small_leaves",
        lambda: jc.probe(jc.pack_small_leaves(jc.adamw(0.05))),
        absent=(),
    ),
    Row("adam in masked", lambda: jc.masked(ADAM(), hidden), absent=("float0",)),
    Row(
        "skip_nonfinite in partition",
        lambda: jc.partition(
            {"trained": jc.skip_nonfinite(ADAM()), "frozen": jc.set_to_zero()}, labels
        ),
        absent=(),
    ),
    Row(
        "adam in MultiSteps", lambda: jc.MultiSteps(ADAM(), 2).gradient_transformation(), absent=()
    ),
    Row("adam in apply_if_finite", lambda: jc.apply_if_finite(ADAM(), 2), absent=("None",)),
    # Gradients ahead, and weights to evaluate, of a part of the parameters or inside wrappers.
    Row("scale_by_true_nesterov in skip_nonfinite", lambda: jc.skip_nonfinite(AHEAD())),
    Row("scale_by_true_nesterov in lookahead", lambda: jc.lookahead(AHEAD(), 3)),
    Row(
        "scale_by_true_nesterov in masked",
        lambda: jc.chain(jc.masked(AHEAD(), hidden), jc.masked(jc.set_to_zero(), others)),
        absent=("float0",),
    ),
    Row(
        "scale_by_true_nesterov in partition",
        lambda: jc.partition(
            {"trained": AHEAD(), "frozen": jc.scale_by_true_nesterov(0.01)}, labels
        ),
        absent=(),
    ),
    Row(
        "lookahead in partition",
        lambda: jc.partition({"trained": jc.lookahead(ADAM(), 3), "frozen": ADAM()}, labels),
        absent=(),
    ),
    Row(
        "adam in freeze",
        lambda: jc.chain(ADAM(), jc.masked(jc.freeze(True), hidden)),
        absent=("float0",),
    ),
]

IN_OPTAX = [row for row in TRANSFORMATIONS if row.optax]
