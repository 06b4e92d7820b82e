"""Several devices, and several processes, give what one device gives."""

import os
import re
import socket
import subprocess
import sys

import pytest
from jax.sharding import PartitionSpec

from tests.training.test_fit import fit

SETTINGS = """
import jax, numpy as np
from flax import nnx
from jax.sharding import Mesh, PartitionSpec as P
import jaxopt_cards as jc
from jaxopt_cards import layers, training
rng = np.random.default_rng(0)
y = rng.integers(0, 4, 160)
x = (np.eye(4, 6)[y] * 2 + rng.normal(size=(160, 6))).astype(np.float32)
data = {"train": (x[:120], y[:120]), "valid": (x[120:], y[120:]), "batch_size": 16, "epochs": 4}
net = lambda seed: layers.MLP(6, 4, units=(16, 8), batch_norm=True, rngs=nnx.Rngs(seed))
adam = jc.adam(1e-2)
close = lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
def same(one, other):
    for ours, theirs in zip(one.history[:3], other.history[:3]):
        close(ours, theirs)
    assert one.best_epoch == other.best_epoch
"""

EIGHT = """
mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "model"))
alone = training.fit(net(0), adam, **data, progress=False)
rules = {"kernel": P(None, "model")}
placement = training.Placement(mesh, rules)
spread = training.fit(net(0), adam, **data, progress=False, placement=placement)
same(spread, alone)
kernel = spread.model.hidden1.kernel[...]
assert kernel.sharding.spec == P(None, "model") and len(kernel.sharding.device_set) == 8
assert {s.data.shape for s in kernel.addressable_shards} == {(6, 8)}
close(kernel, alone.model.hidden1.kernel[...])

rates = [{"learning_rate": rate} for rate in (1e-3, 1e-2, 3e-2, 1e-1, 3e-1)]
results = training.fit_many(
    [net(seed) for seed in range(5)], jc.adam, rates, **data, progress=False, placement=mesh
)
for seed, (rate, result) in enumerate(zip(rates, results)):
    same(result, training.fit(net(seed), jc.adam(**rate), **data, progress=False))
print("as on one device")
"""

PROCESS = """
jax.config.update("jax_cpu_collectives_implementation", "gloo")
import sys
address, number = sys.argv[1], int(sys.argv[2])
jax.distributed.initialize(address, num_processes=2, process_id=number)
assert jax.process_count() == 2 and len(jax.devices()) == 4
mesh = Mesh(np.array(jax.devices()), ("data",))
result = training.fit(net(0), adam, **data, progress=False, placement=mesh)
print("valid_loss", *result.history.valid_loss, flush=True)
"""


def started(script, devices, *arguments):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-c", SETTINGS + script, *arguments],
        env={**os.environ, "XLA_FLAGS": flags},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_eight_devices_give_what_one_gives():
    out, err = started(EIGHT, 8).communicate()
    assert out == "as on one device\n", err


def test_two_processes_give_what_one_gives():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    both = [started(PROCESS, 2, address, str(number)) for number in (0, 1)]
    one = "result = training.fit(net(0), adam, **data, progress=False)\n"
    alone = started(one + PROCESS.splitlines()[-1], 1)
    (first, error), (second, _), (expected, _) = (p.communicate() for p in (*both, alone))
    # Gloo prints lines of its own.
    numbers = [re.search("valid_loss (.*)", text) for text in (first, second, expected)]
    assert all(numbers), error
    first, second, expected = ([float(n) for n in found[1].split()] for found in numbers)
    assert first == second
    assert first == pytest.approx(expected, rel=1e-4)


def test_bad_arguments():
    import jax
    import numpy as np

    from jaxopt_cards import training

    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    rules = {"hiden": PartitionSpec("data")}
    with pytest.raises(
        ValueError, match=r"sharding has 'hiden', which matches none of the paths\n"
    ):
        fit(placement=training.Placement(mesh, rules))
    with pytest.raises(ValueError, match=r"fit: sharding must be given as placement=Placement\("):
        fit(sharding=rules)
    with pytest.raises(ValueError, match=r"fit: mesh must be given as placement=mesh, got \(8,\)"):
        fit(mesh=(8,))
    with pytest.raises(ValueError, match=r"fit: placement must be a Placement or a jax.sharding.M"):
        fit(placement=(8,))
    with pytest.raises(
        ValueError, match=r"Placement: mesh must be a jax.sharding.Mesh, got \(8,\)"
    ):
        training.Placement((8,))
    with pytest.raises(
        ValueError, match="Placement: sharding must map to PartitionSpec, got 'data'"
    ):
        training.Placement(mesh, {"hidden": "data"})
