"""What importing the package gives, and what it does not cost."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from flax import nnx

import jaxopt_cards
from jaxopt_cards import data, layers, reports, schedules, training, transfer
from jaxopt_cards.core.declaration import declaration_of

SECTIONS = ["Equation:", "Args:", "Returns:", "State:", "Raises:", "References:", "Use when:"]
SECTIONS += ["Avoid when:", "Example:"]


def techniques():
    """The functions of ours that are public, and the model."""
    modules = (jaxopt_cards, schedules, data, layers, training, reports, transfer)
    found = {name: getattr(module, name) for module in modules for name in module.__all__}
    return [
        pytest.param(thing, id=name)
        for name, thing in found.items()
        if (inspect.isfunction(thing) or _is_card(thing))
        and thing.__module__.startswith("jaxopt_cards")
    ]


def _is_card(thing):
    """Whether it is a class of which users make objects, not one that functions return."""
    makers = (
        nnx.Module,
        layers.BatchNorm,
        training.Checkpointer,
        training.Checkpoints,
        training.DNNClassifier,
        training.EarlyStopping,
        training.Placement,
        transfer.Zoo,
    )
    return inspect.isclass(thing) and issubclass(thing, makers)


@pytest.mark.parametrize("technique", techniques())
def test_docstrings_have_the_sections_of_a_card_in_order(technique):
    doc = inspect.getdoc(technique)
    takes_arguments = bool(inspect.signature(technique).parameters)
    places = {section: doc.find(f"\n{section}") for section in SECTIONS}
    missing = {section for section, place in places.items() if place < 0}
    # What is left out follows from the declaration and from measurements: see tests/cards.
    assert missing <= {"Equation:", "Returns:", "State:", "Raises:"} | (
        set() if takes_arguments else {"Args:"}
    )
    found = [place for place in places.values() if place >= 0]
    assert found == sorted(found)


@pytest.mark.parametrize("technique", techniques())
def test_docstrings_are_raw_where_they_have_backslashes(technique):
    assert not re.search(r"[\t\f\a\b\v\r]", technique.__doc__)


@pytest.mark.parametrize("technique", techniques())
def test_every_argument_is_described(technique):
    doc = inspect.getdoc(technique)
    function = technique.__init__ if inspect.isclass(technique) else technique
    arguments = inspect.signature(function).parameters.keys() - {"self"}
    if "    settings: " not in doc and "settings" in arguments:
        arguments = arguments - {"settings"} | declaration_of(function).settings.keys()
    for argument in arguments:
        assert re.search(rf"^    (\w+, )*{argument}(, \w+)*: ", doc, re.MULTILINE), argument


def test_all_lists_every_public_name():
    stub = Path(jaxopt_cards.__file__).with_suffix(".pyi")
    listed = next(node.value for node in ast.parse(stub.read_text()).body if _is_all(node))
    assert ast.literal_eval(listed) == sorted(jaxopt_cards.__all__, key=lambda n: (n.islower(), n))
    for name in jaxopt_cards.__all__:
        assert getattr(jaxopt_cards, name).__name__.endswith(name)


def _is_all(node):
    return isinstance(node, ast.Assign) and ast.unparse(node.targets) == "__all__"


def loaded_by(code):
    """The packages that a new process imports beyond Optax and what that needs."""
    code = (
        f"import sys, optax; before = set(sys.modules); import jaxopt_cards; {code};"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    return set(loaded.stdout.split())


def test_optimizers_import_neither_flax_nor_anything_for_training():
    heavy = {"flax", "orbax", "matplotlib", "sklearn", "rich", "chex"}
    apart = {"cards", "data", "layers", "pictures", "reports", "training", "transfer"}
    names = f"{set(jaxopt_cards.__all__) - apart}"
    assert not heavy & loaded_by(f"[getattr(jaxopt_cards, name) for name in {names}]")


def test_the_package_alone_does_not_import_jax():
    code = "import sys, jaxopt_cards; print('jax' in sys.modules, 'optax' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert loaded.stdout.split() == ["False", "False"], loaded.stderr


# What code that uses Optax, the chapter and the papers expects to find.
NAMES = """
leafwise clip clip_by_global_norm clip_by_block_rms adaptive_grad_clip clip_by_norm trace
nesterov_point scale_by_true_nesterov scale_by_rss scale_by_adadelta scale_by_rms scale_by_stddev
scale_by_adam scale_by_adamax scale_by_amsgrad scale_by_radam scale_by_adabound scale_by_ftrl
lookahead add_decayed_weights add_l1_decay add_elastic_net proximal_l1 max_norm magnitude_prune
centralize add_noise ema keep_params_nonnegative apply_if_finite MultiSteps zero_nans identity
set_to_zero scale scale_by_schedule scale_by_learning_rate chain named_chain masked partition freeze
selective_transform inject_hyperparams apply_updates probe read_probes skip_nonfinite polyak_average
reduce_on_plateau compress_state pack_small_leaves sgd momentum nesterov adagrad adadelta rmsprop
adam nadam adamax amsgrad radam adamw adabound amsbound ftrl lbfgs select partition_params
merge_params layerwise_decay
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_every_name_is_there(name):
    assert callable(getattr(jaxopt_cards, name))


# Each may import those before it: an order without circles.
ORDER = ["core", "storage", "selection", "schedules", "transforms", "optimizers", "wrappers"]
ORDER += ["layers", "data", "training", "transfer", "pictures", "reports", "cards", "cli"]
ROOT = Path(jaxopt_cards.__file__).parent
FILES = [path for path in ROOT.rglob("*.py") if path.name != "__init__.py"]
PACKAGES = ["cards", "data", "layers", "pictures", "reports", "training", "transfer"]


def of_room(name):
    """The files of a package, or of a module."""
    return [*(ROOT / name).rglob("*.py"), *ROOT.glob(f"{name}.py")]


def test_every_room_has_its_place_in_the_order():
    rooms = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES}
    assert rooms - {"from_optax"} == set(ORDER)


@pytest.mark.parametrize("room", ORDER)
def test_imports_run_one_way(room):
    later = {f"jaxopt_cards.{name}" for name in ORDER[ORDER.index(room) + 1 :]}
    for path in of_room(room):
        for module in imported(ast.parse(path.read_text())):
            assert ".".join(module.split(".")[:2]) not in later, path


def test_modules_are_public_and_names_with_an_underscore_stay_in_their_file():
    assert not [path for path in FILES if path.name.startswith("_")]
    for path in FILES:
        for module in imported(ast.parse(path.read_text())):
            private = [part for part in module.split(".")[1:] if part.startswith("_")]
            assert not (module.startswith("jaxopt_cards.") and private), (path, module)


def test_no_module_has_the_name_of_something_that_its_package_exports():
    for name in PACKAGES:
        exported = importlib.import_module(f"jaxopt_cards.{name}").__all__
        assert not {path.stem for path in (ROOT / name).iterdir()} & set(exported)


def test_a_module_of_optimizers_is_a_module():
    import jaxopt_cards.optimizers.adam as module

    assert inspect.ismodule(module)
    assert module.adam is jaxopt_cards.adam


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_lists_every_public_name(name):
    code = f"import jaxopt_cards as jc; print(*dir(jc.{name}))"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    package = importlib.import_module(f"jaxopt_cards.{name}")
    assert set(package.__all__) <= set(listed.split())


def imported(node):
    """The modules that a file imports, wherever in it."""
    match node:
        case ast.ImportFrom():
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        case ast.Import():
            yield from (alias.name for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from imported(child)
