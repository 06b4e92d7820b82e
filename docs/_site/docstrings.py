"""Docstrings as pages: advice below the summary, all symbols and arguments on the same page."""

import inspect
import re
import textwrap

from sphinx.application import Sphinx

from jaxopt_cards import cards

ADVICE = re.compile(r"^(Use when|Avoid when): (.*(?:\n(?!Avoid when)\S.*)*)\n?", re.MULTILINE)
ARGUMENT = re.compile(r"^( +)((?:\w+, )*\w+): [Aa]s in `(\w+)`\.?(.*)$", re.MULTILINE)
EQUATION = re.compile(r"^Equation:\n((?: .*\n|\n)+)", re.MULTILINE)
# Symbols that transformations share: what shows that an equation uses one in this meaning.
COMMON = {
    r"g_t": (r"(?<!\\sum_t \[\\,)g_t", "the gradient"),
    r"g": (r"(?<![a-z])g(?:_[ij]|\^{\(l\)}|(?![a-z_]))", "the gradient"),
    r"\theta_t": (r"\\theta_\{?t", "the parameters after step :math:`t`"),
    r"\theta": (r"\\theta(?:_j|_i|\^|(?![_a-z]))", "the parameters"),
    r"u_t": (r"(?<![a-z])u_t", "the update"),
    r"u": (r"(?<![a-z])u(?:_[ij]|\^{\(l\)}|(?![a-z_]))", "the update"),
    r"m_t": (r"(?<![a-z])m_t &", "the momentum"),
    r"\mu_t": (r"(?<!\\hat)(?<!\\bar)\\mu_t", "the running mean of the gradients"),
    r"\nu_t": (
        r"\\nu_t &= \\beta",
        "the running mean of the squared gradients",
    ),
    r"\nu_t ": (r"(?<!bar)\\nu_t &= \\max", "the decaying maximum of the gradients' magnitudes"),
    r"\bar\nu_t": (r"\\bar\\nu_t", "the largest mean square so far"),
    r"\hat\mu_t": (r"\\hat\\mu_t", "the mean without the bias of its start"),
    r"\hat\nu_t": (r"\\hat\\nu_t", "the mean square without that bias"),
    r"\bar\mu_t": (r"\\bar\\mu_t", "Nesterov's mean, which looks one step ahead"),
    r"s_t": (r"s_t &?= s_\{t-1\} \+ g", "the sum of the squared gradients"),
    r"s_t ": (r"s_t = Q", "the state in few bits"),
    r"s": (r"\(g_i, s_i|\(g\), s,", "the state"),
    r"Q": (r"= Q\(", "the rounding to few bits, right on average"),
    r"e_t": (r"(?<![a-z])e_t &", "the running mean of the squared gradients"),
    r"x_t": (r"(?<![a-z])x_t &?=", "the running mean of the squared updates"),
    r"n_t": (r"(?<![a-z])n_t &", "the sum of the squared gradients"),
    r"\sigma_t": (r"\\sigma_t =", "the growth of the inverse learning rate"),
    r"z_t": (r"(?<![a-z])z_t &", "the sum of the gradients, less what their steps have moved"),
    r"r_t": (r"r_t &= \\frac", "the factor that Adam would multiply the mean by"),
    r"r_t ": (r"r_t &= \\sqrt", "the factor of the warm-up"),
    r"\rho_t": (r"\\rho_t =", "how many gradients the mean square rests on"),
    r"t": (r"\^t|\\gamma t|eta\(t\)", "the number of the step, from 1"),
}
KINDS = ("optimizer", "transformation", "regulariser")


def process(app: Sphinx, what: str, name: str, thing, options, lines: list[str]) -> None:
    """Called for each docstring, before its sections are read."""
    text = advised("\n".join(lines))
    card = cards.catalogue().get(name.rpartition(".")[2])
    if card is not None and f"{card.module}.{card.name}" == name:
        text = explained(with_arguments(text), card)
    # A word in backquotes leads to what has that name; an argument's name is only that.
    try:
        arguments = "|".join(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        arguments = ""
    if arguments:
        text = re.sub(rf"(?<![`:])`({arguments})`(?!`)", r"``\1``", text)
    lines[:] = text.split("\n")


def advised(text: str) -> str:
    """The docstring with its advice below the summary."""
    advice = "".join(f"**{title}** {words}\n\n" for title, words in ADVICE.findall(text))
    summary, gap, rest = ADVICE.sub("", text).partition("\n\n")
    return f"{summary}\n\n{advice}{rest}" if advice else f"{summary}{gap}{rest}"


def with_arguments(text: str) -> str:
    """The docstring with the words of another technique where an argument is "as in" that one."""

    def written(match: re.Match) -> str:
        indent, names, other, more = match.groups()
        return "\n".join(
            f"{indent}{name}: {argument(other, name)}{more}" for name in names.split(", ")
        )

    return ARGUMENT.sub(written, text)


def argument(technique: str, name: str) -> str:
    """The words of a technique for its argument, followed to where they are written."""
    words = next(each.text for each in cards.card(technique).arguments if each.name == name)
    further = re.match(r"[Aa]s in `(\w+)`", words)
    return words if further is None else argument(further.group(1), name)


def explained(text: str, card: cards.Card) -> str:
    """The docstring with words for all symbols of its equation."""
    found = EQUATION.search(text)
    if found is None or not (card.builds_on or card.kind in KINDS):
        return text
    body = found.group(1).rstrip()
    parts = [body, *(textwrap.indent(part, "    ") for part in borrowed(card))]
    if common := common_symbols(card):
        parts.append(f"    {common}")
    return f"{text[: found.start()]}Equation:\n" + "\n\n".join(parts) + f"\n\n{text[found.end() :]}"


def borrowed(card: cards.Card) -> list[str]:
    """The equations and symbols that a technique takes from others."""
    parts = []
    for name in card.builds_on:
        other = cards.card(name)
        math = f".. math::\n{textwrap.indent(other.equation, '    ')}"
        parts += [f"`{name}` computes", math, *([other.symbols] if other.symbols else [])]
        parts += borrowed(other)
    return parts


def common_symbols(card: cards.Card) -> str:
    """Words for those symbols of its equations that the docstrings have none for."""
    parts = [card, *everything(card)]
    latex = "\n".join(part.equation for part in parts) if card.kind in KINDS else ""
    words = " ".join(part.symbols for part in parts)
    told = {
        symbol.strip(): meaning
        for symbol, (used, meaning) in COMMON.items()
        if re.search(used, latex) and f":math:`{symbol.strip()}`" not in words
    }
    texts = ", ".join(f":math:`{symbol}` {meaning}" for symbol, meaning in told.items())
    return f"Here {texts.replace('` ', '` denotes ', 1)}." if texts else ""


def everything(card: cards.Card) -> list[cards.Card]:
    """The techniques that an equation builds on, and those that these build on."""
    others = [cards.card(name) for name in card.builds_on]
    return others + [further for other in others for further in everything(other)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", process, priority=400)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
