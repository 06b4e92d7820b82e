"""`jaxopt-cards doctor`: activations and gradients of networks, layer by layer."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from jaxopt_cards.cli.pictures import Dark, Output, check_output, drawn
from jaxopt_cards.cli.terminal import AsJson, BatchNorm, heading, print_json, printing, tell
from jaxopt_cards.core.text_tables import grid

if TYPE_CHECKING:
    from rich.table import Table

    from jaxopt_cards.cards import LayerStatistics

_EXAMPLES = 500
_DEFAULTS = ("elu", "he_normal", "5")
_HEADINGS = {
    "mean": "mean",
    "std": "std",
    "zeros": "zeros",
    "saturated": "saturated",
    "dead": "dead",
    "gradient_norm": "gradient",
    "weight_gradient_norm": "weights",
}
_SHARES = ("zeros", "saturated", "dead")


class _Network(NamedTuple):
    spec: str
    diagnosis: str
    layers: "list[LayerStatistics]"


def doctor(
    specs: Annotated[
        list[str],
        typer.Argument(
            metavar="ACTIVATION[/INITIALISER[/DEPTH]]...",
            help="Such as logistic/normal/10; the defaults are elu/he_normal/5.",
        ),
    ],
    data: Annotated[str, typer.Option(help="digits or mnist; the first 500 examples.")] = "digits",
    width: Annotated[int, typer.Option(min=1, help="Units of each hidden layer.")] = 100,
    batch_norm: BatchNorm = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the weights.")] = 0,
    output: Output = None,
    dark: Dark = False,
    as_json: AsJson = False,
) -> None:
    """Shows, layer by layer, why a deep network does not learn.

    For example: jaxopt-cards doctor logistic/glorot_normal/10 elu/he_normal/10

    The gradient is the root mean square of the loss gradient with respect to a layer's activations,
    per example. It vanishes or explodes if it changes by more than a factor of 10 from the last
    hidden layer to the first. Dead units are zero for every example. Activations are saturated
    where the slope of the function is below 0.01. Both are reported once they affect half of a
    layer.
    """
    if output:
        check_output(output)
    examined = [_examined(spec, data, width, batch_norm, seed) for spec in map(_filled, specs)]
    if output:
        _draw(examined, output, dark)
    if as_json:
        models = [
            network._asdict() | {"layers": [row._asdict() for row in network.layers]}
            for network in examined
        ]
        settings = {"data": data, "width": width, "batch_norm": batch_norm, "seed": seed}
        print_json({**settings, "models": models})
        return
    _print_tables(examined)
    if output:
        tell(f"Wrote {output}")


def _filled(spec: str) -> str:
    """Fills in the default of each missing part."""
    parts = spec.split("/")
    if len(parts) > len(_DEFAULTS):
        raise ValueError(f"doctor: write activation/initialiser/depth, got {spec!r}")
    parts += [""] * (len(_DEFAULTS) - len(parts))
    full = [part or default for part, default in zip(parts, _DEFAULTS, strict=True)]
    if not full[2].isdecimal() or int(full[2]) < 1:
        raise ValueError(f"doctor: depth must be a whole number >= 1, got {full[2]!r} in {spec!r}")
    return "/".join(full)


def _examined(spec: str, data: str, width: int, batch_norm: bool, seed: int) -> _Network:
    """Builds the network and measures it."""
    from flax import nnx

    from jaxopt_cards.cards import layer_statistics
    from jaxopt_cards.cards.spec_text import named
    from jaxopt_cards.cards.statistics import diagnosis
    from jaxopt_cards.cards.tables import load
    from jaxopt_cards.layers import MLP
    from jaxopt_cards.layers.activations import ACTIVATIONS
    from jaxopt_cards.layers.initializers import INITIALIZERS

    activation, initializer, depth = spec.split("/")
    named(activation, ACTIVATIONS)
    named(initializer, INITIALIZERS)
    if data not in ("digits", "mnist"):
        raise ValueError(f"doctor: --data must be digits or mnist, got {data!r}")
    x, y = (array[:_EXAMPLES] for array in load(data).splits.train)
    model = MLP(
        x.shape[1],
        10,
        (width,) * int(depth),
        activation,
        initializer,
        batch_norm=batch_norm,
        rngs=nnx.Rngs(seed),
    )
    layers = layer_statistics(model, x, y)
    return _Network(spec, diagnosis(layers), layers)


def _print_tables(networks: Sequence[_Network]) -> None:
    """For one network, a table with all columns; for several, a table for each quantity."""
    for number, network in enumerate(networks, start=1):
        mark = f"({number}) " if len(networks) > 1 else ""
        typer.echo(f"{mark}{network.spec}: {network.diagnosis}")
    with printing() as console:
        if len(networks) == 1:
            console.print()
            rows = (
                [r.layer, *(_cell(k, getattr(r, k)) for k in _HEADINGS)] for r in networks[0].layers
            )
            table = _by_layer(rows, _HEADINGS.values())
            table.padding = (0, 1, 0, 0)  # fits into a terminal of 60 columns
            console.print(table)
            return
        # Side by side: gradients, and the spread, saturation and death of activations.
        for key, title in {
            "gradient_norm": "gradient by the activations",
            "std": "standard deviation of the activations",
            "saturated": "saturated activations",
            "dead": "dead units",
        }.items():
            if any(getattr(row, key) for network in networks for row in network.layers):
                heading(console, title)
                console.print(_compared(networks, key))


def _by_layer(rows: Iterable[Sequence[str]], headings: Iterable[str]) -> "Table":
    numbers = ({"header": each, "justify": "right", "no_wrap": True} for each in headings)
    return grid(rows, {"header": "layer", "no_wrap": True}, *numbers)


def _compared(networks: Sequence[_Network], key: str) -> "Table":
    deepest = max(networks, key=lambda network: len(network.layers)).layers
    columns = [[_cell(key, getattr(row, key)) for row in network.layers] for network in networks]
    rows = itertools.zip_longest([row.layer for row in deepest], *columns, fillvalue="")
    return _by_layer(rows, [f"({number})" for number, _ in enumerate(networks, start=1)])


def _cell(key: str, value: float) -> str:
    return f"{value:.0%}" if key in _SHARES else f"{value:.3g}"


def _draw(networks: Sequence[_Network], output: Path, dark: bool) -> None:
    """Draws the gradients and the deviations of the activations."""
    from jaxopt_cards import pictures

    labels = {
        "gradient_norm": "gradient by the activations (rms)",
        "std": "standard deviation of the activations",
    }
    with drawn(output, dark, (10, 4)) as figure:
        for ax, (key, label) in zip(figure.subplots(1, 2), labels.items(), strict=True):
            profiles = {each.spec: [getattr(row, key) for row in each.layers] for each in networks}
            pictures.by_layer(ax, profiles, label)
        if legend := ax.get_legend():  # the other one is the same
            legend.remove()
