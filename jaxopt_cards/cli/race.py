"""`jaxopt-cards race`: optimizers on a test surface, as a table, a picture or an animation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxopt_cards.cli.pictures import Dark, check_output, drawn
from jaxopt_cards.cli.terminal import print_json, printing, tell
from jaxopt_cards.core.text_tables import grid

if TYPE_CHECKING:
    from jaxopt_cards.cards.racing import Run
    from jaxopt_cards.cards.surfaces import Surface

_FRAMES, _MILLISECONDS = 60, 70


def race(
    surface: Annotated[
        str,
        typer.Argument(
            help="bowl, ravine, rosenbrock, beale, himmelblau, saddle, monkey_saddle, rastrigin or "
            "noisy_ravine."
        ),
    ],
    optimizers: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME[:lr=0.1,…]",
            help="Such as adam, momentum:lr=0.01,momentum=0.5 or 'lookahead(adam(0.1))'; several "
            "in quotes, separated by spaces, are a chain.",
        ),
    ],
    steps: Annotated[int, typer.Option(min=1, max=100_000, help="Steps of each optimizer.")] = 500,
    start: Annotated[
        str | None, typer.Option(metavar="X,Y", help="Start. Default: that of the surface.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the paths: .png, .svg or .pdf, or animated .gif.")
    ] = None,
    dark: Dark = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all points.")] = False,
) -> None:
    """Races optimizers on a test surface, each at its best learning rate unless one is given.

    An optimizer is in the valley if its height above the minimum is at most a thousandth of the
    start's. The table shows the number of steps after which it stays there, or "–" if it never
    does.
    """
    from jaxopt_cards.cards import racing
    from jaxopt_cards.cards.spec_text import named
    from jaxopt_cards.cards.surfaces import SURFACES

    ground = named(surface, SURFACES)
    if output:
        check_output(output, ".gif")
    optimizers = list(dict.fromkeys(optimizers))  # equal ones take the same path
    runs = racing.race(ground, optimizers, steps, None if start is None else _point(start))
    if output:
        draw = _animate if output.suffix.lower() == ".gif" else _draw
        draw(ground, runs, output, dark)
    if as_json:
        print_json(_record(ground, runs, steps))
        return
    _print_table(ground, runs, steps)
    if output:
        tell(f"Wrote {output}")


def _point(text: str) -> list[float]:
    """Two numbers, separated by a comma."""
    try:
        x, y = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"--start must be two numbers such as -1.5,2, got {text!r}") from None
    return [x, y]


def _record(surface: "Surface", runs: "list[Run]", steps: int) -> dict[str, Any]:
    """The numbers of the table, and the paths."""
    return {
        "surface": surface.name,
        "minimum": surface.minimum,
        "steps": steps,
        "runs": [
            {
                "name": run.name,
                "learning_rate_found": run.learning_rate,
                "steps_to_valley": run.steps_to_valley,
                "final_height": float(run.heights[-1]),
                "points": run.path.tolist(),
            }
            for run in runs
        ],
    }


def _print_table(surface: "Surface", runs: "list[Run]", steps: int) -> None:
    """Prints the runs, the fastest first."""
    from jaxopt_cards.cards.racing import RATES, VALLEY

    columns = ("learning rate", "steps to the valley", "last height")
    headings = ({"header": column, "justify": "right"} for column in columns)
    rows = map(_row, sorted(runs, key=_place))
    with printing() as console:
        console.print(f"{surface.name}, {steps} steps", style="bold")
        console.print(surface.description)
        console.print()
        console.print(grid(rows, {"header": "optimizer", "overflow": "fold"}, *headings))
        console.print()
        console.print(f"The valley: at most {VALLEY:g} of the start's height above the minimum.")
        if any(run.learning_rate is not None for run in runs):
            lowest, highest = f"{RATES[0]:g}", f"{RATES[-1]:g}"
            console.print(f"Found: the best of {len(RATES)} rates from {lowest} to {highest}.")


def _row(run: "Run") -> tuple[str, str, str, str]:
    from rich.markup import escape

    rate = "as given" if run.learning_rate is None else f"{run.learning_rate:.2g}, found"
    arrival = "–" if run.steps_to_valley is None else str(run.steps_to_valley)
    return escape(run.name), rate, arrival, f"{run.heights[-1]:.3g}"


def _place(run: "Run") -> tuple[bool, float, bool, float]:
    """Sorts by steps to the valley, then by last height; runs that diverged are last."""
    last, never = float(run.heights[-1]), run.steps_to_valley is None
    lost = last != last or last == float("inf")
    return never, run.steps_to_valley or 0, lost, 0.0 if lost else last


def _draw(surface: "Surface", runs: "list[Run]", output: Path, dark: bool) -> None:
    """Draws the paths, and the height by step."""
    from jaxopt_cards import pictures

    ways = {run.name: run.path for run in runs}
    with drawn(output, dark, (10, 4.2)) as figure:
        left, right = figure.subplots(1, 2)
        pictures.paths(left, surface, ways)
        pictures.heights(right, surface, ways)
        figure.suptitle(f"{surface.name}: {surface.description}", fontsize=10)


def _animate(surface: "Surface", runs: "list[Run]", output: Path, dark: bool) -> None:
    """Draws the growing paths as an animation; the last frame is shown longer."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    from jaxopt_cards import pictures

    steps = len(runs[0].path) - 1
    count = min(_FRAMES, steps)
    with pictures.style(dark=dark):
        figure = Figure(figsize=(5, 4.2), dpi=90)
        canvas, ax, frames = FigureCanvasAgg(figure), figure.subplots(), []
        for step in (round(steps * index / count) for index in range(1, count + 1)):
            # The later points repeat the current one, so that the markers keep their places.
            until = np.minimum(np.arange(steps + 1), step)
            ax.clear()
            pictures.paths(ax, surface, {run.name: run.path[until] for run in runs})
            ax.set_title(f"{surface.name}, step {step}")
            canvas.draw()
            frames.append(Image.fromarray(np.array(canvas.buffer_rgba())).convert("RGB"))
    times = [_MILLISECONDS] * (count - 1) + [20 * _MILLISECONDS]
    frames[0].save(output, save_all=True, append_images=frames[1:], duration=times, loop=0)
