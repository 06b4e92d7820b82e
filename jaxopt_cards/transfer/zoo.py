"""A folder of trained models, each with a card that says what it is."""

import contextlib
import datetime
import hashlib
import importlib.metadata
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError, escaped
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.paths import listed
from jaxopt_cards.core.text_tables import printed
from jaxopt_cards.core.warnings import warn
from jaxopt_cards.selection import compiled
from jaxopt_cards.storage.locks import locked
from jaxopt_cards.transfer.model_card import CHECKS, MAX_CARD_BYTES, ModelCard, card_from, text_of
from jaxopt_cards.transfer.model_files import (
    arrays_of,
    built_from,
    check_ranges,
    check_rates,
    check_same,
    described,
    filled,
    from_bytes,
    settings_of,
    to_bytes,
)
from jaxopt_cards.transfer.zoo_folder import (
    check_free,
    folder_of,
    model_names,
    plain_file,
    read_whole,
    write,
)

_Cards = list[ModelCard]  # in the class, `list` is its method
_LIBRARIES = ("jaxopt_cards", "jax", "flax", "numpy", "safetensors")


class Zoo:
    r"""Stores trained models in a folder, each with its card, and finds and loads them again.

    A model is a folder of two files, both open formats: `weights.safetensors` has the arrays under
    flat names such as `hidden1/kernel`, which any reader of safetensors opens; `card.json` is UTF-8
    text with `format` (1), `data`, `accuracy`, `description`, `kind` (the model's class),
    `settings` (arguments that build a `layers.MLP` again, or null), `arrays` (path: dtype and
    shape), `sha256` and `size` of the file of weights, `created` and `versions` of the libraries.
    `print(zoo)` shows the cards as a table.

    Models of strangers are safe to load: nothing in them is run, sizes are limited, links are not
    followed, and all that a card says is checked. The SHA-256 tells damage; it does not tell who
    made a model. Stored are parameters, running statistics and rates of dropout, not streams of
    random numbers.

    Several processes may store, replace and load models at once: a lock on the folder, where the
    system has one, lets each see whole models only.

    Args:
        directory: folder of the models; made when the first one is stored.
        max_bytes: whole number > 0; files of weights that are larger are not read. Default: 8 GiB.

    Returns:
        An object with `store`, `load`, `card`, `list` and `find`.

    State:
        On disk, the arrays of each model.

    Raises:
        ValueError: an invalid, taken or unknown name; a card or weights that are damaged, or do not
            fit together or the model (the message names the file); rates outside of [0, 1), and
            variances below zero or infinite.
        OSError: a model could not be written, as when the disk is full; nothing of it is left.
        ImportError: safetensors is not installed.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, "Model Zoos". Margaret Mitchell et al. (2019), Model Cards for Model Reporting.

    Use when: models are to be found again by what they can do, or handed to others.
    Avoid when: a run is to go on; `training.fit` has checkpoints with the optimizer's state.

    Example:
        >>> import tempfile
        >>> from flax import nnx
        >>> from jaxopt_cards import layers, transfer
        >>> model = layers.MLP(64, 10, units=(20,), rngs=nnx.Rngs(0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     zoo = transfer.Zoo(folder)
        ...     card = zoo.store("digits-mlp", model, data="digits", accuracy=0.95)
        ...     [card.name for card in zoo.find("mlp", min_accuracy=0.9)], type(zoo.load(card.name))
        (['digits-mlp'], <class 'jaxopt_cards.layers.mlp.MLP'>)
    """

    @declare
    def __init__(
        self, directory: str | os.PathLike, *, max_bytes: Annotated[int, "[1, inf)"] = 2**33
    ):
        """Looks at the folder; the arguments are described with the class."""
        self._directory, self._max_bytes = Path(directory), max_bytes
        if self._directory.exists() and not self._directory.is_dir():
            raise HyperparameterError("directory", "be a folder", str(directory))

    @declare
    def store(
        self,
        name: str,
        model: nnx.Module,
        *,
        data: str,
        accuracy: Annotated[float, "[0, 1]"],
        description: str = "",
        replace: bool = False,
    ) -> ModelCard:
        """Writes a model and its card; a name that is taken is refused unless `replace`.

        The folder appears at once, when both files are whole. A process killed before that leaves a
        hidden `.storing-*`, never read, to be deleted by hand.
        """
        check_free(self._directory, name, replace)
        if not isinstance(model, nnx.Module):
            raise HyperparameterError("model", "be an nnx.Module", type(model))
        for field, text in {"data": data, "description": description}.items():
            expected, is_valid = CHECKS[field]
            if not is_valid(text):
                raise HyperparameterError(field, expected, text)
        arrays = arrays_of(model)
        try:
            check_ranges(model, arrays)
        except ValueError as error:
            raise NamedError(f"no zoo can hold this model: {error}") from None
        weights = to_bytes(arrays)
        card = ModelCard(
            name=name,
            data=data,
            accuracy=float(accuracy),
            description=description,
            kind=type(model).__name__,
            settings=settings_of(model),
            arrays=described(arrays),
            sha256=hashlib.sha256(weights).hexdigest(),
            size=len(weights),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            versions={library: importlib.metadata.version(library) for library in _LIBRARIES},
        )
        files = {"weights.safetensors": weights, "card.json": text_of(card)}
        write(self._directory, name, files, replace)
        return card

    @declare
    def load(self, name: str, into: nnx.Module | None = None) -> Any:
        """The model, in eval mode, with the bits that were stored.

        `into` is a model of the same layers, which is copied and filled; an MLP as it was made
        needs none: its card has the settings.
        """
        if into is not None and not isinstance(into, nnx.Module):
            raise HyperparameterError("into", "be an nnx.Module", type(into))
        # Another process may replace the model meanwhile; a file that is open stays what it is.
        with locked(self._directory, shared=True):
            folder, card = self._folder_and_card(name)
            file = folder / "weights.safetensors"
            with _telling(file, "cannot be used"):
                stream = plain_file(file, self._max_bytes)
        with stream:
            if into is None and card.settings is None:
                raise NamedError(
                    f"the card of {name!r} cannot tell how to build a {card.kind}: make "
                    "one and give it as `into`",
                )
            with _telling(file, "cannot be used"):
                arrays = self._arrays(stream, card)
        with _telling(folder / "card.json", "does not fit"):
            check_same(described(arrays), card.arrays, "the file of weights", "the card")
            model = built_from(card) if into is None else into
            ours = described(arrays_of(model))
            check_same(card.arrays, ours, "the card", "the model")
            check_ranges(model, arrays)
            if into is None:
                check_rates(model, arrays)
        return filled(model, arrays)

    @declare
    def card(self, name: str) -> ModelCard:
        """What is known of a model."""
        return self._folder_and_card(name)[1]

    @declare
    def find(
        self,
        wanted: str | Callable[[ModelCard], bool] = "",
        *,
        data: str = "",
        min_accuracy: Annotated[float, "[0, 1]"] = 0.0,
    ) -> _Cards:
        """The cards that fit, best accuracy first.

        `wanted` is a regular expression, searched for in names, or a function of a card; `data` is
        a regular expression, searched for in what the card says of its data.
        """
        named = wanted if callable(wanted) else _searched("name", wanted)
        about = _searched("data", data)
        found = [c for c in self.list() if named(c) and about(c) and c.accuracy >= min_accuracy]
        return sorted(found, key=lambda card: -card.accuracy)

    @declare
    def list(self) -> _Cards:
        """All cards, by name; those that cannot be read are named in a warning and left out."""
        cards, damaged = [], []
        # A folder that is renamed while a directory is read may be missing from what was read.
        with locked(self._directory, shared=True):
            names = model_names(self._directory)
        for name in names:
            try:
                cards.append(self._folder_and_card(name)[1])
            except (ValueError, OSError) as error:
                damaged.append(str(error))
        if damaged:
            warn(f"Zoo.list: left out what cannot be read:{listed(damaged)}")
        return cards

    def __repr__(self) -> str:
        """Which folder it is."""
        return f"Zoo({str(self._directory)!r})"

    def __str__(self) -> str:
        """The cards as a table."""
        names = ("name", "data", "accuracy", "model", "arrays", "MB", "created")
        numbers = ("arrays", "MB")
        columns = [{"header": n, "justify": "right" if n in numbers else "left"} for n in names]
        rows = [
            (
                card.name,
                card.data,
                f"{card.accuracy:.2%}",
                card.kind,
                str(len(card.arrays)),
                f"{card.size / 1e6:.2f}",
                card.created[:10],
            )
            for card in self.list()
        ]
        return printed(rows, *columns, width=120)

    def _folder_and_card(self, name: str) -> tuple[Path, ModelCard]:
        """Where a model is, and what is known of it."""
        with locked(self._directory, shared=True):
            folder = folder_of(self._directory, name)
            file = folder / "card.json"
            with _telling(file, "is not a valid card"):
                return folder, card_from(read_whole(plain_file(file, MAX_CARD_BYTES)), name)

    def _arrays(self, stream: BinaryIO, card: ModelCard) -> dict[str, Any]:
        """The arrays of a file that is, to the last bit, the one that the card tells of."""
        contents = read_whole(stream)
        found = hashlib.sha256(contents).hexdigest()
        if (len(contents), found) != (card.size, card.sha256):
            raise ValueError(
                f"expected {card.size:,} bytes with the SHA-256 {card.sha256}, got "
                f"{len(contents):,} bytes with {found}"
            )
        return from_bytes(contents)


@contextlib.contextmanager
def _telling(file: Path, what: str) -> Iterator[None]:
    """Adds the function and the file to what is wrong with it."""
    try:
        yield
    except ValueError as error:
        why = error.message if isinstance(error, NamedError) else error
        raise NamedError(f"{escaped(file)} {what}: {why}") from error


def _searched(field: str, pattern: str) -> Callable[[ModelCard], bool]:
    search = compiled(pattern).search
    return lambda card: bool(search(getattr(card, field)))
