"""Early stopping: a run that overfits, with and without it.

When a network starts to memorise the training set, the validation loss rises. The best snapshot is
the model from before; with patience, training also ends. A network overfits little to the original
digits, and much if a fifth of the training labels is random.

python examples/early_stopping.py --data digits --output output/early_stopping
"""

import dataclasses

import numpy as np
from topic_pictures import panels
from topics import Topic, Variant, best

import jaxopt_cards as jc
from jaxopt_cards import data, pictures

WRONG = 0.2  # fraction of the training labels that are replaced at random
PATIENCES = (3, 10, 20)


def mislabelled(examples: data.Examples, share: float) -> data.Examples:
    """Replaces some of the labels by random ones."""
    random = np.random.default_rng(0)
    changed = random.random(len(examples.y)) < share
    drawn = random.integers(0, examples.y.max() + 1, len(examples.y), dtype=examples.y.dtype)
    return data.Examples(examples.x, np.where(changed, drawn, examples.y))


def ways_to_end(topic: Topic, train: data.Examples) -> list[Variant]:
    """One long run, in its last and its best epoch, and runs that stop early."""
    tx, make = jc.adam(1e-3), topic.mlp()
    long = topic.fit_each("best snapshot of all epochs", make, tx, train=train)
    last = [topic.accuracy(result.last) for result in long.results]
    return [
        dataclasses.replace(long, name="last epoch", accuracy=last),
        long,
        *(
            topic.train(f"patience {patience}", make, tx, train=train, patience=patience)
            for patience in PATIENCES
        ),
    ]


def draw(axis, runs: list[Variant], labels: str) -> None:
    """Draws the losses of the first seed, and the epochs where training would end."""
    history = runs[0].histories[0]
    epochs = np.arange(1, len(history.valid_loss) + 1)
    axis.semilogy(epochs, history.train_loss, "--", label="training")
    axis.semilogy(epochs, history.valid_loss, "-", label="validation")
    for run, marker in zip([runs[0], *runs[2:]], "*osD", strict=False):
        end = len(run.histories[0].valid_loss)
        axis.plot(end, history.valid_loss[end - 1], marker, ms=7, label=f"ends: {run.name}")
    best_epoch = runs[1].results[0].best_epoch
    axis.plot(best_epoch, history.valid_loss[best_epoch - 1], "k^", ms=7, label="best snapshot")
    axis.set(title=labels, xlabel="epoch", ylabel="loss")


@pictures.style()
def main() -> None:
    """Trains too long, with both sets of labels."""
    topic = Topic.of(__doc__, epochs=100)
    sets = {"as they are": 0.0, f"{100 * WRONG:.0f} % drawn anew": WRONG}
    figure, axes = panels(2, 4.8, 4.0)
    rows, sentences = [], []
    for axis, (labels, share) in zip(axes, sets.items(), strict=True):
        runs = ways_to_end(topic, mislabelled(topic.images.train, share))
        draw(axis, runs, f"Training labels {labels}")
        rows += [
            {
                "training ends by": run.name,
                "labels": labels,
                "epochs": np.mean([len(history.valid_loss) for history in run.histories]),
                "test accuracy, %": run.accuracy,
            }
            for run in runs
        ]
        sentences.append(conclusion(runs, labels))
    axes[0].legend(fontsize=8)
    topic.finish(rows, {"early_stopping": figure}, " ".join(sentences), wrong=WRONG)


def conclusion(runs: list[Variant], labels: str) -> str:
    """A sentence on the gain of the best snapshot, and on the epochs that patience saves."""
    last, snapshot, *patient = runs
    gain = np.mean(snapshot.accuracy) - np.mean(last.accuracy)
    quick = best(patient)
    epochs, all_epochs = (
        np.mean([len(history.valid_loss) for history in run.histories]) for run in (quick, last)
    )
    return (
        f"Training labels {labels}: best snapshot of all epochs is {abs(gain):.2f} points "
        f"{'above' if gain > 0 else 'below'} the last epoch on the test set; {quick.name} needs "
        f"{epochs:.0f} of {all_epochs:.0f} epochs."
    )


if __name__ == "__main__":
    main()
