"""Claims about optimizers: each on a task where it is meant, with the figure and a verdict.

Géron's chapter 11 and the two surveys say how optimizers compare. Each row of the table measures
one such sentence, and says whether it holds here.

FTRL keeps a sum of squared gradients, which starts at 0.1 by default, as in Keras. Where squared
gradients are much smaller than that, as in a deep network, the first step replaces the weights by
almost zero. With a sum that starts at zero, the first step is as long as the learning rate.

python examples/optimizer_claims.py --output output/optimizer_claims
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from chapter import mean_and_deviation
from sparse_models import measured, pruning_on
from topic_pictures import panels
from topics import Topic, Variant, best, claim, epochs_to, upheld

import jaxopt_cards as jc
from jaxopt_cards import pictures

UNITS = (100,) * 5
ONE_RATE = 0.01  # of FTRL, for its first step
RATES = (1e-3, 3e-3, 0.01, 0.03, 0.1)
GOAL = 0.05  # training loss
SEVERAL = 2.0  # times
ALMOST = 0.9  # of all comparisons
EARLY = 3  # epochs
CONDITION, FALLEN = 100.0, 1e-6  # of a ravine; the part of the first loss to reach
STEPS, DIMENSION = 2000, 1000  # of the convex quadratic
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0)  # of FTRL's ℓ1
PRUNED = (0.2, 0.5, 0.7, 0.9)
WITHIN = 1.0  # points of accuracy
FULL_GOAL = 0.01  # training loss with full batches
BATCHES_EPOCHS = 100  # of full batches


def steps_to(tx: jc.GradientTransformation, most: int = 20_000) -> int:
    """The steps in a ravine until the loss is a millionth of the first; `most` if never."""
    curvatures, start = jnp.array([1 / CONDITION, 1.0]), jnp.ones(2)

    def loss(params: jax.Array) -> jax.Array:
        return jnp.sum(curvatures * params**2) / 2

    def step(carry: tuple, _: None) -> tuple[tuple, jax.Array]:
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params), state)
        params = jc.apply_updates(params, updates)
        return (params, state), loss(params)

    _, losses = jax.lax.scan(step, (start, tx.init(start)), length=most)
    reached = np.asarray(losses) <= FALLEN * float(loss(start))
    return 1 + int(np.argmax(reached)) if reached.any() else most


def momentum_is_faster(sweeps: Mapping[str, Sequence[Variant]]) -> list[dict]:
    """Momentum against gradient descent, in a ravine and on digits."""
    # The fastest constants on a quadratic of this condition number.
    root = np.sqrt(CONDITION)
    plain = steps_to(jc.sgd(2 / (1 + 1 / CONDITION)))
    heavy = steps_to(jc.momentum((2 / (1 + 1 / root)) ** 2, ((root - 1) / (root + 1)) ** 2))
    epochs = {
        name: min(_number(epochs_to(GOAL, v, "train_loss")) for v in sweeps[name])
        for name in ("sgd", "momentum")
    }
    return [
        claim(
            "momentum is several times faster than gradient descent",
            f"steps in a ravine of condition {CONDITION:g}, best constants: momentum, descent",
            heavy,
            plain,
            plain >= SEVERAL * heavy,
            f"In a ravine of condition {CONDITION:g}, momentum needs {heavy} steps and gradient "
            f"descent {plain}, each with its best constants: {plain / heavy:.1f} times as many.",
        ),
        claim(
            "momentum is several times faster than gradient descent",
            f"epochs to a training loss of {GOAL:g} at the best rate: momentum, descent",
            _told(epochs["momentum"]),
            _told(epochs["sgd"]),
            epochs["sgd"] >= SEVERAL * epochs["momentum"],
            f"On a network, to a training loss of {GOAL:g}, momentum needs "
            f"{_told(epochs['momentum'])} epochs at the best rate between {RATES[0]:g} and "
            f"{RATES[-1]:g}, and gradient descent {_told(epochs['sgd'])}.",
        ),
    ]


def _number(epochs: float | str) -> float:
    return float("inf") if isinstance(epochs, str) else epochs


def _told(epochs: float) -> str:
    return f"{epochs:.1f}" if np.isfinite(epochs) else "more than it had"


def nesterov_is_almost_always_faster(
    sweeps: Mapping[str, Sequence[Variant]], linear: Mapping[str, Sequence[Variant]]
) -> list[dict]:
    """Nesterov against momentum: the same rate, seed and model."""
    wins, all_of_them = 0, 0
    for models in (sweeps, linear):
        for ahead, plain in zip(models["nesterov"], models["momentum"], strict=True):
            for one, other in zip(ahead.histories, plain.histories, strict=True):
                losses = one.train_loss[:EARLY][-1], other.train_loss[:EARLY][-1]
                if np.isfinite(losses).all():
                    all_of_them += 1
                    wins += bool(losses[0] < losses[1])
    return [
        claim(
            "Nesterov is almost always faster than momentum",
            f"pairs with a smaller loss in epoch {EARLY}: Nesterov, all",
            wins,
            all_of_them,
            wins >= ALMOST * all_of_them,
            f"In {wins} of {all_of_them} pairs of runs with the same model, rate and seed, "
            f"Nesterov's training loss is below that of momentum in epoch {EARLY}.",
        )
    ]


def adagrad_stops_early(sweeps: Mapping[str, Sequence[Variant]]) -> list[dict]:
    """AdaGrad against RMSProp on a deep network: the best training loss, and at one rate."""
    rows = []
    for where, chosen in (
        ("each at its best rate", {n: _lowest(sweeps[n]) for n in ("adagrad", "rmsprop")}),
        (f"at a rate of {RATES[0]:g}", {n: sweeps[n][0] for n in ("adagrad", "rmsprop")}),
    ):
        ends = {name: _end(variant) for name, variant in chosen.items()}
        rows.append(
            claim(
                "AdaGrad stops too early on deep networks",
                f"last training loss, {where}: AdaGrad, RMSProp",
                ends["adagrad"],
                ends["rmsprop"],
                ends["adagrad"] > SEVERAL * ends["rmsprop"],
                f"On the deep network, {where}, AdaGrad's training loss ends at "
                f"{ends['adagrad']:.2g}, and RMSProp's at {ends['rmsprop']:.2g}.",
            )
        )
    return rows


def _end(variant: Variant) -> float:
    """The mean of the last training losses."""
    return float(np.mean([history.train_loss[-1] for history in variant.histories]))


def _lowest(sweep: Sequence[Variant]) -> Variant:
    """The variant with the least last training loss."""
    return min(sweep, key=lambda variant: np.nan_to_num(_end(variant), nan=np.inf))


def descent_overtakes(sweeps: Mapping[str, Sequence[Variant]]) -> list[dict]:
    """Momentum against Adam: behind at first, and better in the end."""
    adam, heavy = best(sweeps["adam"]), best(sweeps["momentum"])
    early = [np.mean([h.valid_loss[:EARLY][-1] for h in v.histories]) for v in (adam, heavy)]
    gain = np.mean(heavy.accuracy) - np.mean(adam.accuracy)
    spread = np.hypot(np.std(heavy.accuracy), np.std(adam.accuracy))
    return [
        claim(
            "SGD overtakes adaptive methods in the end",
            "test accuracy in %, each at its best rate: momentum, Adam",
            heavy.accuracy,
            adam.accuracy,
            bool(early[0] < early[1] and gain > spread),
            f"After {EARLY} epochs, the validation loss is {early[0]:.3f} with Adam and "
            f"{early[1]:.3f} with momentum. In the end, the test accuracy is "
            f"{mean_and_deviation(adam.accuracy, 2)} % with Adam and "
            f"{mean_and_deviation(heavy.accuracy, 2)} % with momentum.",
        )
    ]


def ftrl_is_sparse(topic: Topic) -> list[dict]:
    """FTRL's zeros against pruning, on the deep network and on the linear model it is made for."""
    rows = []
    for where, units in (("the deep network", UNITS), ("a linear model", ())):
        make = topic.mlp(units=units)
        dense = topic.train(f"dense, {where}", make, jc.adam(1e-3))
        limit = np.mean(dense.valid_accuracy) - WITHIN
        models = {"FTRL": [], "pruning": []}
        for strength in STRENGTHS:
            tx = jc.ftrl(0.03, initial_accumulator_value=0.0, l1_regularization_strength=strength)
            ended = topic.fit_each(f"FTRL, ℓ1 {strength:g}, {where}", make, tx)
            models["FTRL"].append([result.last for result in ended.results])
        members = [
            (f"pruned, {where}", [r.model for r in dense.results], {"sparsity": share})
            for share in PRUNED
        ]
        for variant in topic.population(members, pruning_on):
            models["pruning"].append([result.model for result in variant.results])
        zeros = {}
        for way, settings in models.items():
            points = [measured(topic, way, 0.0, each) for each in settings]
            good = [np.mean(p.zeros) for p in points if np.mean(p.valid) >= limit]
            zeros[way] = float(max(good, default=0.0))
        rows.append(
            claim(
                "FTRL leads to much sparser models",
                f"zeros in % within {WITHIN:g} point of accuracy, {where}: FTRL, pruning",
                zeros["FTRL"],
                zeros["pruning"],
                zeros["FTRL"] > zeros["pruning"],
                f"On {where}, within {WITHIN:g} point of the dense validation accuracy, FTRL "
                f"sets up to {zeros['FTRL']:.1f} % of the weights to zero; pruning and training on "
                f"sets up to {zeros['pruning']:.1f} %.",
            )
        )
    return rows


