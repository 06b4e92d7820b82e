"""Pictures of short training runs of a small network on the small digits."""

import functools
from typing import Any

import numpy as np
from flax import nnx
from matplotlib.axes import Axes

import jaxopt_cards as jc
from jaxopt_cards import data, layers, pictures, training
from jaxopt_cards.cards.gallery.drawing import draws
from jaxopt_cards.pictures.theme import colour, ink, line


@functools.cache
def _few() -> data.Splits:
    """A few of the digits, for fast training."""
    return data.Splits(*(data.Examples(*(part[:200] for part in split)) for split in data.digits()))


def _model(seed: int = 0) -> layers.MLP:
    return layers.MLP(64, 10, (20,), rngs=nnx.Rngs(seed))


@functools.cache
def _fitted() -> training.FitResult:
    train, valid, _ = _few()
    return training.fit(
        _model(), jc.adam(1e-2), train=train, valid=valid, epochs=40, progress=False
    )


@draws("fit")
def _fit(ax: Axes, name: str) -> str:
    pictures.learning_curves(ax, {"training": [_fitted().history]}, "train_loss")
    epochs = np.arange(1, 41)
    ax.plot(epochs, _fitted().history.valid_loss, label="validation", **line(ax, 1))
    best = _fitted().best_epoch
    ax.plot(best, _fitted().history.valid_loss[best - 1], "o", color=colour(ax, 1), label="kept")
    ax.set_ylabel("loss")
    ax.legend(loc="best")
    return "40 epochs on 200 small digits"


@draws("evaluate")
def _evaluate(ax: Axes, name: str) -> str:
    test = _few().test
    model = _fitted().model
    guesses = training.predict(model, test.x).argmax(axis=1)
    pictures.confusion_matrix(ax, test.y, guesses)
    measured = training.evaluate(model, *test)
    return f"accuracy {100 * measured['accuracy']:.1f}%, loss {measured['loss']:.2f}"


@draws("monte_carlo_predict")
def _monte_carlo(ax: Axes, name: str) -> str:
    """Probabilities of the classes of one image, with their spread over the passes."""
    train, valid, test = _few()
    model = layers.MLP(64, 10, (20,), dropout_rate=0.3, rngs=nnx.Rngs(0))
    trained = training.fit(
        model, jc.adam(1e-2), train=train, valid=valid, epochs=20, progress=False
    ).model
    mean, spread = training.monte_carlo_predict(trained, test.x)
    unsure = int(np.argmax(spread.max(axis=1)))
    ax.bar(range(10), mean[unsure], yerr=spread[unsure], color=colour(ax, 0), ecolor=ink(ax))
    ax.set(xlabel="class", ylabel="mean and spread", xticks=range(10), ylim=(0, None))
    return "probabilities of one image, 100 passes"


@draws("predict")
def _predict(ax: Axes, name: str) -> str:
    test = _few().test
    guesses = training.predict(_fitted().model, test.x).argmax(axis=1)
    pictures.misclassified(ax, test.x, test.y, guesses, most=10)
    return "the class of the highest output"


@draws("fit_many")
def _many(ax: Axes, name: str) -> str:
    train, valid, _ = _few()
    models = [_model(seed) for seed in range(5)]
    results = training.fit_many(
        models, jc.adam(1e-2), train=train, valid=valid, epochs=12, progress=False
    )
    pictures.learning_curves(ax, {"adam": [result.history for result in results]})
    return "five seeds at once: mean and range"


@draws("cross_validate")
def _folds(ax: Axes, name: str) -> str:
    results = training.cross_validate(
        lambda rngs: layers.MLP(64, 10, (20,), rngs=rngs),
        jc.adam(1e-2),
        train=_few().train,
        cv=4,
        epochs=12,
        progress=False,
    )
    runs = {f"fold {index}": [result.history] for index, result in enumerate(results, start=1)}
    pictures.learning_curves(ax, runs)
    return "a model for each of four folds"


@draws("learning_rate_range")
def _range(ax: Axes, name: str) -> str:
    train, valid, _ = _few()
    found = training.learning_rate_range(
        _model(), jc.adam, train=train, valid=valid, points=12, epochs=3, progress=False
    )
    ax.loglog(found.rates, found.valid_loss, marker="o", markersize=4, **line(ax, 0))
    ax.axvline(found.best, linestyle=":", color=colour(ax, 1), label=f"best: {found.best:.2g}")
    ax.set(xlabel="learning rate", ylabel="validation loss")
    ax.legend(loc="best")
    return "a short run for each of twelve rates"


@draws("random_search")
def _search(ax: Axes, name: str) -> str:
    result = training.random_search(
        lambda rngs: layers.MLP(64, 10, (20,), rngs=rngs),
        jc.momentum,
        {"learning_rate": np.geomspace(1e-4, 1.0, 50).tolist(), "momentum": [0.0, 0.5, 0.9]},
        train=_few().train,
        candidates=16,
        cv=2,
        epochs=5,
        progress=False,
    )
    for index, momentum in enumerate((0.0, 0.5, 0.9)):
        rows = [row for row in result.table if row["momentum"] == momentum]
        points = np.array([[row["learning_rate"], row["valid_loss"]] for row in rows])
        look: dict[str, Any] = {"color": colour(ax, index), "label": f"momentum {momentum}"}
        ax.plot(*points.reshape(-1, 2).T, "os^"[index], **look)
    ax.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="validation loss")
    ax.legend(loc="best")
    return "sixteen candidates, one program"


@draws("fit_online")
def _online(ax: Axes, name: str) -> str:
    x, y = data.digits().train
    # The stream drifts halfway: the images are turned upside down.
    x = np.concatenate([x[:500], x[500:1000, ::-1]])
    batches = [(x[start : start + 10], y[start : start + 10]) for start in range(0, 1000, 10)]
    losses = training.fit_online(_model(), jc.adam(1e-2), iter(batches)).losses
    ax.plot(losses, **line(ax, 0))
    ax.axvline(50, linestyle=":", color=colour(ax, 1), label="images are turned")
    ax.set(xlabel="batch", ylabel="loss before the step")
    ax.legend(loc="best")
    return "a stream that drifts"


@draws("DNNClassifier")
def _classifier(ax: Axes, name: str) -> str:
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, np.pi, 200)
    y = np.arange(200) % 2
    x = np.stack([np.cos(angles) * (1 - 2 * y) + y, np.sin(angles) * (1 - 2 * y) + 0.5 * y], axis=1)
    x = (x + rng.normal(scale=0.15, size=x.shape)).astype("float32")
    classifier = training.DNNClassifier((20, 20), epochs=30, learning_rate=0.02, random_state=0)
    classifier.fit(x, y)
    low, high = x.min(axis=0) - 0.2, x.max(axis=0) + 0.2
    grid = np.meshgrid(np.linspace(low[0], high[0], 80), np.linspace(low[1], high[1], 80))
    points = np.stack([part.ravel() for part in grid], axis=1).astype("float32")
    shown = classifier.predict_proba(points)[:, 1].reshape(80, 80)
    look: dict[str, Any] = {"alpha": 0.4, "colors": [colour(ax, 0), colour(ax, 1)]}
    ax.contourf(*grid, shown, [0, 0.5, 1], **look)
    for label in (0, 1):
        ax.plot(*x[y == label].T, "os"[label], color=colour(ax, label), markersize=3)
    ax.set(xticks=[], yticks=[])
    return "two classes, and the decision boundary"
