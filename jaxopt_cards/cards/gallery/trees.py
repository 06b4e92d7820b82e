"""Pictures of trees of parameters: selected, partitioned or packed."""

import jax
import jax.numpy as jnp
from matplotlib.axes import Axes

import jaxopt_cards as jc
from jaxopt_cards.cards.gallery.drawing import box, draws, stacks
from jaxopt_cards.core.paths import named

_PARAMS = {
    "hidden1": {"kernel": jnp.ones((8, 4)), "bias": jnp.ones(4)},
    "hidden2": {"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)},
    "logits": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)},
}


@draws("select")
def _select(ax: Axes, name: str) -> str:
    marks = named(jc.select(_PARAMS, "hidden.*kernel"))
    boxes = [(path, "taken" if marked else "skipped") for path, marked in marks]
    stacks(ax, [("parameters", boxes)])
    return 'select(params, "hidden.*kernel")'


@draws("partition_params", "merge_params")
def _partition(ax: Axes, name: str) -> str:
    selected, rest = jc.partition_params(_PARAMS, "logits")
    paths = [path for path, _ in named(jc.merge_params(selected, rest))]
    columns = [("params", [(path, "given") for path in paths])]
    for title, part, role in (("selected", selected, "trained"), ("rest", rest, "frozen")):
        there = {path for path, leaf in named(part) if leaf is not None}
        boxes = [(path, role) if path in there else ("None", "skipped") for path in paths]
        columns.append((title, boxes))
    if name == "merge_params":
        stacks(ax, [*columns[1:], columns[0]], arrows=False)
        return "two parts are merged into one tree"
    stacks(ax, columns, arrows=False)
    return 'partition_params(params, "logits")'


@draws("pack_params", "unpack_params", "pack_small_leaves")
def _packed(ax: Axes, name: str) -> str:
    packed = jc.pack_params(_PARAMS, max_size=20)
    whole = [leaf for leaf in jax.tree.leaves(packed.large) if leaf is not None]
    rows = {
        "a tree of leaves": [leaf.size for _, leaf in named(_PARAMS)],
        "packed": [leaf.size for leaf in [*whole, *packed.small]],
    }
    if name == "unpack_params":
        rows = dict(reversed(rows.items()))
    for row, (title, sizes) in enumerate(reversed(rows.items())):
        left = 0
        for size in sizes:
            small = title != "packed" and size <= 20
            role = "taken" if small or (title == "packed" and size > max(_sizes())) else "given"
            box(ax, str(size), role, left, row, size - 0.4, 0.55)
            left += size
        ax.text(0, row + 0.62, f"{title}: {len(sizes)} arrays", fontsize=8)
    ax.set(xlim=(-1, sum(_sizes()) + 1), ylim=(-0.2, 2))
    ax.set_axis_off()
    return f"{len(_sizes())} leaves, {len(rows['packed'])} arrays"


def _sizes() -> list[int]:
    return [leaf.size for _, leaf in named(_PARAMS)]
