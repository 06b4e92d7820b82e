"""Epochs of the chapter's exercises as most people write them in PyTorch, on the CPU."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from jaxopt_cards import data
from tests.bench.epochs import BATCH


def described() -> str:
    """What runs the loops; the number of threads is PyTorch's own choice."""
    return f"PyTorch {torch.__version__} with {torch.get_num_threads()} threads, its default"


def sliced(train: data.Examples) -> Callable[[], Any]:
    """An epoch of 8.2 over tensors that are cut by a shuffled index."""
    model = _mlp()
    return _epoch(model, torch.optim.Adam(model.parameters(), lr=1e-4), _cut(train))


def loaded(train: data.Examples) -> Callable[[], Any]:
    """The same with a `DataLoader`, in this process."""
    loader = DataLoader(TensorDataset(*_tensors(train)), batch_size=BATCH, shuffle=True)
    model = _mlp()
    return _epoch(model, torch.optim.Adam(model.parameters(), lr=1e-4), lambda: loader)


def frozen(train: data.Examples) -> Callable[[], Any]:
    """An epoch of 9.2: the layers below do not learn, but each batch passes through them."""
    model = _mlp()
    model[:-1].requires_grad_(False)
    adamw = torch.optim.AdamW(model[-1].parameters(), lr=1e-3, weight_decay=0.1)
    return _epoch(model, adamw, _cut(train))


def _cut(train: data.Examples) -> Callable[[], Iterable]:
    """Batches by a shuffled index, another one in each epoch."""
    x, y = _tensors(train)
    return lambda: ((x[rows], y[rows]) for rows in torch.randperm(len(y)).split(BATCH))


def _tensors(train: data.Examples) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(train[0]), torch.tensor(train[1], dtype=torch.int64)


def _mlp() -> nn.Sequential:
    widths = [784, *[100] * 5]
    pairs = itertools.pairwise(widths)
    hidden = [layer for a, b in pairs for layer in (nn.Linear(a, b), nn.ELU())]
    return nn.Sequential(*hidden, nn.Linear(100, 5))


def _epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: Callable[[], Iterable]
) -> Callable[[], Any]:
    mean_loss = nn.CrossEntropyLoss()

    def epoch() -> float:
        for x, y in batches():
            optimizer.zero_grad()
            loss = mean_loss(model(x), y)
            loss.backward()
            optimizer.step()
        return loss.item()

    return epoch
