"""The network of Géron's chapter 11 as a scikit-learn estimator."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optax
from flax import nnx
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import _check_partial_fit_first_call, check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from jaxopt_cards.core.checks import HyperparameterError, check_count, check_number
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import named_as
from jaxopt_cards.layers import MLP, BatchNorm
from jaxopt_cards.training import epoch_program
from jaxopt_cards.training.classifier_parts import (
    encoded,
    from_plain,
    made_tx,
    predicted,
    rows_of,
    to_plain,
    trained_once,
    validation_rows,
    with_weight,
)
from jaxopt_cards.training.inputs import on_device
from jaxopt_cards.training.run import fit


class DNNClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc] # untyped there
    r"""`layers.MLP` and `fit` as a scikit-learn classifier.

    For pipelines, grid and random searches, and everything else that takes an estimator.
    Predictions are made in blocks of one size, so the result for a row does not depend on the rows
    beside it. A pickle contains the parameters, and the state of the optimizer for `partial_fit`.

    Equation:
        .. math:: \hat{y}(x) = \arg\max_c \frac{e^{f_\theta(x)_c}}{\sum_k e^{f_\theta(x)_k}}

        with :math:`f_\theta(x)` the logits of the network.

    Args:
        units: widths of the hidden layers, from the input on. Default: those of Géron's chapter 11.
        activation: as in `layers.MLP`. Names pickle; functions of `jax.nn` do not.
        kernel_init: as in `layers.MLP`. Names pickle.
        batch_norm: as in `layers.MLP`.
        batch_norm_momentum: as in `layers.MLP`.
        dropout_rate: as in `layers.MLP`.
        input_dropout_rate: as in `layers.MLP`.
        optimizer: name of an optimizer of this package, such as "nesterov"; or a function of the
            learning rate that makes a gradient transformation: `jaxopt_cards.adamw`.
        learning_rate: number, or schedule; first argument of the optimizer.
        optimizer_kwargs: its other arguments, by name: `{"weight_decay": 1e-4}`.
        batch_size: int in [1, inf); all examples if there are fewer.
        epochs: int in [1, inf); the largest number of epochs.
        patience: int in [1, inf), as in `fit`, or `None`: never stop early. Default: Géron's 20.
        validation_fraction: float in [0, 1); share of the examples that `fit` sets aside for early
            stopping, in proportion to the classes. The first example of each class is never set
            aside. With 0 the loss on the training set is used instead.
        random_state: seed of weights, noise, order and validation set: integer or
            `numpy.random.RandomState`; `None` gives other numbers in each call.
        progress: as in `fit`.

    Returns:
        An estimator with `fit(X, y, sample_weight=None, valid=None)`, `predict`, `predict_proba`,
        `score` and `partial_fit(X, y, classes=None, sample_weight=None)`. After training it has
        `classes_`, `n_features_in_`, `feature_names_in_` (if X had any), `model_` (NNX module,
        evaluation mode), `n_iter_` (epochs); after `fit` also `history_` and `best_epoch_`, as in
        `FitResult`.

    State:
        The model; after `partial_fit` also the optimizer's state.

    Raises:
        ValueError: a number outside its range, an unknown name, data that scikit-learn refuses, or
            too few examples to set any aside.
        FloatingPointError: the loss is not finite, as in `fit`.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, exercise 8.3, whose notebook has a class of this name. Lars Buitinck et al. (2013), API
        design for machine learning software.

    Use when: features have about unit size, and you use scikit-learn's pipelines or searches.
    Avoid when: you have your own model or loss: `fit`; or many candidates: `random_search`.

    Example:
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import MinMaxScaler
        >>> from sklearn.datasets import load_digits
        >>> from jaxopt_cards.training import DNNClassifier
        >>> x, y = load_digits(return_X_y=True)
        >>> model = make_pipeline(MinMaxScaler(), DNNClassifier(epochs=5, random_state=0))
        >>> model.fit(x[:1200], y[:1200]).score(x[1200:], y[1200:]) > 0.8
        True
    """

    @declare
    def __init__(
        self,
        units: Sequence[int] = (100,) * 5,
        activation: Any = "elu",
        kernel_init: Any = "he_normal",
        batch_norm: bool | BatchNorm = False,
        batch_norm_momentum: float = 0.99,
        dropout_rate: float = 0.0,
        input_dropout_rate: float = 0.0,
        optimizer: str | Callable[..., optax.GradientTransformation] = "adam",
        learning_rate: Any = 1e-3,
        optimizer_kwargs: Mapping[str, Any] | None = None,
        batch_size: int = 32,
        epochs: int = 100,
        patience: int | None = 20,
        validation_fraction: float = 0.1,
        random_state: Any = None,
        progress: bool = False,
    ):
        """Stores the arguments as they are; `fit` and `partial_fit` check them."""
        self.units = units
        self.activation = activation
        self.kernel_init = kernel_init
        self.batch_norm = batch_norm
        self.batch_norm_momentum = batch_norm_momentum
        self.dropout_rate = dropout_rate
        self.input_dropout_rate = input_dropout_rate
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.optimizer_kwargs = optimizer_kwargs
        self.batch_size = batch_size
        self.epochs = epochs
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.progress = progress

    @named_as("DNNClassifier")
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, valid: Sequence[Any] | None = None
    ) -> "DNNClassifier":
        """Trains a new network.

        Args:
            X: inputs, shape (n, features).
            y: labels of any kind, shape (n,).
            sample_weight: numbers >= 0, shape (n,), of which only ratios count, also in the
                validation loss. Examples of weight 0 take no part at all.
            valid: pair (X, y), or (X, y, weight), for early stopping, instead of
                `validation_fraction` of the data.

        Returns:
            The estimator.
        """
        self._check_settings()
        x, y, weight = self._examples(X, y, sample_weight, reset=True)
        classes = np.unique(y)
        x, labels, weight = with_weight(x, encoded(y, classes), weight)
        random = check_random_state(self.random_state)
        weights_seed, seed = self._seeds(random)
        set_aside = np.zeros(len(x), bool)
        if valid is not None:
            held = self._validation(valid, classes)
        elif self.validation_fraction:
            set_aside[validation_rows(labels, self.validation_fraction, random)] = True
            held = rows_of(set_aside, x, labels, weight)
        else:
            held = rows_of(~set_aside, x, labels, weight)
        train = rows_of(~set_aside, x, labels, weight)
        architecture = self._architecture_for(x.shape[1], len(classes))
        result = fit(
            MLP(**architecture, rngs=nnx.Rngs(weights_seed)),
            self._tx(),
            train=train,
            valid=held,
            batch_size=min(self.batch_size, len(train[0])),
            epochs=self.epochs,
            patience=self.patience,
            seed=seed,
            progress=self.progress,
        )
        self.classes_, self.model_ = classes, result.model
        self.history_, self.best_epoch_ = result.history, result.best_epoch
        self.n_iter_ = len(result.history.seconds)
        self._architecture, self._opt_state, self._seed = architecture, None, seed
        return self

    @named_as("DNNClassifier")
    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> "DNNClassifier":
        """Trains on each of these examples once, and keeps the optimizer's state for the next call.

        For data that come in parts or drift. After `fit`, it continues from the best epoch with a
        new optimizer state. Parts of one size share a compiled program.

        Args:
            X: inputs, shape (n, features).
            y: labels, shape (n,).
            classes: all labels that will ever come; needed in the first call.
            sample_weight: numbers >= 0, shape (n,). The loss of a batch is divided by its number of
                examples, as in `fit_online`: a weight of 1000 in all examples differs from 1.
                Examples of weight 0 take no part at all.

        Returns:
            The estimator.
        """
        self._check_settings()
        first = not hasattr(self, "model_")
        x, y, weight = self._examples(X, y, sample_weight, reset=first)
        _check_partial_fit_first_call(self, classes)
        x, labels, weight = with_weight(x, encoded(y, self.classes_), weight)
        examples = rows_of(slice(None), x, labels, weight)
        data = on_device("the data", examples, weighted=True)
        tx = self._tx()
        model = self._start(x.shape[1]) if first else self.model_
        batch_size = min(self.batch_size, data.size)
        self.model_, self._opt_state = trained_once(
            model, tx, self._opt_state, data, batch_size, self.n_iter_, self._seed
        )
        self.n_iter_ += 1
        for of_fit in ("history_", "best_epoch_"):
            self.__dict__.pop(of_fit, None)
        return self

    @named_as("DNNClassifier")
    def predict_proba(self, X: Any) -> np.ndarray:
        """The probabilities of `classes_`, shape (n, classes), float64."""
        check_is_fitted(self, "model_")
        x = validate_data(self, X, dtype=np.float32, reset=False)
        logits = predicted(self.model_, x).astype(np.float64)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    @named_as("DNNClassifier")
    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row, shape (n,)."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def __getstate__(self) -> dict[str, Any]:
        """All of it as plain arrays: neither modules nor transformations can be pickled."""
        state = dict(super().__getstate__())
        if "model_" in state:
            state["model_"] = to_plain(epoch_program.split(self.model_, nnx.Param)[1])
            state["_opt_state"] = to_plain(self._opt_state)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Builds the model again, and fills in its arrays."""
        state = dict(state)
        if "model_" in state:
            model = MLP(**state["_architecture"], rngs=nnx.Rngs(0))
            model.eval()
            graph, *_ = epoch_program.split(model, nnx.Param)
            state["model_"] = epoch_program.merge(graph, from_plain(state["model_"]), {})
            state["_opt_state"] = from_plain(state["_opt_state"])
        super().__setstate__(state)

    def _check_settings(self) -> None:
        """Raises unless the numbers that are not the network's or the optimizer's are right."""
        check_count("batch_size", self.batch_size)
        check_count("epochs", self.epochs)
        if self.patience is not None:
            check_count("patience", self.patience)
        if not isinstance(self.units, Sequence | np.ndarray):
            raise HyperparameterError("units", "be a sequence of whole numbers", self.units)
        if not isinstance(self.optimizer_kwargs, Mapping | None):
            raise HyperparameterError("optimizer_kwargs", "be a dictionary", self.optimizer_kwargs)
        check_number("validation_fraction", self.validation_fraction, "[0, 1)")

    def _examples(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> tuple:
        """Inputs, labels and weights, checked as scikit-learn does it."""
        x, y = validate_data(self, X, y, dtype=np.float32, reset=reset)
        check_classification_targets(y)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, x, ensure_non_negative=True)
        return x, y, sample_weight

    def _validation(self, valid: Any, classes: np.ndarray) -> tuple:
        """Inputs, labels and, if there are any, weights to validate on."""
        if not isinstance(valid, Sequence) or len(valid) not in (2, 3):
            expected = "be a pair (X, y), or (X, y, weight)"
            raise HyperparameterError("valid", expected, type(valid))
        x, y, weight = self._examples(*valid, *[None] * (3 - len(valid)), reset=False)
        return rows_of(slice(None), x, encoded(y, classes), weight)

    def _architecture_for(self, features: int, classes: int) -> dict[str, Any]:
        """The arguments of the network."""
        return {
            "in_features": features,
            "out_features": classes,
            "units": tuple(self.units),  # a list might be changed later
            "activation": self.activation,
            "kernel_init": self.kernel_init,
            "batch_norm": self.batch_norm,
            "batch_norm_momentum": self.batch_norm_momentum,
            "dropout_rate": self.dropout_rate,
            "input_dropout_rate": self.input_dropout_rate,
        }

    def _start(self, features: int) -> MLP:
        """A new network, for the first call of `partial_fit`."""
        weights_seed, self._seed = self._seeds(check_random_state(self.random_state))
        self._architecture = self._architecture_for(features, len(self.classes_))
        self._opt_state, self.n_iter_ = None, 0
        model = MLP(**self._architecture, rngs=nnx.Rngs(weights_seed))
        model.eval()
        return model

    def _tx(self) -> optax.GradientTransformation:
        return made_tx(self.optimizer, self.learning_rate, self.optimizer_kwargs or {})

    @staticmethod
    def _seeds(random: np.random.RandomState) -> list[int]:
        """Seeds of the weights and of the order."""
        return random.randint(np.iinfo(np.int32).max, size=2).tolist()
