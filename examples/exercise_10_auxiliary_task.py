"""Exercise 10 of Géron's chapter 11: pretraining on pairs of images, the same digit or not.

python examples/exercise_10_auxiliary_task.py --data mnist --seeds 5

Split 1, with most images, is used only for pairs; split 2 has the labels of few images. The rows to
the letter do what the exercise says and nothing else, with all images of both splits. No image is
left for validation then: the last epoch is kept, and the number of epochs was chosen before with a
tenth of split 2 held out. The other rows hold out a tenth of each split. The tuned rows use batch
normalisation, ReLU, decay and a schedule; those that end in "toolbox" also use the chapter's other
techniques: augmentation, wider layers, dropout, training the head first, and rates by layer. The
pairs of MNIST need 4 GB of memory.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from chapter import (
    BATCH,
    EPOCHS,
    PATIENCE,
    TOOLBOX,
    Row,
    arguments,
    difference,
    images,
    moved,
    one_cycle,
    report,
    write_page,
)
from chapter_pictures import draw_curves, draw_errors
from flax import nnx
from row_settings import Made

import jaxopt_cards as jc
from jaxopt_cards import data, layers, training, transfer

# To the letter: five layers of 100 units, ELU, Adam. The exercise leaves rates and epochs open.
# These rates have the lowest losses on a tenth of the images that was held out: 3e-4 against 1e-4
# for pairs, of three for the reused and for the new network. The epochs of pairs were not tuned.
PAIRS = {"mnist": 200_000, "digits": 20_000}
LETTER_PAIRS = jc.adam(3e-4)
SETTINGS_PAIRS = {"batch_size": 100, "epochs": 20}
LETTER_REUSED, LETTER_NEW = jc.adam(1e-3), jc.adam(3e-4)

TUNED = {"batch_norm": True, "activation": "relu"}  # five layers of 100 units, as in 8.4
EPOCHS_PAIRS, EPOCHS_MOVED, EPOCHS_DIGITS = 10, 14, 100
OPTIMIZER = jc.adamw(1e-3, weight_decay=0.1)
RATE_NEW, DECAY_NEW = 1e-2, 0.1  # by cross-validation on split 2, five and ten folds


class PairNet(nnx.Module):
    """DNN A gets the first image, DNN B the second; ten units and a logistic one compare them."""

    def __init__(self, in_features: int, network: dict, *, rngs: nnx.Rngs):
        """Makes two networks, of which only the hidden layers are used."""
        self.a = layers.MLP(in_features, 10, **network, rngs=rngs)
        self.b = layers.MLP(in_features, 10, **network, rngs=rngs)
        width = self.a.logits.in_features
        self.compare = nnx.Linear(2 * width, 10, kernel_init=layers.he_normal, rngs=rngs)
        self.output = nnx.Linear(10, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logit of "different" for each pair: the input of the logistic function."""
        both = [self.a.features(x[:, 0]), self.b.features(x[:, 1])]
        return self.output(jax.nn.elu(self.compare(jnp.concatenate(both, axis=1))))[:, 0]


def different(model: nnx.Module, examples: data.Examples) -> np.ndarray:
    """Whether each pair is more likely different than the same."""
    return training.predict(model, examples.x) > 0


def share_right(model: nnx.Module, examples: data.Examples) -> float:
    """The share of pairs that the network gets right."""
    return float(np.mean(different(model, examples) == examples.y))


# With these, the single logit of a pair is trained and measured.
ONE_LOGIT = {"loss": optax.sigmoid_binary_cross_entropy, "accuracy": share_right}


