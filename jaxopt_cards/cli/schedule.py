"""`jaxopt-cards schedule`: the values of schedules, as a table and as a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxopt_cards.cli.pictures import Dark, Output, check_output, drawn
from jaxopt_cards.cli.terminal import print_json, printing, tell
from jaxopt_cards.core.text_tables import grid

if TYPE_CHECKING:
    import numpy as np


def schedule(
    schedules: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME[:ARGUMENTS]",
            help="Such as exponential_decay:0.1,300,0.1; without arguments, an example is shown.",
        ),
    ],
    steps: Annotated[int, typer.Option(min=2, max=10_000_000, help="Steps to show.")] = 1000,
    output: Output = None,
    dark: Dark = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all values.")] = False,
) -> None:
    """Shows the values of schedules, as a table, a picture or JSON."""
    import numpy as np

    from jaxopt_cards.cards.schedule_names import built
    from jaxopt_cards.core.schedule_values import values_of

    if output:
        check_output(output)
    curves = built(schedules)
    if output:
        _draw(curves, steps, output, dark)
    if as_json:
        all_steps = np.arange(steps)
        every = {name: values_of(curve, all_steps).tolist() for name, curve in curves.items()}
        print_json({"steps": steps, "values": every})
        return
    some = np.unique([*range(0, steps, max(1, steps // 10)), steps - 1])
    _print_table({name: values_of(curve, some) for name, curve in curves.items()}, some)
    if output:
        tell(f"Wrote {output}")


def _print_table(columns: "dict[str, np.ndarray]", steps: "np.ndarray") -> None:
    """A row for each step; the names are printed above, since they are longer than the values."""
    numbers = [f"({number})" for number in range(1, len(columns) + 1)]
    headings = ({"header": header, "justify": "right"} for header in ["step", *numbers])
    rows = (
        [str(step), *(f"{column[row]:.4g}" for column in columns.values())]
        for row, step in enumerate(steps)
    )
    with printing() as console:
        for number, name in zip(numbers, columns, strict=True):
            console.print(f"{number} {name}", markup=False)
        console.print()
        console.print(grid(rows, *headings))


def _draw(curves: dict[str, Any], steps: int, output: Path, dark: bool) -> None:
    """Draws all schedules into one picture."""
    from jaxopt_cards import pictures
    from jaxopt_cards.pictures.theme import plain

    with drawn(output, dark, (7, 3.5)) as figure:
        ax = pictures.schedules(figure.subplots(), curves, steps, label="value")
        if len(curves) == 1:
            ax.set_title(plain(next(iter(curves))))
