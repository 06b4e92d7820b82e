"""Shared parts of the examples: command line, images, runs over seeds, table and pictures."""

import argparse
import functools
import json
import sys
import timeit
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from chapter import mean_and_deviation, surroundings
from flax import nnx
from rich.console import Console
from rich.table import Table
from topic_pictures import save

import jaxopt_cards as jc
from jaxopt_cards import data, layers, reports, training

# Images of MNIST: few, so that a comparison takes a minute, and regularisation has an effect.
TRAIN, VALID, TEST = 5000, 1000, 2000
BATCH = 32
Maker = Callable[..., nnx.Module] | Sequence[nnx.Module]


@dataclass(frozen=True)
class Variant:
    """One row of a comparison: the same run with several seeds."""

    name: str
    results: Sequence[training.FitResult]
    accuracy: Sequence[float]  # of the test set, in percent
    rate: float = float("nan")  # the learning rate, where it was searched

    @property
    def histories(self) -> list[training.History]:
        """One for each seed."""
        return [result.history for result in self.results]

    @property
    def loss(self) -> float:
        """The mean of the best validation losses, by which choices are made."""
        losses = [history.valid_loss for history in self.histories]
        return float(
            np.mean([np.min(loss, where=~np.isnan(loss), initial=np.inf) for loss in losses])
        )

    @property
    def valid_accuracy(self) -> list[float]:
        """The validation accuracy of each run's best epoch, in percent."""
        epochs = [max(result.best_epoch, 1) - 1 for result in self.results]
        return [
            100 * float(history.valid_accuracy[epoch])
            for history, epoch in zip(self.histories, epochs, strict=True)
        ]

    @property
    def failed(self) -> int:
        """The number of runs that ended with a loss that is not finite."""
        return sum(result.stopped == "not finite" for result in self.results)


