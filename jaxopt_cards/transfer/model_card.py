"""Cards of models in a zoo: JSON from untrusted sources, validated field by field."""

import dataclasses
import datetime
import json
import reprlib
import string
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.transfer.files.foreign import SLACK, UnfitError, check_json
from jaxopt_cards.transfer.files.safetensors import DTYPES

MAX_CARD_BYTES = 2**23  # 50,000 arrays
DTYPE_NAMES = [np.dtype(dtype).name for dtype in DTYPES.values()]


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """The description of a model in a zoo; `Zoo.store` writes it as JSON."""

    name: str  # of the folder
    data: str  # what the model was trained and evaluated on
    accuracy: float  # in [0, 1], on held-out data
    description: str
    kind: str  # the model's class
    settings: dict[str, Any] | None  # arguments of `layers.MLP`; None if unknown
    arrays: dict[str, str]  # path: dtype[shape]
    sha256: str  # of the file of weights
    size: int  # of the file of weights, bytes
    created: str  # date and time, ISO 8601
    versions: dict[str, str]  # library: version

    def to_json(self) -> str:
        """The contents of `card.json`."""
        fields = dataclasses.asdict(self)
        del fields["name"]  # the folder may be renamed
        return json.dumps({"format": 1} | fields, indent=1, ensure_ascii=False) + "\n"


def card_from(text: bytes, name: str) -> ModelCard:
    """The card in a JSON text; raises `ValueError` if it is not valid."""
    try:
        check_json(text, 10 * len(text) + SLACK)
        fields = json.loads(text, parse_constant=_refused, object_pairs_hook=_distinct)
    except UnfitError as error:
        raise ValueError(f"it {error}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(fields, dict):
        raise ValueError(f"it must be an object, got {reprlib.repr(fields)}")
    if differing := sorted(fields.keys() ^ CHECKS.keys()):
        some = reprlib.repr(differing)  # shortened, since there may be a million
        raise ValueError(f"its fields must be {sorted(CHECKS)}; missing or unknown: {some}")
    for field, (expected, check) in CHECKS.items():
        if not check(fields[field]):
            raise ValueError(f"{field} must {expected}, got {reprlib.repr(fields[field])}")
    del fields["format"]
    return ModelCard(name=name, **fields)


def text_of(card: ModelCard) -> bytes:
    """The card's text; raises unless it can be read again, as for invalid or too many paths."""
    text = card.to_json().encode()
    try:
        if len(text) > MAX_CARD_BYTES:
            raise ValueError(f"it has {len(text):,} bytes, at most {MAX_CARD_BYTES:,} are allowed")
        card_from(text, card.name)
    except ValueError as error:
        raise NamedError(f"this model cannot be described on a card: {error}") from error
    return text


def _refused(constant: str) -> None:
    raise ValueError(f"it has {constant}, which is not valid JSON")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("it has a key twice")
    return fields


def is_text(value: Any, most: int = 500, lines: bool = False) -> bool:
    """Whether it is printable text, without control characters for a terminal."""
    shown = value.replace("\n", "") if lines and isinstance(value, str) else value
    return isinstance(shown, str) and len(value) <= most and shown.isprintable()


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_share(value: Any, *, below_one: bool = False) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and (0 <= value < 1 if below_one else 0 <= value <= 1)


def _is_rate(value: Any) -> bool:
    return value is None or _is_share(value, below_one=True)


def _is_width(value: Any) -> bool:
    return _is_whole(value, 1, 2**31)


def _is_batch_norm(value: Any) -> bool:
    """Whether it has the options of a `layers.BatchNorm`."""
    return (
        isinstance(value, dict)
        and value.keys() == {"momentum", "epsilon", "before_activation", "on_logits"}
        and _is_share(value["momentum"], below_one=True)
        and _is_share(value["epsilon"])
        and value["epsilon"] > 0
        and all(isinstance(value[name], bool) for name in ("before_activation", "on_logits"))
    )


def _are_widths(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 10_000 and all(map(_is_width, value))


SETTINGS: dict[str, Callable[[Any], bool]] = {
    "in_features": _is_width,
    "out_features": _is_width,
    "units": _are_widths,
    "activation": is_text,
    "batch_norm": lambda value: isinstance(value, bool) or _is_batch_norm(value),
    "batch_norm_momentum": lambda value: _is_share(value, below_one=True),
    "dropout_rate": _is_rate,
    "input_dropout_rate": _is_rate,
    "drop_connect_rate": _is_rate,
}


def _are_settings(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and value.keys() == SETTINGS.keys()
        and all(check(value[name]) for name, check in SETTINGS.items())
    )


def _is_array(value: Any) -> bool:
    """Whether it is a dtype and a shape, such as `float32[784, 100]`."""
    if not is_text(value) or not value.endswith("]"):
        return False
    dtype, _, sizes = value[:-1].partition("[")
    digits = [size for size in sizes.split(", ") if sizes]
    numbers = all(size.isascii() and size.isdigit() and len(size) < 16 for size in digits)
    return dtype in DTYPE_NAMES and len(digits) <= 32 and numbers


def _are_arrays(value: Any) -> bool:
    arrays = isinstance(value, dict) and 0 < len(value) <= 50_000
    return arrays and all(is_text(path) and _is_array(kind) for path, kind in value.items())


def _is_date(value: Any) -> bool:
    try:
        datetime.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return is_text(value, 40)


def _are_versions(value: Any) -> bool:
    versions = isinstance(value, dict) and len(value) <= 50
    return versions and all(is_text(text, 100) for pair in value.items() for text in pair)


def _is_sha256(value: Any) -> bool:
    return is_text(value, 64) and len(value) == 64 and set(value) <= set(string.hexdigits.lower())


CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "format": ("be 1; others need a newer jaxopt_cards", lambda value: _is_whole(value, 1, 1)),
    "data": ("be one line of printable text", lambda value: is_text(value) and bool(value)),
    "accuracy": ("be a number in [0, 1]", _is_share),
    "description": ("be printable text", lambda value: is_text(value, 10_000, lines=True)),
    "kind": ("be one line of printable text", is_text),
    "settings": (f"be null or have the arguments {list(SETTINGS)} of MLP", _are_settings),
    "arrays": ("map paths to dtypes and shapes such as 'float32[784, 100]'", _are_arrays),
    "sha256": ("be 64 hexadecimal digits", _is_sha256),
    "size": ("be a number of bytes", lambda value: _is_whole(value, 8, 2**63)),
    "created": ("be a date in ISO 8601", _is_date),
    "versions": ("map names of libraries to versions", _are_versions),
}