def ftrl_forgets(topic: Topic) -> list[dict]:
    """FTRL's initial sum of squares: what is left of the weights after the first step."""
    make, accuracy, left = topic.mlp(units=UNITS), {}, {}
    for start in (0.1, 0.0):

        def make_tx(learning_rate: float, start: float = start) -> jc.GradientTransformation:
            return jc.ftrl(learning_rate, initial_accumulator_value=start)

        accuracy[start] = topic.tune(f"FTRL from {start:g}", make, make_tx, RATES).accuracy
        left[start] = after_one_step(make_tx(ONE_RATE))
    return [
        claim(
            "FTRL needs a sum of squares that starts at zero on deep networks",
            "test accuracy in % at the best rate: sum of squares from 0.1, from 0",
            accuracy[0.1],
            accuracy[0.0],
            bool(np.mean(accuracy[0.1]) < np.mean(accuracy[0.0]) - WITHIN),
            f"FTRL's sum of squares starts at 0.1 by default, and the test accuracy is "
            f"{mean_and_deviation(accuracy[0.1], 2)} %; from 0 it is "
            f"{mean_and_deviation(accuracy[0.0], 2)} %. The first step, at a gradient of 0.01 and "
            f"a rate of {ONE_RATE:g}, leaves {left[0.1]:.1%} of a weight of 0.1, and from a sum of "
            f"0 it leaves {left[0.0]:.1%}.",
        )
    ]