@dataclass(frozen=True)
class Topic:
    """The options of an example, and its images."""

    name: str
    title: str
    options: argparse.Namespace
    images: data.Splits

    @classmethod
    def of(cls, description: str, epochs: int, seeds: int = 3, train: int = TRAIN) -> "Topic":
        """Reads the command line: the first line of the description is the title."""
        title = description.strip().splitlines()[0]
        name = Path(sys.argv[0]).stem
        folder = Path("output", name)
        parser = argparse.ArgumentParser(description=title)
        parser.add_argument(
            "--data",
            choices=["digits", "mnist"],
            default="digits",
            help=f"scikit-learn's small digits, or a slice of MNIST ({train} images to train on)",
        )
        parser.add_argument("--seeds", type=int, default=seeds, help=f"runs, default {seeds}")
        parser.add_argument("--epochs", type=int, default=epochs, help=f"default {epochs}")
        parser.add_argument("--output", type=Path, default=folder, help=f"default {folder}")
        parser.add_argument("--report", action="store_true", help="write report.html as well")
        options = parser.parse_args()
        for option in ("seeds", "epochs"):
            if getattr(options, option) < 1:
                got = getattr(options, option)
                parser.error(f"--{option} must be at least 1, got {got}")
        options.output.mkdir(parents=True, exist_ok=True)
        return cls(name, title, options, _images(options.data, train))

    def mlp(self, **settings) -> functools.partial:
        """Makes the network of Géron's chapter 11 for these images, from `rngs`."""
        classes = int(self.images.train.y.max()) + 1
        return functools.partial(layers.MLP, self.images.train.x.shape[1], classes, **settings)

    def train(
        self, name: str, make: functools.partial, tx: optax.GradientTransformation, **settings
    ) -> Variant:
        """Trains a model for each seed, all in one compiled program."""
        return self.population([(name, make, {})], tx, **settings)[0]

    def sweep(
        self,
        name: str,
        make: functools.partial,
        make_tx: Callable[..., optax.GradientTransformation],
        rates: Iterable[float],
        **settings,
    ) -> list[Variant]:
        """Like `train` at each learning rate, all in one compiled program."""
        return self.population(
            [(name, make, {"learning_rate": rate}) for rate in rates], make_tx, **settings
        )

    def tune(self, *arguments, **settings) -> Variant:
        """The variant of `sweep` with the least validation loss."""
        return best(self.sweep(*arguments, **settings))

    def fit_each(
        self,
        name: str,
        make: functools.partial,
        tx: optax.GradientTransformation,
        **settings,
    ) -> Variant:
        """Like `train`, one run after another; results have the last model and optimizer state."""
        print(name, flush=True)
        settings = self._settings() | settings
        return self.measured(
            name,
            [
                training.fit(model, tx, seed=seed, **settings)
                for seed, model in enumerate(self._models(make))
            ],
        )

    def watch(
        self,
        name: str,
        make: functools.partial,
        tx: optax.GradientTransformation,
        every: int = 1,
        **settings,
    ) -> tuple[Variant, list[dict[str, jc.Probes]]]:
        """Like `fit_each`, with the records of `jc.probe` in each run."""
        steps = self.options.epochs * -(-len(self.images.train.y) // BATCH)
        watched = jc.probe(tx, last=-(-steps // every), every=every)
        variant = self.fit_each(name, make, watched, **settings)
        return variant, [jc.read_probes(result.opt_state) for result in variant.results]

    def epoch_ms(
        self,
        makes: Mapping[str, Callable[..., nnx.Module]],
        tx: optax.GradientTransformation,
        rounds: int = 3,
        epochs: int = 5,
    ) -> dict[str, float]:
        """The median milliseconds of an epoch of each model, all measured in turns."""
        settings = self._settings() | {"epochs": min(epochs, self.options.epochs)}
        seconds: dict[str, list[float]] = {name: [] for name in makes}
        for _ in range(rounds):
            for name, make in makes.items():
                result = training.fit(make(rngs=nnx.Rngs(0)), tx, seed=0, **settings)
                seconds[name].extend(result.history.seconds)
        return {name: 1000 * float(np.median(each)) for name, each in seconds.items()}

    def _settings(self) -> dict:
        """Of each run, if not said otherwise."""
        return {
            "train": self.images.train,
            "valid": self.images.valid,
            "epochs": self.options.epochs,
            "batch_size": BATCH,
            "progress": False,
        }

    def population(
        self,
        members: Sequence[tuple[str, Maker, Mapping[str, float]]],
        tx: optax.GradientTransformation | Callable[..., optax.GradientTransformation],
        **settings,
    ) -> list[Variant]:
        """A variant for each name, with a maker of models from `rngs` and hyperparameters of `tx`.

        Instead of a maker, there may be trained models, one for each seed.
        """
        names, makes, hyperparameters = zip(*members, strict=True)
        print(", ".join(dict.fromkeys(names)), flush=True)
        n = self.options.seeds
        results = training.fit_many(
            [model for make in makes for model in self._models(make)],
            tx,
            [numbers for numbers in hyperparameters for _ in range(n)],
            seeds=[*range(n)] * len(members),
            **(self._settings() | settings),
        )
        rates = [numbers.get("learning_rate", float("nan")) for numbers in hyperparameters]
        return [
            self.measured(name, results[index * n : (index + 1) * n], rates[index])
            for index, name in enumerate(names)
        ]

    def _models(self, make: Maker) -> Sequence[nnx.Module]:
        """One for each seed."""
        if isinstance(make, Sequence):
            return make
        return [make(rngs=nnx.Rngs(seed)) for seed in range(self.options.seeds)]

    def measured(
        self, name: str, results: Sequence[training.FitResult], rate: float = float("nan")
    ) -> Variant:
        """A result for each seed, with its accuracy."""
        return Variant(name, results, [self.accuracy(result.model) for result in results], rate)

    def accuracy(self, model: nnx.Module) -> float:
        """Of the test set, in percent."""
        return 100 * training.evaluate(model, *self.images.test)["accuracy"]

    def finish(
        self,
        rows: Sequence[Mapping[str, str | float | Sequence[float]]],
        figures: Mapping[str, plt.Figure],
        conclusion: str,
        **settings,
    ) -> None:
        """Prints the table, and writes it, results.json and the pictures into the folder."""
        folder = self.options.output
        options = {"data": self.options.data, "seeds": self.options.seeds}
        settings = options | {"epochs": self.options.epochs} | settings | surroundings()
        results = {"title": self.title, "settings": settings, "rows": list(rows)}
        results["conclusion"] = conclusion
        (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        _print_table(f"{self.title} ({self.options.data})", rows)
        print(conclusion)
        for name, figure in figures.items():
            save(figure, folder / f"{name}.png")
        if self.options.report:
            there_anyway = surroundings()
            reports.report(
                None,
                folder / "report.html",
                title=self.title.rstrip("."),
                settings={k: v for k, v in settings.items() if k not in there_anyway},
                figures={name.replace("_", " "): figure for name, figure in figures.items()},
                tables={f"On {self.options.data}, {self.options.seeds} seeds": rows},
                text=conclusion,
            )
            print(f"Wrote {folder / 'report.html'}")
        for figure in figures.values():
            plt.close(figure)
        print(f"Wrote results.json and {', '.join(f'{name}.png' for name in figures)} to {folder}/")


def milliseconds(model: nnx.Module, x: np.ndarray, repeats: int = 50) -> float:
    """The least time of a compiled prediction for all of these inputs."""
    graph, state = nnx.split(model)
    predict = jax.jit(lambda state, x: nnx.merge(graph, state)(x))
    x = jax.device_put(x)

    def call() -> None:
        predict(state, x).block_until_ready()

    call()
    return 1000 * min(timeit.repeat(call, number=1, repeat=repeats))


def weights(model: nnx.Module) -> np.ndarray:
    """All weights of a model, without its biases, as one vector."""
    kernels = jax.tree.leaves(nnx.state(model, nnx.PathContains("kernel")))
    return np.concatenate([np.ravel(kernel) for kernel in kernels])


def share_of_zeros(model: nnx.Module) -> float:
    """The percentage of its weights that are zero."""
    return 100 * float(np.mean(weights(model) == 0))


def best(variants: Iterable[Variant]) -> Variant:
    """The variant with the least validation loss."""
    return min(variants, key=lambda variant: variant.loss)


def verdict(variants: Sequence[Variant], baseline: Variant) -> str:
    """A sentence on the winner by validation loss, and on its gain in test accuracy."""
    winner = best(variants)
    other = baseline
    if winner is baseline:
        other = best(variant for variant in variants if variant is not baseline)
    means = [np.mean(variant.accuracy) for variant in (winner, other)]
    spread = np.hypot(*(np.std(variant.accuracy) for variant in (winner, other)))
    gain = means[0] - means[1]
    judged = f"{abs(gain):.2f} points {'above' if gain > 0 else 'below'}"
    if abs(gain) <= spread:
        judged = "within the spread of seeds of"
    return (
        f"{winner.name} has the least validation loss; its test accuracy of {means[0]:.2f} % is "
        f"{judged} the {means[1]:.2f} % of {other.name}."
    )


def at_highest(lines: Mapping[str, Sequence[Variant]], plain: str) -> str:
    """A sentence on the best test accuracy at the highest learning rate."""
    highest = {name: variants[-1] for name, variants in lines.items()}
    accuracy = {name: np.mean(variant.accuracy) for name, variant in highest.items()}
    steadiest = max(accuracy, key=accuracy.__getitem__)
    said = f"At the highest rate, {highest[plain].rate:g}, {steadiest} has the best test accuracy"
    if steadiest == plain:
        return f"{said}, {accuracy[plain]:.2f} %."
    return f"{said}, {accuracy[steadiest]:.2f} %, where {plain} has {accuracy[plain]:.2f} %."


def claim(
    of: int | str,
    measured: str,
    value: str | float | Sequence[float],
    against: str | float | Sequence[float],
    holds: bool,
    says: str,
) -> dict:
    """A row of a table of claims; `value` and `against` may have a number for each seed."""
    return {
        "of": str(of),
        "measured": measured,
        "value": value,
        "against": against,
        "holds": "yes" if holds else "no",
        "says": says if holds else f"{says} The claim does not hold here.",
    }


def upheld(claims: Sequence[Mapping]) -> str:
    """A sentence on how many claims hold, and on those that do not."""
    failing = [f"{row['of']} ({row['measured']})" for row in claims if row["holds"] == "no"]
    said = f"{len(claims) - len(failing)} of {len(claims)} claims hold here"
    return f"{said}. Not: {'; '.join(failing)}." if failing else f"{said}."


def epochs_to(loss: float, variant: Variant, quantity: str = "valid_loss") -> float | str:
    """The mean number of epochs until all runs reach a loss."""
    below = [getattr(history, quantity) <= loss for history in variant.histories]
    if not all(reached.any() for reached in below):
        return "never"
    return float(np.mean([1 + np.argmax(reached) for reached in below]))


def row_of_best(kind: str, sweep: Sequence[Variant]) -> dict:
    """The row of the table: results at the best rate, and at the highest."""
    chosen = best(sweep)
    return {
        kind: chosen.name,
        "best rate": chosen.rate,
        "validation loss": chosen.loss,
        "test accuracy, %": chosen.accuracy,
        f"at rate {sweep[-1].rate:g}, %": sweep[-1].accuracy,
    }


def row_of_rates(kind: str, sweep: Sequence[Variant]) -> dict:
    """Validation accuracy at each rate, and test accuracy at the best rate."""
    chosen = best(sweep)
    row = {kind: chosen.name}
    for at in sweep:
        accuracy = f"{np.mean(at.valid_accuracy):.1f}"
        row[f"at {at.rate:g}"] = f"{accuracy} ({at.failed} failed)" if at.failed else accuracy
    return row | {"best rate": chosen.rate, "test, %": chosen.accuracy}


def _images(name: str, train: int) -> data.Splits:
    """All of the small digits, or the first images of MNIST."""
    if name == "digits":
        return data.digits()
    counts = (train, VALID, TEST)
    return data.Splits(
        *(
            data.Examples(*(part[:n] for part in split))
            for split, n in zip(data.mnist(), counts, strict=True)
        )
    )


def _print_table(title: str, rows: Sequence[Mapping[str, str | float | Sequence[float]]]) -> None:
    """Text left-aligned, numbers right-aligned, several numbers as mean and deviation."""
    table = Table(title=title)
    for heading, value in rows[0].items():
        table.add_column(
            heading, justify="left" if isinstance(value, str) else "right", overflow="fold"
        )
    for row in rows:
        table.add_row(*(shown(value, heading) for heading, value in row.items()))
    Console(highlight=False).print(table)


def shown(value: str | float | Sequence[float], heading: str = "") -> str:
    """A cell of a table; a mean number of epochs has one decimal."""
    if isinstance(value, str | int):
        return str(value)
    if isinstance(value, Sequence):
        return mean_and_deviation(value, 2)
    return f"{value:.1f}" if "epoch" in heading else f"{value:.4g}"