def main() -> None:
    """Runs all rows of the exercise for every seed, and reports."""
    options = arguments(__doc__)
    name, splits = images(options.data)
    rows = {
        row.row: row
        for row in (
            Row("10.3 letter", "pairs: the same digit?", 97.6),
            Row("10.4 letter", "DNN A frozen, split 2", 96.5),
            Row("10 scratch letter", "split 2 alone", 94.6),
            Row("10.3 tuned", "pairs: the same digit?"),
            Row("10.4 tuned", "DNN A frozen, split 2"),
            Row("10 scratch tuned", "split 2 alone"),
            Row("10.3 toolbox", "pairs: the same digit?"),
            Row("10.4 toolbox", "DNN A tuned, split 2"),
            Row("10 scratch toolbox", "split 2 alone"),
        )
    }
    few = data.Splits(*held_out(splits.valid), splits.test)
    for seed in range(options.seeds):
        print(f"Seed {seed}")
        to_the_letter(rows, splits, PAIRS[name], seed)
        pairs = paired(splits, PAIRS[name], seed)
        with_tuning(rows, pairs, few, seed)
        pair_net, best = with_toolbox(rows, name, pairs, few, seed)
    settings = {"exercise": 10, "data": name, "seeds": options.seeds}
    reused, new = rows["10.4 letter"], rows["10 scratch letter"]
    answers = {
        "10.4, does it help to reuse DNN A?": (
            "Compared with the same network trained on split 2 alone, test accuracy with DNN A "
            f"frozen is {difference(reused, new)}."
        )
    }
    table = list(rows.values())
    answers = report(table, settings, options.output, answers)
    draw_curves(table, options.output / "learning_curves.png")
    draw_pairs(pair_net, pairs.test, options.output / "pairs.png")
    draw_errors(best, few.test, options.output / "errors.png", "0123456789")
    figures = {
        "10.3 toolbox: correct and wrong predictions for pairs": "pairs.png",
        "10.4 toolbox: the most certain mistakes among the test images": "errors.png",
    }
    write_page(options, __doc__, table, settings, figures, answers)


def held_out(examples: data.Examples) -> tuple[data.Examples, data.Examples]:
    """Splits into nine tenths for training and one tenth for validation."""
    cut = len(examples.y) * 9 // 10
    return data.Examples(*(part[:cut] for part in examples)), data.Examples(
        *(part[cut:] for part in examples)
    )


def paired(splits: data.Splits, n: int, seed: int) -> data.Splits:
    """Pairs of split 1 for training and validation, and 10,000 pairs of test images."""
    train, valid = held_out(splits.train)
    return data.Splits(
        data.pairs(train, n, seed=seed),
        data.pairs(valid, 5_000, seed=0),
        data.pairs(splits.test, 10_000, seed=0),
    )


def to_the_letter(rows: dict[str, Row], splits: data.Splits, n: int, seed: int) -> None:
    """10.1 to 10.4 with all images of both splits: DNN A and B learn pairs, and A is reused."""
    features = splits.train.x.shape[1]
    # The pairs of split 2 are only for the learning curve: nothing is chosen by them.
    pairs = data.Splits(
        data.pairs(splits.train, n, seed=seed),
        data.pairs(splits.valid, min(n, 5_000), seed=0),
        data.pairs(splits.test, 10_000, seed=0),
    )
    whole = {"patience": None, "kept": "last epoch"}
    model = PairNet(features, {}, rngs=nnx.Rngs(seed))
    settings = SETTINGS_PAIRS | ONE_LOGIT | whole
    dnn_a = rows["10.3 letter"].train(model, LETTER_PAIRS, pairs, seed, **settings).model.a

    # Split 2 has no images left for validation; the learning curve shows its training images.
    few = data.Splits(splits.valid, splits.valid, splits.test)
    reused = transfer.replace_head(dnn_a, 10, rngs=nnx.Rngs(seed + 1000))
    new = layers.MLP(features, 10, rngs=nnx.Rngs(seed + 2000))
    for name, model, tx, frozen in (
        ("10.4 letter", reused, LETTER_REUSED, {"trainable": transfer.freeze("hidden")}),
        ("10 scratch letter", new, LETTER_NEW, {}),
    ):
        row = rows[name]
        epochs = row.settings.get("epochs") or epochs_for(model, tx, splits.valid, frozen)
        row.train(model, tx, few, seed, epochs=epochs, **whole, **frozen)


def epochs_for(
    model: nnx.Module, tx: jc.GradientTransformation, examples: data.Examples, settings: dict
) -> int:
    """The best number of epochs with a tenth of the examples held out; found for the first seed."""
    train, valid = held_out(examples)
    settings = settings | {"batch_size": BATCH, "patience": PATIENCE, "epochs": EPOCHS}
    return training.fit(model, tx, train=train, valid=valid, **settings).best_epoch