def after_one_step(tx: jc.GradientTransformation) -> float:
    """What a first step leaves of a weight of 0.1 whose gradient is 0.01."""
    weight = jnp.array([0.1])
    updates, _ = tx.update(jnp.array([0.01]), tx.init(weight), weight)
    return float((1 + updates / weight)[0])


def convex(accelerated: bool) -> np.ndarray:
    """The loss above the minimum on a convex quadratic, in double precision.

    Its curvatures are spread evenly over eight powers of ten, so that some directions are always
    flat, and gradient descent falls like 1/k and no faster.
    """
    curvatures = jnp.logspace(-8, 0, DIMENSION)

    def loss(params: jax.Array) -> jax.Array:
        return jnp.mean(curvatures * params**2) / 2

    # Nesterov's momentum, which grows to 1.
    decay = (lambda step: jnp.maximum(step - 1, 0) / (step + 2)) if accelerated else 0.0
    tx = jc.scale_by_true_nesterov(float(DIMENSION), decay)  # 1 / the greatest curvature

    def step(carry: tuple, _: None) -> tuple[tuple, jax.Array]:
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(jc.nesterov_point(params, state)), state)
        params = jc.apply_updates(params, updates)
        return (params, state), loss(params)

    start = jnp.ones(DIMENSION)
    return np.asarray(jax.lax.scan(step, (start, tx.init(start)), length=STEPS)[1])


def power(losses: np.ndarray) -> float:
    """The power of k with which losses fall, fitted from the tenth step to the last."""
    steps = np.arange(1, len(losses) + 1)[9:]
    return float(np.polyfit(np.log(steps), np.log(losses[9:]), 1)[0])


