"""What is read from the source is what Python says of the imported objects, and is complete."""

import ast
import inspect
import re
import subprocess
import sys

import pytest
from matplotlib.mathtext import MathTextParser

import jaxopt_cards as jc
from jaxopt_cards import cards, layers
from jaxopt_cards.cards import index as _catalogue
from jaxopt_cards.cards import latex as _latex
from jaxopt_cards.cards.terms import TERMS
from jaxopt_cards.core.declaration import declaration_of
from tests.test_package import techniques

IMPORTED = {param.id: param.values[0] for param in techniques()}
EVERY = pytest.mark.parametrize("name", IMPORTED)
WORK = re.compile(r"^[^().,]+(, [^().,]+)*( et al\.)? \(\d{4}\), \S.{3,}[.?]$")
CHAPTER = re.compile(r"^(Chapter 11|Géron \(2017\), chapter 11), \S.{3,}\.$")
EXPLAINED = ("optimizer", "transformation", "regulariser", "schedule", "selection", "layer")
GREEK = re.compile("alpha|beta|gamma|delta|epsilon|eta|theta|lambda|mu|nu|xi|rho|sigma|tau|phi")
EQUATIONS = ("optimizer", "regulariser", "schedule", "layer")


def test_the_catalogue_has_every_public_technique():
    assert set(cards.catalogue()) == set(IMPORTED)


@EVERY
def test_the_text_is_that_of_the_imported_object(name):
    entry = _catalogue.entries()[name]
    assert entry.docstring == inspect.getdoc(IMPORTED[name])
    assert entry.defined_in == IMPORTED[name].__module__
    assert getattr(sys.modules[entry.module], name) is IMPORTED[name]
    assert cards.card(IMPORTED[name]) is cards.card(name)
    assert cards.card(f"{entry.module}.{name}") is cards.card(name)


@EVERY
def test_the_signature_is_that_of_the_imported_object(name):
    thing, card = IMPORTED[name], cards.card(name)
    made_by = thing.__init__ if inspect.isclass(thing) else thing
    parameters = [p for p in inspect.signature(made_by).parameters.values() if p.name != "self"]
    arguments = card.arguments
    # A gathered argument is on the card under its own name, if that is described there.
    if len(arguments) > len(parameters):
        parameters.pop()
        arguments, gathered = arguments[: len(parameters)], arguments[len(parameters) :]
        assert {each.name for each in gathered} == set(declaration_of(made_by).settings)
    assert [argument.name.lstrip("*") for argument in arguments] == [p.name for p in parameters]
    written = ast.parse(f"def {card.signature}: pass").body[0].args
    by_name_only = [p.name for p in parameters if p.kind == p.KEYWORD_ONLY]
    assert [each.arg for each in written.kwonlyargs] == by_name_only
    names = vars(sys.modules[thing.__module__])
    for argument, parameter in zip(arguments, parameters, strict=True):
        assert argument.name.startswith("**") == (parameter.kind == parameter.VAR_KEYWORD)
        required = parameter.default is parameter.empty
        assert required == (argument.default is None)
        assert required or eval(argument.default, names) == parameter.default


@EVERY
def test_every_card_is_complete(name):
    card = cards.card(name)
    assert card.kind in _catalogue.KINDS
    optional = [
        *([] if card.facts or card.kind in EQUATIONS else ["equation"]),
        *([] if card.facts else ["state"]),
    ]
    for field in ("summary", "equation", "returns", "state", "use_when", "avoid_when"):
        text = getattr(card, field)
        assert text.strip() or field in optional, field
        assert not re.search(r"^\w[\w ]*:$", text, re.MULTILINE), f"{field} has another section"
    assert all(argument.text for argument in card.arguments)
    assert card.raises or not card.arguments
    assert all(re.fullmatch(r"[A-Z]\w+Error", error) and text for error, text in card.raises)


@EVERY
def test_every_example_calls_the_technique_and_shows_a_result(name):
    example = cards.card(name).example
    assert re.search(rf"\b{name}\b", example)
    lines = example.splitlines()
    assert lines[0].startswith(">>> ")
    assert any(not line.startswith((">>> ", "... ")) for line in lines)


@EVERY
def test_references_name_author_year_and_title(name):
    references = cards.card(name).references
    works = [reference for reference in references if not CHAPTER.match(reference)]
    assert any(WORK.match(work) for work in works), references
    for reference in references:
        assert WORK.match(reference) or CHAPTER.match(reference), reference


@EVERY
def test_every_formula_is_latex_that_matplotlib_draws(name):
    card = cards.card(name)
    texts = (card.symbols, card.description, *(argument.text for argument in card.arguments))
    inside = [formula for text in texts for formula in re.findall(r":math:`(.*?)`", text)]
    for formula in [card.equation, *inside]:
        for cell in cells(formula):
            MathTextParser("path").parse(f"${cell}$")


