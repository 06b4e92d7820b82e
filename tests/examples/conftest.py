"""The examples as in a user's process, but compiled in half the time: they run and tell."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _as_users_run_them(monkeypatch, pytestconfig, quick_compilation):
    monkeypatch.syspath_prepend(pytestconfig.rootpath / "examples")
    with (
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
    ):
        yield
