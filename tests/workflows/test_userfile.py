"""A user's own Python file: the one Workflow that it defines, or a sentence that says why there is none."""

from pathlib import Path

import pytest

from steps.campaign_input import InvalidInputError
from workflows.userfile import load

IMPORTS = "from hera.workflows import CronWorkflow, Workflow, WorkflowTemplate\n"


@pytest.fixture
def write(tmp_path: Path):  # noqa: ANN201 -- a function of (name, text)
    def written(text: str, name: str = "mine.py") -> Path:
        (tmp_path / name).write_text(IMPORTS + text)
        return tmp_path / name

    return written


def test_the_workflow_is_found_under_any_name_and_two_names_are_still_one(write) -> None:  # noqa: ANN001
    path = write("first = second = Workflow(name='a')\ntemplate = WorkflowTemplate(name='t')\n")
    assert load(path).name == "a"


def test_what_lies_beside_the_file_can_be_imported_and_does_not_count(write) -> None:  # noqa: ANN001
    write("other = Workflow(name='theirs')\n", "beside_it.py")
    assert load(write("from beside_it import other\nmine = Workflow(name='mine')\n")).name == "mine"


@pytest.mark.parametrize("name", ["b", "second"])
def test_of_several_the_name_says_which(write, name: str) -> None:  # noqa: ANN001
    path = write("first, second = Workflow(name='a'), Workflow(name='b')\n")
    assert load(path, name).name == "b"


@pytest.mark.parametrize(
    ("text", "name", "sentence"),
    [
        ("template = WorkflowTemplate(name='t')\n", None, "defines no Workflow, such as"),
        ("a, b = Workflow(name='a'), Workflow(name='b')\n", None, "defines 2 Workflows; --name says which: a, b"),
        ("a = Workflow(name='a')\n", "b", "defines no Workflow called b"),
        ("\n1 / 0\n", None, r"mine.py:3: ZeroDivisionError: division by zero"),
        ("w = Workflow(\n", None, r"mine.py:2: SyntaxError"),
        ("raise SystemExit('no')\n", None, r"mine.py:2: SystemExit: no"),
        ("w = Workflow(nam='a')\n", None, r"mine.py:2: TypeError"),
    ],
)
def test_a_file_without_exactly_one(write, text: str, name: str | None, sentence: str) -> None:  # noqa: ANN001
    with pytest.raises(InvalidInputError, match=sentence):
        load(write(text), name)


def test_a_file_may_look_itself_up(write) -> None:  # noqa: ANN001
    text = """from __future__ import annotations
import json
import sys
from dataclasses import dataclass
from hera.workflows import Workflow
assert sys.modules[__name__].__file__ == __file__
@dataclass
class Names:
    one: str
mine = Workflow(name=Names(json.loads('"mine"')).one)
"""
    path = write("", "json.py")
    path.write_text(text)
    assert load(path).name == "mine"


def test_an_error_is_placed_in_a_file_given_by_a_relative_path(write, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN001
    monkeypatch.chdir(write("1 / 0\n").parent)
    with pytest.raises(InvalidInputError, match=r"^mine.py:2: ZeroDivisionError"):
        load(Path("mine.py"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no such Python file"):
        load(tmp_path / "nosuch.py")
