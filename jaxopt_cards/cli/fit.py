"""`jaxopt-cards fit`: trains an MLP on the user's data with any chain."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxopt_cards.cli.terminal import AsJson, BatchNorm, print_json, tell
from jaxopt_cards.core.errors import named_as
from jaxopt_cards.core.optional import optional

if TYPE_CHECKING:
    from jaxopt_cards.cards.tables import Loaded
    from jaxopt_cards.training import FitResult

_WORST = 5  # pairs of classes to report


Data = Annotated[str, typer.Argument(help="digits, mnist, or a file that ends with .npz or .csv.")]
Chain = Annotated[
    str,
    typer.Option(
        "--tx",
        "--optimizer",
        metavar="NAME:ARGUMENTS[ NAME:ARGUMENTS]...",
        help="Such as adam:1e-3, momentum:0.01,momentum=0.8, or a chain: 'clip_by_global_norm:1"
        " scale_by_adam exponential_decay:1e-3,1000,0.5'.",
    ),
]
Units = Annotated[str, typer.Option(metavar="N,N,...", help="Widths of the hidden layers.")]
Patience = Annotated[
    int, typer.Option(min=1, help="Stop after this many epochs without a lower validation loss.")
]
Label = Annotated[
    str, typer.Option(help="Column of a table with the labels, by name or number. Default: last.")
]
Header = Annotated[
    bool | None,
    typer.Option("--header/--no-header", help="Whether the first line of a table has names."),
]
Folder = Annotated[
    Path | None, typer.Option(help="Folder for model/, history.csv and report.html.")
]


def fit(
    data: Data,
    tx: Chain = "adam:1e-3",
    units: Units = "100,100,100,100,100",
    activation: Annotated[str, typer.Option(help="elu, relu, selu, tanh, logistic ...")] = "elu",
    dropout: Annotated[float, typer.Option(help="Fraction of units dropped, in [0, 1).")] = 0.0,
    batch_norm: BatchNorm = False,
    epochs: Annotated[int, typer.Option(min=1, help="Maximum number of epochs.")] = 100,
    patience: Patience = 20,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples per step.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, order and split.")] = 0,
    label: Label = "",
    header: Header = None,
    output: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Trains a network on digits, MNIST or your data, with any chain.

    For example: jaxopt-cards fit digits --tx "clip_by_global_norm:1 adam:1e-3" --dropout 0.2

    An .npz file has arrays x and y, or x_train and y_train and, optionally, x_valid, y_valid,
    x_test and y_test. Missing parts are drawn from the others, a fifth each. A .csv file has
    columns of numbers and a column of labels. The inputs of files are standardised by the mean and
    deviation of the training examples.
    """
    from jaxopt_cards import training
    from jaxopt_cards.cards import describe
    from jaxopt_cards.cards.spec_checks import check_step
    from jaxopt_cards.cards.spec_text import transformation
    from jaxopt_cards.cards.tables import load

    chain, widths = transformation(tx), _widths(units)
    _check_output(output)
    loaded = load(data, label=label, header=header, seed=seed)
    model, params = _model(loaded, widths, activation, dropout, batch_norm, seed)
    check_step(tx, chain, params, value=0.0)
    described = describe(chain, params)
    if not as_json:
        tell(_told(data, loaded))
        typer.echo(f"\n{described}\n")
    train, valid, test = loaded.splits
    run: dict[str, Any] = {
        "epochs": epochs,
        "patience": patience,
        "batch_size": batch_size,
        "seed": seed,
    }
    result = training.fit(model, chain, train=train, valid=valid, progress=not as_json, **run)
    measured = training.evaluate(result.model, *test)
    settings = {"data": data, "tx": tx, "units": units, "activation": activation, **run}
    settings |= {"dropout": dropout, "batch_norm": batch_norm}
    worst = _worst(result.model, loaded)
    if output:
        _write(output, result, loaded, settings, measured["accuracy"])
    if as_json:
        print_json(_record(result, measured, worst, settings, described.rows()))
        return
    _print_test(measured, worst)
    if output:
        tell(f"Wrote model, history.csv and report.html to {output}/")


def _widths(units: str) -> list[int]:
    parts = [part.strip() for part in units.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"--units must be widths such as 100,50, got {units!r}")
    return list(map(int, parts))


