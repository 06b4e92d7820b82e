"""The guide's table of deliberate differences is the list here, and each row of it is true."""

import re

import pytest

from tests.contract.differences import DIFFERENCES


def rows(pytestconfig):
    guide = (pytestconfig.rootpath / "docs" / "guides" / "from_optax.md").read_text()
    table = guide.split("## Deliberate differences")[1].split("\n## ")[0]
    lines = re.findall(r"^\|(.*)\|$", table, re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines[2:]]


def test_the_guide_lists_these_differences(pytestconfig):
    table = rows(pytestconfig)
    assert [row[0] for row in table] == list(DIFFERENCES)
    for row in table:
        assert len(row) == 3
        assert all(row)


@pytest.mark.parametrize("what", DIFFERENCES)
def test_the_difference_is_there(what):
    DIFFERENCES[what]()
