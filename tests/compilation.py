"""How XLA compiles in tests: most of their time is compilation.

`QUICK` turns off what makes programs fast, for the whole process and its children. `AS_FOR_USERS`
turns it on again for the epochs of the trainer, in tests that compare bits.
"""

import importlib.metadata

# The older code generator, which JAX 0.11 no longer has, compiles small programs in half the time.
_CHOSEN = int(importlib.metadata.version("jaxlib").split(".")[1]) < 11
_FLAGS = {
    "xla_backend_optimization_level": (0, 3),
    "xla_llvm_disable_expensive_passes": (True, False),
} | ({"xla_cpu_use_fusion_emitters": (False, True)} if _CHOSEN else {})

QUICK = " ".join(f"--{name}={str(quick).lower()}" for name, (quick, _) in _FLAGS.items())
AS_FOR_USERS = {name: usual for name, (_, usual) in _FLAGS.items()}
