"""Measuring a trained model."""

from typing import Any

from flax import nnx

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.training import epoch_program
from jaxopt_cards.training.inputs import check_model, check_model_fits, default_loss, on_device
from jaxopt_cards.training.settings import Loss


@declare
def evaluate(
    model: nnx.Module, x: Any, y: Any, *, weight: Any = None, loss: Loss = default_loss
) -> dict[str, float]:
    r"""Measures mean loss and accuracy of a model in evaluation mode.

    Runs in batches of 1,000, compiled once for each shape of the data. `model` is not changed.

    Equation:
        .. math:: \text{accuracy} =
            \frac{\sum_i w_i\, [\arg\max_c f(x_i)_c = y_i]}{\sum_i w_i}

    Args:
        model: any NNX module that maps a batch of inputs to outputs.
        x: inputs, shape (n, ...).
        y: labels, shape (n,).
        weight: numbers >= 0, shape (n,), by which both means are weighted. Default: 1 for each.
        loss: as in `fit`.

    Returns:
        A dictionary with `loss` and `accuracy` (in [0, 1]; NaN if the labels are not classes).

    Raises:
        ValueError: data that are empty, of unequal lengths or not finite; labels outside the
            classes of the model.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, exercise 8: accuracy on the test set.

    Use when: training is finished, on the test set.
    Avoid when: you choose between models; `fit` returns the validation loss.

    Example:
        >>> import numpy as np
        >>> from flax import nnx
        >>> from jaxopt_cards import layers, training
        >>> model = layers.MLP(4, 3, rngs=nnx.Rngs(0))
        >>> sorted(training.evaluate(model, np.ones((2, 4)), np.array([0, 1])))
        ['accuracy', 'loss']
    """
    check_model(model)
    given = (x, y) if weight is None else (x, y, weight)
    examples = on_device("the data", given, weighted=weight is not None).relative()
    check_model_fits("the data", model, loss, examples)
    program, arrays, frozen = epoch_program.prepared(
        model, nnx.Param, loss, 1, epoch_program.Options()
    )
    measured = epoch_program.measure(program, arrays, frozen, examples)
    return dict(zip(("loss", "accuracy"), map(float, measured), strict=True))