def _check_output(output: Path | None) -> None:
    """Raises before training if the folder cannot be made or a package is missing."""
    if output is None:
        return
    with named_as("--output"):
        optional("matplotlib")
        optional("safetensors")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--output: cannot create {output}: {error.strerror}") from None


def _model(
    loaded: "Loaded", widths: list[int], activation: str, dropout: float, norm: bool, seed: int
) -> tuple[Any, Any]:
    """The network, and its parameters."""
    from flax import nnx

    from jaxopt_cards.cards.spec_text import named
    from jaxopt_cards.layers import MLP
    from jaxopt_cards.layers.activations import ACTIVATIONS

    named(activation, ACTIVATIONS)
    x = loaded.splits.train.x
    model = MLP(
        x.shape[1],
        len(loaded.classes),
        widths,
        activation,
        dropout_rate=dropout,
        batch_norm=norm,
        rngs=nnx.Rngs(seed),
    )
    return model, nnx.state(model, nnx.Param)


def _told(name: str, loaded: "Loaded") -> str:
    train, valid, test = (len(part.y) for part in loaded.splits)
    inputs = f"{loaded.splits.train.x.shape[1]} inputs, {len(loaded.classes)} classes"
    scaled = ", inputs standardised" if loaded.scale else ""
    return f"{name}: {train} to train, {valid} to validate, {test} to test; {inputs}{scaled}"


def _print_test(measured: dict[str, float], worst: Sequence[dict]) -> None:
    typer.echo(f"test loss {measured['loss']:.4f}, accuracy {measured['accuracy']:.2%}")
    if worst:
        typer.echo("most frequent mistakes in the test set:")
    for pair in worst:
        tell("  {label} taken for {taken_for}: {count} of {of}".format(**pair))


def _worst(model: Any, loaded: "Loaded") -> list[dict[str, Any]]:
    """The pairs of classes that are most often confused in the test set."""
    import numpy as np

    from jaxopt_cards.data.examples import confusion_counts
    from jaxopt_cards.training import predict

    test = loaded.splits.test
    guesses = predict(model, test.x).argmax(axis=1)
    counts = confusion_counts(test.y, guesses, len(loaded.classes))
    mistakes = counts - np.diag(np.diag(counts))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:_WORST]
    pairs = [divmod(int(place), len(counts)) for place in order]
    return [
        {
            "label": loaded.classes[label],
            "taken_for": loaded.classes[guess],
            "count": int(mistakes[label, guess]),
            "of": int(counts[label].sum()),
        }
        for label, guess in pairs
        if mistakes[label, guess]
    ]


def _record(
    result: "FitResult",
    test: dict[str, float],
    worst: Sequence[dict],
    settings: dict[str, Any],
    stages: list[dict[str, Any]],
) -> dict[str, Any]:
    """The result as JSON values."""
    best = result.best_epoch - 1
    return {
        "settings": settings,
        "stages": stages,
        "epochs": len(result.history.seconds),
        "best_epoch": result.best_epoch,
        "stopped": result.stopped,
        "valid_loss": float(result.history.valid_loss[best]),
        "valid_accuracy": float(result.history.valid_accuracy[best]),
        "test_loss": test["loss"],
        "test_accuracy": test["accuracy"],
        "seconds": result.seconds,
        "worst": worst,
    }


def _write(
    folder: Path, result: "FitResult", loaded: "Loaded", settings: dict[str, Any], accuracy: float
) -> None:
    """Writes the model, a description of its inputs and classes, the history and the report."""
    from jaxopt_cards import reports, transfer
    from jaxopt_cards.core.checks import escaped

    name = escaped(Path(settings["data"]).name)
    transfer.Zoo(folder).store("model", result.model, data=name, accuracy=accuracy, replace=True)
    mean, deviation = (part.tolist() for part in loaded.scale) if loaded.scale else (None, None)
    inputs = {"classes": loaded.classes, "mean": mean, "deviation": deviation}
    (folder / "inputs.json").write_text(json.dumps(inputs, indent=1) + "\n")
    with (folder / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *result.history._fields[:-1]])
        columns = zip(*result.history[:-1], strict=True)
        writer.writerows([i, *row] for i, row in enumerate(columns, 1))
    reports.report(
        result,
        folder / "report.html",
        title=f"{settings['tx']} on {name}",
        settings=settings,
        test=loaded.splits.test,
    )
