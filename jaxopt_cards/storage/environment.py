"""What bit-identical results depend on, besides the program and its inputs."""

import os
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

# The text of a program depends on these, and can be compared only if they are the same.
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "jaxopt_cards")


def environment(compiler_options: dict[str, Any]) -> dict[str, Any]:
    """Versions, devices, threads and compiler options, as JSON values."""
    versions = {name: _version(name) for name in LIBRARIES}
    device = jax.devices()[0]
    about: dict[str, Any] = {"platform": device.platform, "device": device.device_kind}
    if device.platform == "cpu":
        about |= {"device": _processor(), "threads": _threads()}
    flags = {name: os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")}
    flags = {name: " ".join(sorted(_flags(value))) for name, value in flags.items()}
    return versions | about | {"compiler options": compiler_options} | flags


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:  # run from its sources
        return "unknown"


def _threads() -> int:
    """The number of threads of XLA's CPU client, determined in the same way as there."""
    asked = os.environ.get("PJRT_NPROC", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    """The name of the processor for which XLA compiles, if Linux provides it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown processor"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown processor")


def _flags(value: str) -> list[str]:
    """All flags except those for dumps and the number of devices, which is compared elsewhere."""
    idle = ("--xla_dump", "--xla_force_host_platform_device_count")
    return [flag for flag in value.split() if not flag.startswith(idle)]
