"""The examples as in a user's process, but compiled in half the time."""

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


@pytest.fixture(autouse=True, scope="package")
def _compiled_quickly():
    """What is tested here is that they run and tell, not how fast: that takes half the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
