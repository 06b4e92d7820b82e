"""The report of `restore`."""

import dataclasses

from jaxopt_cards.core.checks import escaped


@dataclasses.dataclass(frozen=True)
class RestoreReport:
    """What was done with each parameter; print it.

    Attributes:
        taken: maps paths to the paths under which they were saved.
        skipped: maps paths to the reason why they were not restored.
        refused: maps paths to the reason why the saved array does not fit.
        cast: maps paths to the saved dtype, if `cast=True` changed it.
        unused: the other saved paths.
        warnings: maps paths of arrays or layers to what is ambiguous: the axes of a square kernel,
            a transposed convolution that needs `transpose_kernel=True`, or the epsilon of a
            normalisation.
    """

    taken: dict[str, str]
    skipped: dict[str, str]
    refused: dict[str, str]
    cast: dict[str, str] = dataclasses.field(default_factory=dict)
    unused: tuple[str, ...] = ()
    warnings: dict[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        """One line per path."""
        lines = [
            f"taken    {path}"
            + (f" from {origin}" if origin != path else "")
            + (f", cast from {self.cast[path]}" if path in self.cast else "")
            for path, origin in self.taken.items()
        ]
        lines += [f"skipped  {path}: {why}" for path, why in self.skipped.items()]
        lines += [f"refused  {path}: {why}" for path, why in self.refused.items()]
        lines += [f"unused   {path} was saved, but not used" for path in self.unused]
        paths: dict[str, list[str]] = {}
        for path, why in self.warnings.items():
            paths.setdefault(why, []).append(path)
        lines += [f"warning  {_few(names)}: {why}" for why, names in paths.items()]
        return "\n".join(map(escaped, lines))


def _few(names: list[str]) -> str:
    """The first three names, and the number of the others."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
