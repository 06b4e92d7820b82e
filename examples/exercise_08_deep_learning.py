"""Exercise 8: a deep network for digits 0 to 4, with Adam, early stopping and checkpoints.

python examples/exercise_08_deep_learning.py --data mnist --seeds 5

Killed at any moment, the same command goes on from the last checkpoint. The models end up in
DIR/models/SEED, from where `orbax.checkpoint.StandardCheckpointer().restore(path)` reads them.
"""

import orbax.checkpoint as ocp
from chapter import RATE_A, Row, arguments, report, tasks, train_on_a
from flax import nnx


def main() -> None:
    """Trains and stores a network for each seed, and reports."""
    options = arguments(__doc__)
    name, task, _ = tasks(options.data)
    row = Row("8.2", "digits 0–4", 97.26)
    folder = options.output.absolute()
    for seed in range(options.seeds):
        print(f"Seed {seed}")
        checkpoints = folder / "checkpoints" / str(seed)
        model = train_on_a(row, task, seed, checkpoint_dir=checkpoints).model
        with ocp.StandardCheckpointer() as saver:
            parameters = nnx.to_pure_dict(nnx.state(model))
            saver.save(folder / "models" / str(seed), parameters, force=True)
    settings = {
        "exercise": 8,
        "data": name,
        "seeds": options.seeds,
        "optimizer on A": f"adam({RATE_A})",
    }
    report([row], settings, options.output)


if __name__ == "__main__":
    main()