def with_tuning(rows: dict[str, Row], pairs: data.Splits, few: data.Splits, seed: int) -> None:
    """The same with batch normalisation, decay and schedules."""
    features = few.train.x.shape[1]
    model = PairNet(features, TUNED, rngs=nnx.Rngs(seed))
    cycle = one_cycle(3e-3, len(pairs.train.y), 100, EPOCHS_PAIRS, weight_decay=0.1)
    settings = {"batch_size": 100, "epochs": EPOCHS_PAIRS, "patience": None} | ONE_LOGIT
    dnn_a = rows["10.3 tuned"].train(model, cycle, pairs, seed, **settings).model.a

    cached = data.Splits(*(transfer.cache_features(dnn_a, dnn_a.depth, part) for part in few))
    head = transfer.replace_head(dnn_a, 10, rngs=nnx.Rngs(seed + 1000)).logits
    rows["10.4 tuned"].train(head, OPTIMIZER, cached, seed)

    new = layers.MLP(features, 10, **TUNED, rngs=nnx.Rngs(seed + 2000))
    cycle = one_cycle(RATE_NEW, len(few.train.y), 50, EPOCHS_DIGITS, weight_decay=DECAY_NEW)
    settings = {"batch_size": 50, "epochs": EPOCHS_DIGITS, "patience": None}
    rows["10 scratch tuned"].train(new, cycle, few, seed, **settings)


def with_toolbox(
    rows: dict[str, Row], name: str, pairs: data.Splits, few: data.Splits, seed: int
) -> tuple[PairNet, nnx.Module]:
    """The same with all of the chapter's techniques."""
    features, augment = few.train.x.shape[1], moved(name)
    model = PairNet(features, TOOLBOX, rngs=nnx.Rngs(seed))
    cycle = one_cycle(3e-3, len(pairs.train.y), 200, EPOCHS_MOVED)
    settings = {"batch_size": 200, "epochs": EPOCHS_MOVED, "patience": None} | ONE_LOGIT
    row = rows["10.3 toolbox"]
    pair_net = row.train(model, cycle, pairs, seed, augment=moved_pairs(name), **settings).model

    settings = {"batch_size": 100, "epochs": EPOCHS_DIGITS, "augment": augment}
    tuned = rows["10.4 toolbox"].fine_tune(
        transfer.replace_head(pair_net.a, 10, rngs=nnx.Rngs(seed + 1000)),
        few,
        seed,
        freeze_epochs=5,
        base_lr=4e-3,
        lr_mult=3,
        **settings,
    )

    new = layers.MLP(features, 10, **TOOLBOX, rngs=nnx.Rngs(seed + 2000))
    cycle = one_cycle(2e-3, len(few.train.y), 100, EPOCHS_DIGITS)
    rows["10 scratch toolbox"].train(new, cycle, few, seed, patience=None, **settings)
    return pair_net, tuned.model


def of_both(augment: Made) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Augments both images of a pair independently."""

    def augmented(key: jax.Array, x: jax.Array) -> jax.Array:
        return augment(key, x.reshape(-1, x.shape[-1])).reshape(x.shape)

    return augmented


@functools.cache  # one object for all seeds, which then share the compiled program
def moved_pairs(name: str) -> Made:
    """The toolbox's augmentation, for pairs."""
    return Made(of_both, augment=moved(name))


def draw_pairs(model: PairNet, examples: data.Examples, path: Path) -> None:
    """Draws pairs with correct predictions above, and with wrong ones below."""
    guess = different(model, examples)
    figure, axes = plt.subplots(2, 8, figsize=(9, 2.6), layout="constrained")
    side = round(examples.x.shape[2] ** 0.5)
    for line, right in zip(axes, (True, False), strict=True):
        chosen = np.flatnonzero((guess == examples.y) == right)[: len(line)]
        for axis in line:
            axis.set_axis_off()
        for axis, row in zip(line, chosen, strict=False):
            first, second = examples.x[row].reshape(2, side, side)
            axis.imshow(np.hstack([first, second]), cmap="gray_r", vmin=0, vmax=1)
            says = "different" if guess[row] else "the same"
            axis.set_title(f"{says}{'' if right else ' ✗'}", fontsize=9)
    wrong = int((guess != examples.y).sum())
    figure.suptitle(
        f"Are these the same digit? {wrong} of {len(guess)} are wrong, such as those below"
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