@pytest.mark.parametrize("name", [n for n, c in cards.catalogue().items() if c.kind in EXPLAINED])
def test_every_symbol_of_an_equation_is_put_into_words(name):
    card = cards.card(name)
    words = " ".join(each.symbols for each in [card, *map(cards.card, card.builds_on)])
    explained = symbols(" ".join(re.findall(r":math:`(.*?)`", words)))
    assert symbols(card.equation) <= explained


def symbols(latex):
    """The letters of a formula, with their accents, without indices and words."""
    latex = re.sub(r"\\(text|mathrm|mathbb|begin|end)\{[^{}]*\}", " ", latex)
    latex = re.sub(r"_(\{[^{}]*\}|\\?[a-zA-Z]+|\d)", " ", latex)
    accents = r"(?:\\(?:hat|bar|tilde)\s*\{?\s*)?"
    found = re.findall(rf"({accents})(\\[a-zA-Z]+|[a-zA-Z])", latex)
    return {
        accent.strip("{ ") + letter
        for accent, letter in found
        if not letter.startswith("\\") or GREEK.fullmatch(letter[1:])
    }


def cells(latex):
    """Formulas without what only LaTeX knows: environments, lines and columns."""
    latex = re.sub(r"\\(begin|end)\{(cases|pmatrix)\}", "", latex)
    # Sizes of brackets are only for the eye, but each must have its other one.
    assert latex.count(r"\left") - latex.count(r"\leftarrow") == latex.count(r"\right")
    latex = re.sub(r"\\(textstyle|[bB]ig[lr]?|left(?!arrow)|right|!)(?![a-z])", "", latex)
    latex = re.sub(r"\\([lg])e(?![a-z])", r"\\\1eq", latex)
    latex = latex.replace(r"\tfrac", r"\frac").replace(r"\lVert", r"\|").replace(r"\rVert", r"\|")
    return [" ".join(cell.split()) for cell in re.split(r"\\\\|&", latex) if cell.strip()]


@EVERY
def test_every_formula_is_readable_in_a_terminal(name):
    card = cards.card(name)
    lines = _latex.lines(card.equation)
    assert bool(lines) == bool(card.equation)
    for line in lines:
        assert len(line) <= 80
        assert not re.search(r"[\\$&]", line), line
    assert ":math:" not in _latex.inline(card.symbols + card.description)


@pytest.mark.parametrize(
    ("latex", "lines"),
    [
        (r"\theta_t = \theta_{t-1} - \eta\, g_t", ["θₜ = θₜ₋₁ \u2212 η gₜ"]),
        (r"a &= \frac{x + 1}{2 y} \\ bc &= \sqrt{z}", [" a = (x + 1) / (2 y)", "bc = √z"]),
        (r"\bar\mu_t^2, \hat{y}, \tilde x_i, \mu_\infty - 1", ["μ̄ₜ², ŷ, x̃ᵢ, μ_∞ \u2212 1"]),
        (r"x_{\text{new}} \in S^{a/b}, W^\top", ["x_new ∈ S^(a/b), Wᵀ"]),
        (r"y = \begin{cases} a & b \\ c & \text{else} \end{cases}", ["y = { a for b; c else }"]),
        (r"\lVert x \rVert_2 \le \max\left(1, \tfrac{1}{2}\right)", ["‖x‖₂ ≤ max(1, ½)"]),
        (r"\frac{a / b}{(c)(d)}", ["(a / b) / ((c)(d))"]),
        (r"x \\ [1] y", ["x", "[1] y"]),
    ],
)
def test_latex_becomes_unicode(latex, lines):
    assert _latex.lines(latex) == lines


@pytest.mark.parametrize(
    "latex", [r"\frac{a", r"\unheard", r"\begin{array}{c} x \end{array}", "x_"]
)
def test_what_cannot_be_shown_is_refused(latex):
    with pytest.raises(ValueError, match=r"^latex: "):
        _latex.lines(latex)


def test_wide_lines_are_broken_where_they_may_be():
    row = r"f(x) &= " + " + ".join(f"a_{{{i}}} x^{{{i}}}" for i in range(10, 40))
    lines = _latex.lines(row + r", \qquad \text{for all } x", 60)
    assert all(len(line) <= 60 for line in lines)
    assert len(lines) > 3
    assert lines[-1].strip() == "for all x"
    assert "".join(lines).replace(" ", "").startswith("f(x)=a₁₀x¹⁰+a₁₁x¹¹+")


