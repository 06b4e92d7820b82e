"""Questions 1 to 7 of Géron's chapter 11: what each answer claims, measured.

Each row compares two runs, and says whether the answer's claim holds. The answers themselves are on
the page "Questions 1 to 7".

python examples/questions.py --output output/questions
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from chapter import mean_and_deviation
from flax import nnx
from sparse_models import leader, proximal, pruned
from topic_pictures import panels
from topics import BATCH, Topic, Variant, claim, epochs_to, share_of_zeros, upheld

import jaxopt_cards as jc
from jaxopt_cards import cards, layers, pictures

UNITS = (100,) * 5
EQUAL = 0.05
RATE = 1e-3
HIGH_RATE = 0.03  # of Adam, at which units die
GOAL = 0.05  # training loss
STEPS, LAST = 500, 100  # in the ravine, and those whose greatest loss counts
CURVATURES = (1.0, 20.0)
RAVINE_RATE = 0.02
MOMENTA = (0.9, 0.99999)
SPARSITY, PROXIMAL, LEADER = 0.5, 0.1, 0.3  # one setting of each way to zeros
DROPOUT = 0.5


def network(topic: Topic, **settings) -> functools.partial:
    """Makes the chapter's network from `rngs`."""
    return topic.mlp(units=UNITS, **settings)


def accuracies(of_seeds: Sequence[float]) -> str:
    """Mean and deviation, with two digits."""
    return mean_and_deviation(of_seeds, 2)


def spread_of_units(model: layers.MLP) -> float:
    """The largest difference between the weights of two units of one hidden layer."""
    kernels = [getattr(model, f"hidden{n + 1}").kernel[...] for n in range(model.depth)]
    return max(float(jnp.max(jnp.ptp(kernel, axis=1))) for kernel in kernels)


def equal_weights(topic: Topic, plain: Variant) -> list[dict]:
    """Question 1: units with the same weights stay the same."""
    make = network(topic, kernel_init=nnx.initializers.constant(EQUAL))
    equal = topic.train(f"all weights {EQUAL}", make, jc.adam(RATE))
    spreads = [[spread_of_units(r.model) for r in v.results] for v in (equal, plain)]
    lost = np.mean(plain.accuracy) - np.mean(equal.accuracy)
    return [
        claim(
            1,
            "largest difference between two units of a layer, equal weights against He's",
            *spreads,
            max(spreads[0]) == 0,
            f"With all weights {EQUAL}, two units of a layer differ by at most "
            f"{max(spreads[0]):.2g} after training; with He initialisation by "
            f"{max(spreads[1]):.2g}.",
        ),
        claim(
            1,
            "test accuracy in %, equal weights against He's",
            equal.accuracy,
            plain.accuracy,
            bool(lost > 0),
            f"The network of equal units classifies {accuracies(equal.accuracy)} % of the test "
            f"images correctly, that with He's {accuracies(plain.accuracy)} %.",
        ),
    ]


def with_random_biases(make: Callable[..., layers.MLP], *, rngs: nnx.Rngs) -> layers.MLP:
    """The network, with biases drawn like He's weights."""
    model = make(rngs=rngs)
    for index in range(model.depth):
        layer = getattr(model, f"hidden{index + 1}")
        deviation = np.sqrt(2 / layer.kernel[...].shape[0])
        layer.bias[...] = deviation * jax.random.normal(rngs.params(), layer.bias[...].shape)
    return model


def biases(topic: Topic, plain: Variant) -> list[dict]:
    """Question 2: biases may start at zero."""
    make = functools.partial(with_random_biases, network(topic))
    drawn = topic.train("random biases", make, jc.adam(RATE))
    gap = np.mean(plain.accuracy) - np.mean(drawn.accuracy)
    spread = np.hypot(np.std(plain.accuracy), np.std(drawn.accuracy))
    return [
        claim(
            2,
            "test accuracy in %, biases of zero against random ones",
            plain.accuracy,
            drawn.accuracy,
            bool(gap >= -spread),
            f"If biases start at zero, the test accuracy is {accuracies(plain.accuracy)} %. If "
            f"they are drawn like the weights, it is {accuracies(drawn.accuracy)} %.",
        )
    ]


def statistics(topic: Topic, model: nnx.Module) -> list[cards.LayerStatistics]:
    """Of each hidden layer, on the training images."""
    return cards.layer_statistics(model, *topic.images.train)


