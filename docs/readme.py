"""Makes the tables and a picture of the exercises; `lists.py` makes the table of techniques."""

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
PAGES = (ROOT / "README.md", ROOT / "docs" / "exercises.md")
PICTURE = ROOT / "docs" / "results" / "exercise_09" / "rows.png"
QUESTIONS = PICTURE.with_name("questions.png")
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
    return "\n".join(lines) + "\n\n" + seconds_are(results["settings"]) + "\n"


def seconds_are(settings: dict) -> str:
    """What the seconds of a table are, as a sentence."""
    threads, load, cores = settings["threads"], settings["load"], settings["cores"]
    on = "one thread" if threads == 1 else f"{threads} threads"
    device = settings["device"].replace("cpu", "CPU")
    sentence = f"Seconds are training time on {on} of a {device}, without compilation."
    if load and load > cores:
        sentence += (
            f" Meanwhile {load:.0f} processes shared the {cores} cores of the machine, so that all "
            "took longer than alone."
        )
    return f"{sentence} {settings.get('note', '')}".rstrip()


def settings_table(results: dict) -> str:
    """With what each row was trained, in Markdown."""
    lines = ["| | network | training |", "|---|---|---|"]
    for row in results["rows"]:
        used = row["settings"]
        parts = [
            f"{used['examples']:,} examples in batches of {used['batch_size']}",
            used["optimizer"].replace("=", " = "),
            f"{used['epochs']:,} epochs"
            if used["patience"] is None
            else f"at most {used['epochs']:,} epochs, patience {used['patience']}",
            *(f"{name}: {text.replace('=', ' = ')}" for name, text in used["extras"].items()),
        ]
        lines.append(f"| {row['row']} | {used['network']} | {'; '.join(parts)} |")
    return "\n".join(lines) + "\n"


def answers(results: dict) -> str:
    """The questions and their answers, in Markdown."""
    lines = [f"- **{question}** {answer}" for question, answer in results["answers"].items()]
    return "\n".join(lines) + "\n"


def draw(results: dict, path: Path) -> None:
    """A dot for each seed, a cross for the notebook."""
    rows = results["rows"]
    figure, axis = plt.subplots(figsize=(7.2, 0.6 + 0.3 * len(rows)), layout="constrained")
    label = {"label": "the book's notebook"}
    for height, row in enumerate(reversed(rows)):
        places = np.full(len(row["accuracy"]), height)
        ours = {"label": "ours, a dot a seed"} if height == 0 else {}
        axis.scatter(row["accuracy"], places, s=30, color="#0072b2", alpha=0.6, lw=0, **ours)
        if row["notebook"] is not None:
            axis.scatter(row["notebook"], height, s=45, color="#d55e00", marker="x", **label)
            label = {}
    names = [f"{row['row']}: {row['what']}" for row in reversed(rows)]
    axis.set_yticks(range(len(rows)), names)
    axis.set_xlabel("test accuracy, %")
    axis.set_xlim(60, 100.5)
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=2, fontsize=9, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_questions(results: dict, path: Path) -> None:
    """The questions of exercise 9: time with and without cached layers, accuracy step by step."""
    rows = {row["row"].removesuffix(" letter"): row for row in results["rows"]}
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(8.4, 3), width_ratios=(1, 2), layout="constrained"
    )
    for place, name in enumerate(("9.2", "9.3")):
        each = 1000 * np.divide(rows[name]["seconds"], rows[name]["epochs"])
        left.bar(place, np.median(each), color="#56b4e9", width=0.6)
        left.plot(np.full(len(each), place), each, "o", ms=4, color="#0072b2", alpha=0.7)
    left.set_xticks((0, 1), ("9.2: frozen", "9.3: cached"))
    left.set_ylabel("milliseconds an epoch")
    steps = {"9.2": "five\nfrozen", "9.4": "four\nfrozen", "9.5 top two": "two\nunfrozen"}
    steps |= {"9.5 all": "all\nunfrozen", "scratch": "from\nscratch"}
    right.plot([rows[name]["accuracy"] for name in steps], "o-", ms=4, lw=1, color="#0072b2")
    right.set_xticks(range(len(steps)), [*steps.values()], fontsize=9)
    right.set_ylabel("test accuracy, %")
    for axis in (left, right):
        axis.grid(axis="y", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Exercise 9 to the letter; dots and lines are seeds", fontsize=10)
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


def updated(page: str, results: dict[int, dict], speeds: dict) -> str:
    """The README or the page of the exercises with its generated parts as they should be."""
    parts = {"speed": speed(speeds)}
    for number, found in results.items():
        parts[f"exercise {number}"] = table(found)
        parts[f"settings {number}"] = settings_table(found)
        parts[f"answers {number}"] = answers(found)

    def part(match: re.Match) -> str:
        name = match["name"]
        return f"<!-- {name} -->\n{parts[name]}<!-- end -->" if name in parts else match[0]

    mark = r"<!-- (?P<name>[a-z]+( \d+)?) -->\n.*?<!-- end -->"
    return re.sub(mark, part, page, flags=re.DOTALL)


if __name__ == "__main__":
    found = {number: json.loads(path.read_text()) for number, path in RESULTS.items()}
    for page in PAGES:
        page.write_text(updated(page.read_text(), found, json.loads(SPEED.read_text())))
    draw(found[9], PICTURE)
    draw_questions(found[9], QUESTIONS)