def test_a_card_by_hand():
    card = cards.card("rrelu")
    assert (card.kind, card.family, card.module) == ("layer", "Layers", "jaxopt_cards.layers")
    assert card.signature == "rrelu(x, key=None, lower=1 / 8, upper=1 / 3)"
    assert card.symbols.startswith("with :math:`x_i` an input, :math:`y_i` its output, ")
    assert card.symbols.endswith(", :math:`l` = `lower`, :math:`u` = `upper`.")
    assert card.arguments[0] == ("x", None, "array of floating point.")
    assert card.raises == (("ValueError", "a slope outside [0, 1], or `lower` above `upper`."),)
    assert card.references[1] == 'Géron (2017), chapter 11, "Nonsaturating Activation Functions".'
    assert card.use_when == "a leaky ReLU overfits: the data set is small."
    assert card.facts is None
    assert cards.card("adabound").builds_on == ("scale_by_adabound",)


def test_a_name_with_a_letter_too_few_is_among_the_nearest():
    names = list(cards.catalogue())
    for name in cards.catalogue():
        for place in range(0, len(name) if len(name) > 4 else 0, 3):
            misspelt = name[:place] + name[place + 1 :]
            if misspelt not in cards.catalogue():
                assert name in _catalogue.nearest(misspelt, names), misspelt
                assert name in _catalogue.nearest(misspelt.upper(), names), misspelt


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        ("adabuond", r"name must .*, got 'adabuond'; nearest: adabound, "),
        ("RRELU", r"got 'RRELU'; nearest: RReLU, rrelu$"),
        ("weight decay", r"got 'weight decay'; nearest: adamw, add_decayed_weights$"),
        ("freeze layers", r"got 'freeze layers'; nearest: freeze$"),
        ("lamb", r"got 'lamb'; it is Optax's: optax.lamb$"),
        ("muon", r"got 'muon'; it is Optax's: optax.contrib.muon$"),
        ("adahessian", r"got 'adahessian'; `jaxopt-cards list` shows all techniques$"),
        ("chain", r"got 'chain': chain is a function of Optax"),
        ("optax.adam", r"got 'optax.adam'; nearest: "),
        ("", r"got ''; `jaxopt-cards list` shows all"),
        (jc.freeze, r"thing must be a technique of jaxopt_cards, got <function freeze"),
        (layers, r"thing must .*, got <module"),
        (None, r"thing must .*, got None"),
        (lambda x: x, r"thing must .*, got <function .*lambda.*no Equation:, Args:, Use when:"),
    ],
)
def test_what_is_no_technique_is_refused(thing, message):
    with pytest.raises(ValueError, match=rf"^card: .*{message}"):
        cards.card(thing)


def scale_by_half(factor=0.5, *, mask=jc.chain, **others):
    r"""Halves the updates.

    Equation:
        .. math:: u_t = a\, g_t

        with :math:`a` = `factor`.

    Args:
        factor: float in (0, 1).

    Returns:
        An `optax.GradientTransformation`.

    Use when: updates are twice too large.
    Avoid when: they are not.
    """


def test_a_function_of_the_user_has_a_card():
    card = cards.card(scale_by_half)
    assert (card.name, card.kind, card.family) == ("scale_by_half", "transformation", "Your own")
    assert card.module == __name__
    assert card.signature == "scale_by_half(factor=0.5, *, mask=..., **others)"
    assert card.summary == "Halves the updates."
    assert (card.equation, card.symbols) == (r"u_t = a\, g_t", "with :math:`a` = `factor`.")
    assert card.arguments[0] == ("factor", "0.5", "float in (0, 1).")
    assert (card.state, card.raises, card.references, card.facts) == ("", (), (), None)
    assert card.use_when == "updates are twice too large."


def test_a_user_may_have_an_adam_of_their_own():
    def adam(learning_rate):
        return jc.sgd(learning_rate)

    adam.__doc__ = scale_by_half.__doc__
    card = cards.card(adam)
    assert (card.kind, card.family, card.facts) == ("optimizer", "Your own", None)
    assert card.signature == "adam(learning_rate)"


def test_a_docstring_without_sections_gets_those_that_are_missing():
    def half(factor):
        """Halves the updates.

        Returns:
            A transformation.
        """

    message = r"needs sections; it has no Equation:, Args:, Use when:, Avoid when:$"
    with pytest.raises(ValueError, match=message):
        cards.card(half)


@pytest.mark.parametrize(
    ("name", "found"),
    [("Adam", "adam"), ("dropout", "Dropout"), ("rrelu", "rrelu"), ("max norm", "max_norm")],
)
def test_a_name_may_be_written_otherwise(name, found):
    assert cards.card(name).name == found


def test_terms_are_of_cards():
    assert {name for names in TERMS.values() for name in names} <= cards.catalogue().keys()


def test_cards_are_read_without_jax():
    code = (
        "import sys; from jaxopt_cards import cards; cards.catalogue();"
        "print(*{'jax', 'optax', 'numpy', 'flax'} & set(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert loaded.stdout.split() == []