def acceleration() -> tuple[list[dict], dict[str, np.ndarray]]:
    """Nesterov's rate on convex functions: 1/k² against 1/k."""
    with jax.enable_x64(True):
        losses = {"gradient descent": convex(False), "Nesterov": convex(True)}
    plain, fast = (power(each) for each in losses.values())
    return [
        claim(
            "Nesterov's error falls like 1/k², that of gradient descent like 1/k",
            "fitted power of k on a convex quadratic: Nesterov, gradient descent",
            fast,
            plain,
            fast <= -1.9 and -1.1 <= plain <= -0.9,
            f"On a convex quadratic in {DIMENSION:,} dimensions, in double precision, the loss "
            f"falls like k to the power {fast:.2f} with Nesterov's momentum, and {plain:.2f} with "
            "gradient descent.",
        )
    ], losses


def newton_like(topic: Topic) -> tuple[list[dict], dict[str, Variant]]:
    """L-BFGS against Adam: logistic regression with full batches."""
    settings = {
        "batch_size": len(topic.images.train.y),
        "epochs": BATCHES_EPOCHS * topic.options.epochs // 40,
    }
    make = topic.mlp(units=())
    second = topic.fit_each("L-BFGS, full batches", make, jc.lbfgs(), **settings)
    first = min(
        (topic.fit_each(f"Adam {r:g}, full batches", make, jc.adam(r), **settings) for r in RATES),
        key=_end,
    )
    epochs = [_number(epochs_to(FULL_GOAL, variant, "train_loss")) for variant in (second, first)]
    told = [_told(each) for each in epochs]
    return [
        claim(
            "L-BFGS is fast on small data",
            f"steps to a training loss of {FULL_GOAL:g}, full batches: L-BFGS, Adam",
            *told,
            epochs[0] < epochs[1],
            f"On logistic regression with {len(topic.images.train.y):,} images in one batch, "
            f"L-BFGS needs {told[0]} steps to a training loss of {FULL_GOAL:g}, and Adam, at the "
            f"best of {len(RATES)} rates, {told[1]}.",
        )
    ], {"L-BFGS": second, "Adam": first}


@pictures.style()
def draw(losses: Mapping[str, np.ndarray], full: Mapping[str, Variant]) -> plt.Figure:
    """Draws the loss on the convex quadratic, and with full batches."""
    figure, (left, right) = panels(2)
    steps = np.arange(1, STEPS + 1)
    for name, each in losses.items():
        left.loglog(steps, each, label=name)
    for label, fall in (("1/k", steps), ("1/k²", steps**2)):
        left.loglog(steps, losses["gradient descent"][0] / fall, "k:", lw=1, label=label)
    left.set(xlabel="step k", ylabel="loss above the minimum", title="A convex quadratic")
    left.legend()
    for name, variant in full.items():
        history = variant.histories[0].train_loss
        right.plot(range(1, len(history) + 1), history, label=name)
    right.set(xlabel="step", ylabel="training loss", title="Full batches", yscale="log")
    right.legend()
    return figure


def main() -> None:
    """Measures all claims."""
    topic = Topic.of(__doc__, epochs=40)
    makers: dict[str, Callable] = {
        "sgd": jc.sgd,
        "momentum": jc.momentum,
        "nesterov": jc.nesterov,
        "adagrad": jc.adagrad,
        "rmsprop": jc.rmsprop,
        "adam": jc.adam,
    }
    deep, shallow = topic.mlp(units=UNITS), topic.mlp(units=())
    sweeps = {name: topic.sweep(name, deep, make, RATES) for name, make in makers.items()}
    linear = {
        name: topic.sweep(f"{name}, linear", shallow, makers[name], RATES)
        for name in ("momentum", "nesterov")
    }
    accelerated, losses = acceleration()
    full_batches, full = newton_like(topic)
    rows = [
        *momentum_is_faster(sweeps),
        *nesterov_is_almost_always_faster(sweeps, linear),
        *accelerated,
        *adagrad_stops_early(sweeps),
        *descent_overtakes(sweeps),
        *ftrl_is_sparse(topic),
        *ftrl_forgets(topic),
        *full_batches,
    ]
    topic.finish(rows, {"optimizer_claims": draw(losses, full)}, upheld(rows), rates=RATES)


if __name__ == "__main__":
    main()
