"""Training everything above a layer whose outputs are computed once."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Unpack

import jax
import optax
from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.training import FitResult, fit
from jaxopt_cards.training.checkpoints import Checkpoints
from jaxopt_cards.training.devices import Placement
from jaxopt_cards.training.inputs import check_model
from jaxopt_cards.training.run import REFUSED
from jaxopt_cards.training.settings import FIT, FitSettings
from jaxopt_cards.transfer.features import cache_features


@declare(settings=FIT, refused=REFUSED)
def fit_above(
    model: nnx.Module,
    tx: optax.GradientTransformation,
    upto: Annotated[int, "[1, inf)"],
    *,
    train: Sequence[Any],
    valid: Sequence[Any],
    directory: str | os.PathLike | None = None,
    opt_state: optax.OptState | None = None,
    checkpoints: Checkpoints | str | Path | None = None,
    placement: Placement | jax.sharding.Mesh | None = None,
    **settings: Unpack[FitSettings],
) -> FitResult:
    r"""Trains all layers above a hidden layer, whose outputs it computes once.

    The frozen lower layers run once for each example, instead of once in each epoch. `fit` with
    `trainable="hidden[345]|logits"` gives the same parameters as `upto=2`, up to the rounding of
    float32. With dropout the noise differs: the lower layers are in evaluation mode here.

    Equation:
        .. math:: h = f_{\le k}(x), \qquad
            \min_{\theta_{> k}} \frac{1}{n} \sum_i \ell(f_{> k}(h_i; \theta_{> k}), y_i)

        with :math:`f_{\le k}` the layers up to number :math:`k` = `upto`, :math:`h` their outputs,
        :math:`f_{> k}` the layers above, :math:`\theta_{> k}` their parameters, :math:`x_i` and
        :math:`y_i` the :math:`n` examples, :math:`\ell` = `loss`.

    Args:
        model: NNX module with methods `features(x, upto)` and `above(upto)`, such as `layers.MLP`;
            not changed.
        tx: as in `fit`.
        upto: the number of the last frozen hidden layer.
        train: pair (x, y), or (x, y, weight).
        valid: pair (x, y), or (x, y, weight).
        directory: a folder in which the outputs are kept, as in `cache_features`. Default: memory.
        opt_state: as in `fit`.
        checkpoints: as in `fit`.
        placement: as in `fit`.
        settings: as in `fit`, without `augment`. `trainable` chooses among the layers above.

    Returns:
        A `FitResult`, as from `fit`; `model` and `last` are the whole network.

    State:
        That of `fit` for the layers above, and the outputs of layer `upto` for all examples.

    Raises:
        ValueError: the layer does not exist; the model has no such methods; `augment` is given; or
            as in `fit` and `cache_features`.
        OSError: as in `fit` and `cache_features`.
        FloatingPointError: as in `fit`.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, "Caching the Frozen Layers".

    Use when: lower layers are frozen, and you train for several epochs.
    Avoid when: inputs are augmented, or the lower layers should be trained later on: use `fit`.

    Example:
        >>> import jaxopt_cards as jc
        >>> from flax import nnx
        >>> from jaxopt_cards import data, layers, transfer
        >>> train, valid, test = data.digits()
        >>> model = layers.MLP(64, 10, units=(30, 20, 10), rngs=nnx.Rngs(0))  # as if trained
        >>> result = transfer.fit_above(
        ...     model, jc.adam(1e-2), upto=2, train=train, valid=valid, epochs=3, progress=False
        ... )
        >>> bool((result.model.hidden2.kernel[...] == model.hidden2.kernel[...]).all())
        True
        >>> bool((result.model.hidden3.kernel[...] == model.hidden3.kernel[...]).all())
        False
    """
    check_model(model)
    if settings["augment"] is not None:
        expected = "be None here, where images are not seen again: use fit with trainable"
        raise HyperparameterError("augment", expected, settings["augment"])
    above = getattr(model, "above", None)
    if not callable(above):
        raise NamedError(
            f"model must have a method above(upto), as layers.MLP has, got {type(model).__name__}"
        )
    cached = {
        what: _cached(what, model, upto, examples, directory)
        for what, examples in (("train", train), ("valid", valid))
    }
    result = fit(
        above(upto),
        tx,
        **cached,
        opt_state=opt_state,
        checkpoints=checkpoints,
        placement=placement,
        **settings,
    )
    whole, last = _put_back(model, result.model), _put_back(model, result.last)
    return dataclasses.replace(result, model=whole, last=last)


def _cached(what: str, model: nnx.Module, upto: int, examples: Any, directory: Any) -> tuple:
    """The examples with features for inputs; a weight stays as it is."""
    if not isinstance(examples, Sequence) or len(examples) not in (2, 3):
        raise NamedError(f"{what} must be (x, y) or (x, y, weight), got {type(examples).__name__}")
    x, y, *weight = examples
    return (*cache_features(model, upto, (x, y), directory=directory), *weight)


def _put_back(model: nnx.Module, upper: nnx.Module | None) -> nnx.Module:
    """A copy of the network with the layers above as they were trained, in evaluation mode."""
    whole = nnx.clone(model)
    nnx.update(whole, nnx.state(upper))
    whole.eval()
    return whole