def elu(topic: Topic) -> list[dict]:
    """Question 3: three advantages of ELU over ReLU."""
    names = ("elu", "relu")
    fresh = [
        [
            network(topic, activation=name)(rngs=nnx.Rngs(seed))
            for seed in range(topic.options.seeds)
        ]
        for name in names
    ]
    # The mean of the outputs, in units of their deviation.
    means = [
        [np.mean([abs(s.mean) / s.std for s in statistics(topic, model)]) for model in models]
        for models in fresh
    ]
    high = [
        topic.fit_each(f"{name}, high rate", network(topic, activation=name), jc.adam(HIGH_RATE))
        for name in names
    ]
    dead = [
        [100 * np.mean([s.dead for s in statistics(topic, r.last)]) for r in v.results]
        for v in high
    ]
    slopes = [jax.grad(activation) for activation in (jax.nn.elu, jax.nn.relu)]
    jumps = [float(slope(1e-6) - slope(-1e-6)) for slope in slopes]
    tuned = [topic.train(name, network(topic, activation=name), jc.adam(RATE)) for name in names]
    epochs = [epochs_to(GOAL, variant, "train_loss") for variant in tuned]
    faster = _as_number(epochs[0]) < _as_number(epochs[1])
    return [
        claim(
            3,
            "mean of a layer's outputs over their deviation, ELU against ReLU",
            *([*map(float, each)] for each in means),
            bool(np.mean(means[0]) < np.mean(means[1])),
            f"Before training, the mean of a layer's outputs is {np.mean(means[0]):.2f} of their "
            f"standard deviation with ELU, and {np.mean(means[1]):.2f} with ReLU.",
        ),
        claim(
            3,
            f"dead units in %, Adam at rate {HIGH_RATE:g}, ELU against ReLU",
            *([*map(float, each)] for each in dead),
            bool(np.mean(dead[0]) < np.mean(dead[1])),
            f"After training with Adam at a rate of {HIGH_RATE:g}, {np.mean(dead[0]):.1f} % of the "
            f"units are dead with ELU, and {np.mean(dead[1]):.1f} % with ReLU.",
        ),
        claim(
            3,
            "jump of the slope at zero, ELU against ReLU",
            *jumps,
            abs(jumps[0]) < 1e-3 < abs(jumps[1]),
            f"At zero, the slope of ELU jumps by {jumps[0]:.2g}, and that of ReLU by "
            f"{jumps[1]:.2g}.",
        ),
        claim(
            3,
            f"epochs to a training loss of {GOAL:g}, ELU against ReLU",
            *epochs,
            faster,
            f"ELU needs {_epochs(epochs[0])} to a training loss of {GOAL:g}, ReLU "
            f"{_epochs(epochs[1])}.",
        ),
    ]


def _as_number(epochs: float | str) -> float:
    return float("inf") if isinstance(epochs, str) else epochs


def _epochs(epochs: float | str) -> str:
    return "more epochs than there were" if isinstance(epochs, str) else f"{epochs:.1f} epochs"


def outputs(topic: Topic, plain: Variant) -> list[dict]:
    """Question 4: what the activations of the output layer are for."""
    logits = [result.model(topic.images.test.x) for result in plain.results]
    low, high = (float(extreme) for extreme in (np.min(logits), np.max(logits)))
    sums = [float(jnp.max(jnp.abs(jax.nn.softmax(each).sum(axis=-1) - 1))) for each in logits]
    tanh, logistic = jnp.tanh(jnp.array(logits)), jax.nn.sigmoid(jnp.array(logits))
    inside = bool((jnp.abs(tanh) <= 1).all() & (logistic >= 0).all() & (logistic <= 1).all())
    return [
        claim(
            4,
            "greatest difference from 1 of the sum of softmax, against the greatest logit",
            sums,
            high,
            inside and max(sums) < 1e-5,
            f"The outputs of the last layer lie between {low:.1f} and {high:.1f}. Softmax makes "
            "them probabilities of exclusive classes, whose sum is 1 up to "
            f"{max(sums):.0e}; the logistic function brings each into [0, 1], tanh into [-1, 1].",
        )
    ]


def ravine(momentum: float) -> np.ndarray:
    """The loss before each step of momentum in a long valley."""
    curvatures = jnp.array(CURVATURES)
    tx, start = jc.momentum(RAVINE_RATE, momentum), jnp.ones(2)

    def loss(params: jax.Array) -> jax.Array:
        return jnp.sum(curvatures * params**2) / 2

    def step(carry: tuple, _: None) -> tuple[tuple, jax.Array]:
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params), state)
        return (jc.apply_updates(params, updates), state), loss(params)

    _, losses = jax.lax.scan(step, (start, tx.init(start)), length=STEPS + 1)
    return np.asarray(losses)


