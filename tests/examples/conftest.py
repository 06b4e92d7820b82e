"""The examples as in a user's process."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _as_users_run_them(monkeypatch, pytestconfig):
    monkeypatch.syspath_prepend(pytestconfig.rootpath / "examples")
    with (
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
    ):
        yield
