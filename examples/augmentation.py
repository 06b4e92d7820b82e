"""Data augmentation: a sheet of digits with each change that keeps the label.

python examples/augmentation.py --data mnist --output DIR
"""

import argparse
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from chapter import tasks

from jaxopt_cards import data, reports

VERSIONS = 10
# Strengths in pixels are for MNIST's 28 pixels, and are scaled for smaller images.
SETTINGS = {
    "shift": {"shift": 4.0},
    "rotation": {"rotation": 25},
    "scale": {"scale": 0.3},
    "shear": {"shear": 0.4},
    "elastic": {"elastic": 1.4},
    "all five, milder": {"shift": 2.0, "rotation": 10, "scale": 0.1, "shear": 0.1, "elastic": 1.0},
    "flip": {"flip": True},
    "vertical flip": {"flip": "vertical"},
    "crop": {"crop": 4},
    "brightness": {"brightness": 0.4},
    "contrast": {"contrast": 0.6},
}
IN_PIXELS = ("shift", "elastic", "crop")


def for_size(settings: dict, side: int) -> dict:
    """The settings for images of this size, scaled from those for MNIST."""
    scaled = {
        name: type(value)(value * side / 28) if name in IN_PIXELS else value
        for name, value in settings.items()
    }
    if "elastic" in scaled:
        scaled["elastic"] = (scaled["elastic"], 4.0 * side / 28)
    return scaled


def draw(images: np.ndarray, path: Path) -> None:
    """Draws a row for each operation: the original, then versions of it."""
    side = images.shape[1]
    figure, axes = plt.subplots(
        len(SETTINGS), VERSIONS + 1, figsize=(11, 9.4), layout="constrained"
    )
    for row, (name, settings) in enumerate(SETTINGS.items()):
        asked = for_size(settings, side)
        original = images[row % len(images)]
        batch = np.broadcast_to(original, (VERSIONS, side, side))
        versions = data.augment((side, side), **asked)(jax.random.key(row), batch)
        for axis, image in zip(axes[row], [original, *np.asarray(versions)], strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
        values = "\n".join(
            f"{key} = {value:.3g}" if isinstance(value, float) else f"{key} = {value}"
            for key, value in asked.items()
        )
        axes[row, 0].set_ylabel(
            name if name == "all five, milder" else values,
            rotation=0,
            ha="right",
            va="center",
            fontsize=9,
        )
    axes[0, 0].set_title("original", fontsize=9)
    axes[0, 1].set_title("augmented", fontsize=9, loc="left")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Draws the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=["mnist", "digits"], help="default: MNIST if on disk")
    folder = Path("output", "augmentation")
    parser.add_argument(
        "--output", type=Path, default=folder, metavar="DIR", help=f"default {folder}"
    )
    parser.add_argument("--report", action="store_true", help="write report.html as well")
    options = parser.parse_args()
    name, task, _ = tasks(options.data)
    side = round(task.valid.x.shape[1] ** 0.5)
    firsts = data.per_class(task.valid, 2).x.reshape(-1, side, side)
    options.output.mkdir(parents=True, exist_ok=True)
    draw(firsts, options.output / "augmentation.png")
    print(f"Wrote augmentation.png, from {name}, into {options.output}/")
    if options.report:
        path = reports.report(
            None,
            options.output / "report.html",
            title=__doc__.splitlines()[0].rstrip("."),
            settings={"data": name} | {what: for_size(s, side) for what, s in SETTINGS.items()},
            figures={"A digit, and versions of it": options.output / "augmentation.png"},
        )
        print(f"Wrote {path}")


if __name__ == "__main__":
    main()
