"""Choosing hyperparameters: folds and candidates as populations of runs."""

import csv
import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Unpack

import numpy as np
import optax
from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError, check_count, check_seed
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError, NotFiniteError
from jaxopt_cards.core.text_tables import printed
from jaxopt_cards.training.many_runs import always, fit_many
from jaxopt_cards.training.outcome import FitResult
from jaxopt_cards.training.settings import BY_EPOCHS, RUN, RunSettings

MakeModel = Callable[..., nnx.Module]
MakeTx = Callable[..., optax.GradientTransformation]


class _Folds(NamedTuple):
    """One validation set for all; or for each fold its rows to train and to validate on."""

    valid: Any = None
    rows: Sequence[Any] = ()


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What `random_search` returns.

    Attributes:
        table: one row for each candidate, the best first: `rank`, its hyperparameters, the means
            and standard deviations over folds of `valid_loss` and `valid_accuracy` in the best
            epoch, the mean `best_epoch`, and `epochs`, the limit it was given.
        best: the hyperparameters of the first row.
    """

    table: list[dict[str, Any]]
    best: dict[str, Any]

    def save(self, path: str | os.PathLike) -> None:
        """Writes the table as CSV."""
        with Path(path).open("w", newline="") as file:
            writer = csv.DictWriter(file, self.table[0])
            writer.writeheader()
            writer.writerows(self.table)

    def __str__(self) -> str:
        """The table, aligned."""
        columns = ({"header": each, "justify": "right", "no_wrap": True} for each in self.table[0])
        rows = (map(_short, row.values()) for row in self.table)
        return printed(rows, *columns, width=10**4)


_REFUSED = BY_EPOCHS | {
    "valid": "be given as cv=(x, y)",
    "folds": "be given as cv",
    "seeds": "come from seed",
    "mesh": "be given as placement=mesh",
}


@declare(settings=RUN, refused=_REFUSED)
def cross_validate(
    make_model: MakeModel,
    tx: optax.GradientTransformation,
    *,
    train: Sequence[Any],
    cv: Any = 3,
    seed: int = 0,
    batch_size: int = 32,
    side_by_side: int | None = None,
    placement: Any = None,
    **settings: Unpack[RunSettings],
) -> list[FitResult]:
    r"""Trains one model for each fold of the data, as one program.

    Args:
        make_model: `make_model(rngs=...)` returns a new NNX module. Each fold has its own seed.
        tx: any gradient transformation.
        train: pair (x, y), or (x, y, weight).
        cv: int in [2, inf), the number of folds, which are shuffled and stratified by label; or
            a splitter of scikit-learn.
        seed: int in [0, inf); seed of the folds, the weights and the order of the examples.
        batch_size: int in [1, inf); examples per batch.
        side_by_side: as in `fit_many`.
        placement: as in `fit_many`.
        settings: `epochs`, `patience`, `loss`, `regularizer`, `augment`, `plateau`, `trainable`,
            `evaluated` and `progress` as in `fit`.

    Returns:
        A list of `FitResult`, one for each fold.

    Raises:
        ValueError: as in `fit_many`; a `cv` that is neither a number of folds nor a splitter.

    References:
        Mervyn Stone (1974), Cross-Validatory Choice and Assessment of Statistical Predictions.
        Géron (2017), chapter 11, exercise 8.3.

    Use when: there are few data, and the result would depend on the choice of a validation set.
    Avoid when: there are many: one validation set is as accurate in a fraction of the time.

    Example:
        >>> import jaxopt_cards as jc
        >>> from jaxopt_cards import data, layers, training
        >>> net = lambda rngs: layers.MLP(64, 10, units=(20,), rngs=rngs)
        >>> results = training.cross_validate(
        ...     net, jc.adam(1e-2), train=data.digits().train, cv=3, epochs=3, progress=False
        ... )
        >>> all(result.history.valid_accuracy[-1] > 0.8 for result in results)
        True
    """
    _check_make_model(make_model)
    folds = _folds(train, cv, seed)
    shared = _shared(settings, batch_size, side_by_side, placement)
    return _on_folds(make_model, always(tx), [{}], train, folds, seed, shared)


@declare(settings=RUN, refused=_REFUSED)
def random_search(
    make_model: MakeModel,
    make_tx: MakeTx,
    space: Mapping[str, Any],
    *,
    train: Sequence[Any],
    candidates: Annotated[int, "[1, inf)"] = 20,
    cv: Any = 3,
    halving: int | None = None,
    by: str = "valid_loss",
    seed: int = 0,
    batch_size: int = 32,
    side_by_side: int | None = None,
    placement: Any = None,
    **settings: Unpack[RunSettings],
) -> SearchResult:
    r"""Draws candidates at random, trains each on every fold, and sorts them.

    All candidates of one shape run in one program, whatever their learning rates, momenta, decays
    or dropout rates.

    Args:
        make_model: `make_model(rngs=..., ...)` returns a new NNX module. It is given those
            hyperparameters of a candidate that are among its arguments.
        make_tx: `make_tx(...)` returns a gradient transformation, such as `adam` or a function of
            `learning_rate` and `weight_decay`. It is given its hyperparameters in the same way.
        space: for each hyperparameter a list of values, or a distribution of `scipy.stats`:
            `{"learning_rate": scipy.stats.loguniform(1e-4, 1e-1), "units": [(50,), (100,)]}`.
            `batch_size` may be one of them.
        train: pair (x, y), or (x, y, weight).
        candidates: how many to draw. A smaller grid is tried completely.
        cv: as in `cross_validate`; or a pair (x, y), one validation set for all candidates.
        halving: int in [2, inf); the factor of successive halving: all candidates are trained for
            a few epochs, the best one in `halving` of them starts again with `halving` times as
            many, and so on up to `epochs`. Default: all candidates are trained for `epochs`.
        by: "valid_loss" or "valid_accuracy"; the column by which the table is sorted.
        seed: int in [0, inf); seed of candidates, folds, weights and the order of the examples.
        batch_size: int in [1, inf), if `space` has none.
        side_by_side: as in `fit_many`.
        placement: as in `fit_many`.
        settings: `epochs`, `patience`, `loss`, `regularizer`, `augment`, `plateau`, `trainable`,
            `evaluated` and `progress` as in `fit`.

    Returns:
        A `SearchResult`: `table`, `best`, `save(path)`.

    Raises:
        ValueError: as in `fit_many`; a hyperparameter that neither function takes.

    References:
        James Bergstra, Yoshua Bengio (2012), Random Search for Hyper-Parameter Optimization. Kevin
        Jamieson, Ameet Talwalkar (2016), Non-stochastic Best Arm Identification and Hyperparameter
        Optimization. Géron (2017), chapter 11, exercise 8.3.

    Use when: several hyperparameters matter, and you do not know which.
    Avoid when: you look for one number: `learning_rate_range` shows the whole curve.

    Example:
        >>> import jaxopt_cards as jc
        >>> from jaxopt_cards import data, layers, training
        >>> def net(rngs, units):
        ...     return layers.MLP(64, 10, units=units, rngs=rngs)
        >>> result = training.random_search(
        ...     net, jc.adam, {"learning_rate": [1e-5, 1e-2], "units": [(10,), (30,)]},
        ...     train=data.digits().train, cv=2, epochs=3, progress=False,
        ... )
        >>> result.best
        {'learning_rate': 0.01, 'units': (30,)}
    """
    _check_make_model(make_model)
    if not callable(make_tx):
        expected = "be a function that returns a gradient transformation, such as adam"
        raise HyperparameterError("make_tx", expected, make_tx)
    if by not in ("valid_loss", "valid_accuracy"):
        raise HyperparameterError("by", 'be "valid_loss" or "valid_accuracy"', by)
    if halving is not None:
        check_count("halving", halving, least=2)
    folds = _folds(train, cv, seed)
    drawn = _drawn(space, candidates, seed)
    table: list[dict[str, Any]] = []
    shared = _shared(settings, batch_size, side_by_side, placement)
    for budget in _budgets(len(drawn), settings["epochs"], halving):
        results = _on_folds(
            make_model, make_tx, drawn, train, folds, seed, shared | {"epochs": budget}
        )
        per = len(results) // len(drawn)
        rows = [
            candidate | scores(results[index * per : (index + 1) * per]) | {"epochs": budget}
            for index, candidate in enumerate(drawn)
        ]
        order = np.argsort([_badness(row, by) for row in rows], stable=True).tolist()
        # Those that went further stand before those that were dropped.
        table = [rows[i] for i in order] + table[len(rows) :]
        drawn = [drawn[i] for i in order[: max(1, len(order) // (halving or 1))]]
    if np.isnan(table[0][by]):
        raise NotFiniteError(
            f"{by} is not finite for any candidate: {results[0].trouble or 'no classes'}"
        )
    table = [{"rank": rank} | row for rank, row in enumerate(table, 1)]
    return SearchResult(table, {key: table[0][key] for key in space})


def _check_make_model(make_model: Any) -> None:
    """Raises unless it is a function; a module is callable too, but with inputs."""
    if not callable(make_model) or isinstance(make_model, nnx.Module):
        expected = "be a function that returns a module"
        raise HyperparameterError("make_model", expected, make_model)


def _shared(settings: Mapping[str, Any], batch_size: Any, side_by_side: Any, placement: Any) -> Any:
    """What all runs have in common, as arguments of `fit_many`."""
    placed = {"side_by_side": side_by_side, "placement": placement}
    return {"batch_size": batch_size, **placed, **settings}


def _on_folds(
    make_model: MakeModel,
    make_tx: MakeTx,
    drawn: list[dict[str, Any]],
    train: Sequence[Any],
    folds: _Folds,
    seed: int,
    settings: dict[str, Any],
) -> list[FitResult]:
    """The results of each candidate on each fold, candidate by candidate."""
    to_model, to_tx = _taken(make_model, make_tx, drawn[0])
    runs = [(candidate, i) for candidate in drawn for i in range(len(folds.rows) or 1)]
    if "batch_size" in drawn[0]:
        settings = settings | {"batch_size": [candidate["batch_size"] for candidate, _ in runs]}
    return fit_many(
        [
            make_model(rngs=nnx.Rngs(seed + i), **{key: candidate[key] for key in to_model})
            for candidate, i in runs
        ],
        make_tx,
        [{key: candidate[key] for key in to_tx} for candidate, _ in runs],
        train=train,
        valid=folds.valid,
        folds=[folds.rows[i] for _, i in runs] if folds.rows else None,
        seeds=[seed + i for _, i in runs],
        **settings,
    )


def _folds(train: Sequence[Any], cv: Any, seed: int) -> _Folds:
    """What `cv` stands for."""
    check_seed("seed", seed)
    if isinstance(cv, Sequence) and not isinstance(cv, str):
        return _Folds(valid=cv)
    x, y = (np.asarray(array) for array in train[:2])
    if hasattr(cv, "split"):
        return _Folds(rows=list(cv.split(x, y)))
    check_count("cv", cv, least=2)
    from sklearn import model_selection  # here, since it takes long to import

    splitter = model_selection.StratifiedKFold(cv, shuffle=True, random_state=seed)
    try:
        return _Folds(rows=list(splitter.split(x, y)))
    except ValueError as error:
        raise NamedError(
            f"cv={cv} cannot keep the share of each label: {error} Give a splitter, such as KFold.",
        ) from None


def _drawn(space: Mapping[str, Any], candidates: int, seed: int) -> list[dict[str, Any]]:
    """Candidates from the space, as scikit-learn draws them; a small grid whole."""
    from sklearn import model_selection

    if not space:
        raise NamedError("space is empty")
    try:
        if not any(hasattr(values, "rvs") for values in space.values()):
            grid = list(model_selection.ParameterGrid(dict(space)))
            if len(grid) <= candidates:
                return [{key: drawn[key] for key in space} for drawn in grid]
        sampler = model_selection.ParameterSampler(dict(space), candidates, random_state=seed)
        return [{key: drawn[key] for key in space} for drawn in sampler]
    except (TypeError, ValueError) as error:
        raise NamedError(f"space must map names to values: {error}") from None


def _taken(
    make_model: MakeModel, make_tx: MakeTx, candidate: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """Which hyperparameters the model takes, and which the transformation."""
    of_model, of_tx = _parameters(make_model), _parameters(make_tx)
    to_tx = [key for key in candidate if key in of_tx]
    # Such a model takes all arguments that the transformation does not.
    anything = "**" in of_model
    to_model = [
        key
        for key in candidate
        if key in of_model or (anything and key not in {*of_tx, "batch_size"})
    ]
    if unknown := set(candidate) - {"batch_size", *to_model, *to_tx}:
        raise NamedError(f"neither make_model nor make_tx takes {', '.join(sorted(unknown))}")
    return to_model, to_tx


def _parameters(make: Callable[..., Any]) -> list[str]:
    """The names that a function takes, or a class, whose own signature NNX hides."""
    while isinstance(make, functools.partial):
        make = make.func
    called = make.__init__ if isinstance(make, type) else make  # type: ignore[misc]
    parameters = inspect.signature(called).parameters.values()
    return ["**" if p.kind == p.VAR_KEYWORD else p.name for p in parameters]


def _budgets(candidates: int, epochs: int, halving: int | None) -> list[int]:
    """The epochs of each round: `epochs` in the last, when few candidates are left."""
    if halving is None:
        return [epochs]
    rounds = 1
    while candidates >= halving**rounds and epochs >= halving**rounds:
        rounds += 1
    return [epochs // halving**i for i in reversed(range(rounds))]


def scores(results: list[FitResult]) -> dict[str, float]:
    """Means and deviations over runs, folds or seeds, in each one's best epoch."""
    scores: dict[str, float] = {}
    for column in ("valid_loss", "valid_accuracy"):
        values = [
            getattr(r.history, column)[r.best_epoch - 1] if r.best_epoch else np.nan
            for r in results
        ]
        scores |= {column: float(np.mean(values)), f"{column}_std": float(np.std(values))}
    return scores | {"best_epoch": float(np.mean([r.best_epoch for r in results]))}


def _badness(row: Mapping[str, Any], by: str) -> float:
    """What sorts the table, upwards; a candidate that diverged comes last."""
    value = row[by] if by == "valid_loss" else -row[by]
    return np.inf if np.isnan(value) else value


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
