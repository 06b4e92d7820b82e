"""Formulas as MathML, made while the site is built: browsers show it without scripts or network."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def mathml(latex: str, display: str) -> str:
    r"""The formula as an element of MathML; ValueError if a command is unknown.

    As in Sphinx, `&` and `\\` outside of an environment align the lines of an equation.
    """
    outside = re.sub(r"\\begin\{(\w+)\}.*?\\end\{\1\}", "", latex, flags=re.DOTALL)
    if re.search(r"\\\\|(?<!\\)&", outside):
        latex = rf"\begin{{split}}{latex}\end{{split}}"
    latex = re.sub(r"\\arg(?![a-zA-Z])", r"\\operatorname{arg}", latex)
    try:
        element = convert(latex, display=display)
    except Exception as error:  # the converter raises errors of many kinds
        raise ValueError(f"cannot be read ({error!r})") from error
    left = re.search(r"\\[a-zA-Z]+|&(?!#x)", element)
    if left:
        raise ValueError(f"has {left.group()}, which is not supported")
    # Browsers stretch a bar to the height of its row, unless the element says otherwise.
    return element.replace("<mo>&#x02016;</mo>", '<mo stretchy="false">&#x02016;</mo>')


def _visitor(display: str):
    def visit(translator, node: nodes.Node) -> None:
        try:
            translator.body.append(mathml(node.astext(), display))
        except ValueError as error:
            logger.warning("formula %r %s", node.astext(), error, location=node)
        raise nodes.SkipNode

    return visit


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    renderers = ((_visitor("inline"), None), (_visitor("block"), None))
    app.add_html_math_renderer("mathml", *renderers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