def momentum() -> tuple[list[dict], dict[float, np.ndarray]]:
    """Question 5: momentum close to 1 rolls past the minimum, again and again."""
    losses = {value: ravine(value) for value in MOMENTA}
    usual, extreme = (float(losses[value][-LAST:].max()) for value in MOMENTA)
    return [
        claim(
            5,
            f"greatest loss in the last {LAST} of {STEPS} steps in a ravine, "
            f"momentum {MOMENTA[1]} against {MOMENTA[0]}",
            extreme,
            usual,
            usual < 1e-6 < extreme,
            f"In a ravine that starts at a loss of {losses[MOMENTA[0]][0]:.1f}, the greatest loss "
            f"in the last {LAST} of {STEPS} steps is {extreme:.3g} with a momentum of "
            f"{MOMENTA[1]}, and {usual:.1g} with {MOMENTA[0]}.",
        )
    ], losses


def sparse(topic: Topic, plain: Variant) -> list[dict]:
    """Question 6: three ways to a sparse model."""
    penalised = {
        f"ℓ1 of strength {PROXIMAL:g} during training": proximal(PROXIMAL),
        f"FTRL with ℓ1 of strength {LEADER:g}": leader(LEADER),
    }
    models = {
        f"dropping the smallest {SPARSITY:.0%} of the weights after training": [
            pruned(result.model, sparsity=SPARSITY) for result in plain.results
        ]
    }
    for name, tx in penalised.items():
        variant = topic.fit_each(name, network(topic), tx)
        models[name] = [result.last for result in variant.results]
    rows = []
    for way, each in models.items():
        zeros = [share_of_zeros(model) for model in each]
        accuracy = [topic.accuracy(model) for model in each]
        said = (
            f"{way[0].upper()}{way[1:]} sets {np.mean(zeros):.1f} % of the weights to zero. The "
            f"test accuracy is {accuracies(accuracy)} %, and that of the dense network "
            f"{accuracies(plain.accuracy)} %."
        )
        measured = f"zeros in %, against test accuracy in %: {way}"
        rows.append(claim(6, measured, zeros, accuracy, bool(np.mean(zeros) > 10), said))
    return rows


def operations(model: nnx.Module, images: np.ndarray) -> float:
    """The floating-point operations of a compiled prediction."""
    graph, state = nnx.split(model)
    compiled = jax.jit(lambda state, x: nnx.merge(graph, state)(x)).lower(state, images).compile()
    return float(compiled.cost_analysis()["flops"])


def dropout(topic: Topic, plain: Variant) -> list[dict]:
    """Question 7: dropout costs epochs, and nothing in prediction."""
    dropped = topic.train("dropout", network(topic, dropout_rate=DROPOUT), jc.adam(RATE))
    best = [[r.best_epoch for r in variant.results] for variant in (dropped, plain)]
    batch = topic.images.test.x[:BATCH]
    counts = [operations(variant.results[0].model, batch) for variant in (dropped, plain)]
    return [
        claim(
            7,
            f"epochs to the best validation loss, dropout of {DROPOUT:g} against none",
            *best,
            bool(np.mean(best[0]) > np.mean(best[1])),
            f"With dropout of {DROPOUT:g}, the validation loss is lowest after "
            f"{np.mean(best[0]):.1f} epochs, without it after {np.mean(best[1]):.1f}.",
        ),
        claim(
            7,
            f"operations of the prediction of {BATCH} images, trained with dropout against without",
            *counts,
            counts[0] == counts[1],
            f"The compiled prediction of {BATCH} images has {counts[0]:,.0f} floating-point "
            f"operations after training with dropout, and {counts[1]:,.0f} without.",
        ),
    ]


@pictures.style()
def draw(losses: dict[float, np.ndarray]) -> plt.Figure:
    """Draws the loss in the ravine."""
    figure, (ax,) = panels(1, width=6)
    for value, each in losses.items():
        ax.semilogy(np.maximum(each, 1e-30), label=f"momentum {value}")
    ax.set(xlabel="step", ylabel="loss", title="Question 5: two momenta in a ravine")
    ax.grid(alpha=0.15)
    ax.legend()
    return figure


def main() -> None:
    """Measures the claims of all answers."""
    topic = Topic.of(__doc__, epochs=40)
    plain = topic.train("plain", network(topic), jc.adam(RATE))
    momentum_rows, losses = momentum()
    rows = [
        *equal_weights(topic, plain),
        *biases(topic, plain),
        *elu(topic),
        *outputs(topic, plain),
        *momentum_rows,
        *sparse(topic, plain),
        *dropout(topic, plain),
    ]
    topic.finish(rows, {"ravine": draw(losses)}, upheld(rows), learning_rate=RATE)


if __name__ == "__main__":
    main()
