"""Makes the README's tables of results, and a picture; `lists.py` makes the table of techniques."""

import itertools
import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).parent.parent
RESULTS = {
    number: ROOT / "docs" / "results" / f"exercise_{number:02}" / "results.json"
    for number in (8, 9, 10)
}
SPEED = ROOT / "docs" / "results" / "speed.json"
PICTURE = ROOT / "docs" / "results" / "exercise_09" / "rows.png"
TREES = ("MLP", "64 of 256×256", "25 million")  # of which the bench updates the weights


def table(results: dict) -> str:
    """The chapter's table in Markdown: ours, and the notebook's."""
    what = {8: "trained on digits 0–4", 9: "trained on digits 0–4, then …", 10: "trained on"}
    lines = [
        f"| | {what[results['settings']['exercise']]} | test accuracy, % | seconds | the book's "
        "notebook, % |",
        "|---|---|--:|--:|--:|",
    ]
    for row in results["rows"]:
        accuracy, seconds = (
            f"{np.mean(row[key]):.2f} ± {np.std(row[key], ddof=1):.2f}"
            for key in ("accuracy", "seconds")
        )
        notebook = "–" if row["notebook"] is None else f"{row['notebook']:.2f}"
        lines.append(f"| {row['row']} | {row['what']} | {accuracy} | {seconds} | {notebook} |")
    return "\n".join(lines) + "\n"


def draw(results: dict, path: Path) -> None:
    """A dot for each seed, a cross for the notebook."""
    rows = results["rows"]
    figure, axis = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
    for height, row in enumerate(reversed(rows)):
        label = {"label": "ours, a dot a seed"} if height == 0 else {}
        places = np.full(len(row["accuracy"]), height)
        axis.scatter(row["accuracy"], places, s=30, color="#0072b2", alpha=0.6, lw=0, **label)
        label = {"label": "the book's notebook"} if height == 0 else {}
        if row["notebook"] is not None:
            axis.scatter(row["notebook"], height, s=45, color="#d55e00", marker="x", **label)
    names = [f"{row['row']}: {row['what']}" for row in reversed(rows)]
    axis.set_yticks(range(len(rows)), names)
    axis.set_xlabel("test accuracy, %")
    axis.set_xlim(60, 100.5)
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=2, fontsize=9, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def speed(results: dict) -> str:
    """What users ask first, out of all that `make bench` prints."""
    ratio = {(row["ours"], row["against"]): row["times faster"] for row in results["rows"]}
    lines = [f"| on {results['machine']} | times as fast |", "|---|--:|"]
    for what, key in (
        (
            "epoch of exercise 8.2, against Flax NNX with `nnx.jit` a step",
            ("epoch of 8.2", "Flax NNX, nnx.jit a step"),
        ),
        (
            "the same, against `nnx.cached_partial`",
            ("epoch of 8.2", "the same with nnx.cached_partial"),
        ),
        (
            "the same, against PyTorch with a `DataLoader`",
            ("epoch of 8.2", "PyTorch, its default threads, DataLoader"),
        ),
        (
            "the same, against PyTorch with batches sliced from one tensor",
            ("epoch of 8.2", "PyTorch, its default threads, tensors sliced"),
        ),
        (
            "the same, each on one thread",
            ("epoch of 8.2", "PyTorch, one thread each, tensors sliced"),
        ),
        (
            "search of 16 rates × 3 folds, compilation included, against fits one by one",
            (
                "search of 16 rates × 3 folds, compiled anew",
                "one fit after another",
            ),
        ),
        (
            "epoch on cached features, against frozen layers",
            ("epoch of 9.3, cached", "9.2, five layers frozen"),
        ),
        (
            "the same, against PyTorch with frozen layers",
            ("epoch of 9.3, cached", "PyTorch, its default threads, layers frozen"),
        ),
        (
            "the same, each on one thread",
            ("epoch of 9.3, cached", "PyTorch, one thread each, layers frozen"),
        ),
        (
            "Adam on 1,000 small arrays, packed, against Optax",
            ("step of adam, 1,000 of 64, packed", "Optax"),
        ),
        ("its compilation", ("compilation of adam, 1,000 of 64, packed", "Optax")),
    ):
        lines.append(f"| {what} | {ratio[key]:.1f} |")
    for stage, tree in itertools.product(("step", "compilation"), TREES):
        values = [
            value
            for (ours, against), value in ratio.items()
            if re.fullmatch(rf"{stage} of \w+, {tree}", ours) and against == "Optax"
        ]
        what = "step of an optimizer" if stage == "step" else "its compilation"
        span = f"{min(values):.2f} to {max(values):.2f}"
        lines.append(f"| {what}, against Optax: {tree} | {span} |")
    return "\n".join(lines) + "\n"


def updated(readme: str, results: dict[int, dict], speeds: dict) -> str:
    """The README with its generated parts as they should be."""
    parts = {f"exercise {number}": table(found) for number, found in results.items()}
    parts["speed"] = speed(speeds)
    for mark, text in parts.items():
        part = re.compile(rf"(?<=<!-- {mark} -->\n).*?(?=<!-- end -->)", re.DOTALL)
        readme, found = part.subn(lambda _, text=text: text, readme, count=1)
        assert found, mark
    return readme


if __name__ == "__main__":
    found = {number: json.loads(path.read_text()) for number, path in RESULTS.items()}
    readme = ROOT / "README.md"
    readme.write_text(updated(readme.read_text(), found, json.loads(SPEED.read_text())))
    draw(found[9], PICTURE)
