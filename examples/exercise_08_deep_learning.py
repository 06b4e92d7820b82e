"""Exercise 8 of Géron's chapter 11: a deep network for digits 0 to 4.

python examples/exercise_08_deep_learning.py --data mnist --seeds 5

The network is tuned, then trained with batch normalisation, dropout and augmentation.
Hyperparameters are searched once, by validation; each row is then trained for every seed, and
evaluated once on the test set. If the command is killed, the same command resumes from the last
checkpoint. The models are stored in DIR/DATA/models/ROW/SEED;
`orbax.checkpoint.StandardCheckpointer().restore(path)` reads them.
"""

import functools
import json
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
import scipy.stats
from chapter import Row, arguments, draw_losses, moved, report, tasks, write_page
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import data, layers, training

# Performance scheduling: halve the rate after three epochs without improvement.
PLATEAU = jc.reduce_on_plateau(factor=0.5, patience=3)
RATES = scipy.stats.loguniform(3e-4, 3e-3)
SHAPES = [(100,) * 5, (200,) * 4, (300,) * 3]
DROPOUT = {
    "dropout_rate": scipy.stats.uniform(0.05, 0.3),  # 0.05 to 0.35
    "input_dropout_rate": scipy.stats.uniform(0.05, 0.3),
    "batch_norm": [False, True],
}
SPACES: dict[str, dict[str, Any]] = {
    "8.3": {
        "units": SHAPES,
        "activation": ["elu", "relu", "leaky_relu"],
        "batch_size": [20, 50, 100],
        "learning_rate": RATES,
    },
    "8.4 tuned": {
        "batch_norm": [True],
        "batch_norm_momentum": [0.9, 0.99],
        "units": SHAPES,
        "batch_size": [20, 50],  # the smaller the batch, the more its statistics regularise
        "learning_rate": RATES,
    },
    "8.5 tuned": {"units": SHAPES, "batch_size": [50, 100], "learning_rate": RATES} | DROPOUT,
}


def main() -> None:
    """Searches, trains every row for every seed, and reports."""
    options = arguments(__doc__)
    name, task, _ = tasks(options.data)
    folder = options.output.absolute() / name
    found = searched(task, folder, quick=name == "digits")
    default = {"batch_size": 20, "learning_rate": 5e-4}
    normalised = {"batch_norm": True, "learning_rate": 1e-3}
    dropped = {"dropout_rate": 0.1, "input_dropout_rate": 0.3, "activation": "relu"}
    dropped |= {"batch_size": 50, "learning_rate": 1e-3}
    rows = [
        (Row("8.2", "Adam, early stopping", 97.26), default),
        (Row("8.3", "tuned", 98.91), found["8.3"]),
        (Row("8.4", "batch normalisation", 99.42), default | normalised),
        (Row("8.4 tuned", "the same, tuned", 99.49), found["8.4 tuned"]),
        (Row("8.5", "dropout", 98.62), default | dropped),
        (Row("8.5 tuned", "the same, tuned", 98.89), found["8.5 tuned"]),
        (
            Row("augmented", "images moved and bent", None),
            found["8.4 tuned"] | {"augment": moved(name)},
        ),
    ]
    for seed in range(options.seeds):
        print(f"Seed {seed}")
        for row, chosen in rows:
            train(row, chosen, task, seed, folder)
    settings = {"exercise": 8, "data": name, "seeds": options.seeds, "tuned": found}
    results = [row for row, _ in rows]
    report(results, settings, options.output)
    draw_losses(results, options.output / "losses.png")
    write_page(options, __doc__, results, settings, {"Losses by epoch": "losses.png"})


def searched(task: data.Splits, folder: Path, *, quick: bool) -> dict[str, dict[str, Any]]:
    """The best hyperparameters of each space, from this or an earlier call."""
    folder.mkdir(parents=True, exist_ok=True)
    budget = {"candidates": 2, "epochs": 4} if quick else {"candidates": 12, "epochs": 30}
    # Without halving, which would drop regularised candidates, since they learn slowly.
    budget["patience"] = 8
    found = {}
    for row, space in SPACES.items():
        path = folder / f"tuned_{row.replace(' ', '_')}.json"
        # SciPy's distributions are compared by their arguments.
        asked = {key: str(getattr(values, "args", values)) for key, values in space.items()}
        asked |= {key: str(value) for key, value in budget.items()}
        if path.exists() and (earlier := json.loads(path.read_text())).get("asked") == asked:
            found[row] = earlier["best"]
            continue
        print(f"{row}: searching", flush=True)
        result = training.random_search(
            functools.partial(layers.MLP, task.train.x.shape[1], 5),
            jc.adam,
            space,
            train=task.train,
            plateau=PLATEAU,
            progress=False,
            **budget,
        )
        print(result)
        result.save(folder / f"search_{row.replace(' ', '_')}.csv")
        found[row] = result.best
        whole = path.with_suffix(".part")
        told = {"asked": asked, "best": result.best}
        whole.write_text(json.dumps(told, indent=1, default=float) + "\n")
        whole.replace(path)
    return found


def train(row: Row, chosen: dict[str, Any], task: data.Splits, seed: int, folder: Path) -> None:
    """Trains one row for one seed, with checkpoints, and stores the model."""
    chosen = dict(chosen)
    fitted = {key: chosen.pop(key) for key in ("batch_size", "augment") if key in chosen}
    tx = adam(chosen.pop("learning_rate"))
    model = layers.MLP(task.train.x.shape[1], 5, rngs=nnx.Rngs(seed), **chosen)
    place = Path(row.row.replace(" ", "_"), str(seed))
    result = row.train(
        model,
        tx,
        task,
        seed,
        plateau=PLATEAU,
        checkpoints=folder / "checkpoints" / place,
        **fitted,
    )
    with ocp.StandardCheckpointer() as saver:
        parameters = nnx.to_pure_dict(nnx.state(result.model, (nnx.Param, nnx.BatchStat)))
        saver.save(folder / "models" / place, parameters, force=True)


@functools.cache  # one object for all seeds, which then share the compiled program
def adam(rate: float) -> jc.GradientTransformation:
    """Adam with a learning rate."""
    return jc.adam(rate)


if __name__ == "__main__":
    main()
