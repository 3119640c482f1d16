"""The documentation is true: the commands, flags, files, modules and fields that it names exist, and all are named.

SNOOPY_REGENERATE=1 pytest tests/test_docs.py writes the parts that are made from the code.
"""

import ast
import os
import re
from pathlib import Path

import click
import pytest

from analysis.analyse import COLUMNS
from steps.plan import CampaignInput
from workflows.cli import main

PROJECT = Path(__file__).parents[1]
DOCUMENTS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
README = (PROJECT / "README.md").read_text()
MODULES = [path for package in ("analysis", "steps", "workflows") for path in sorted((PROJECT / package).glob("*.py"))]


def first_sentence(module: Path) -> str:
    return (ast.get_docstring(ast.parse(module.read_text())) or "").partition("\n\n")[0].replace("\n", " ")


def is_current(document: str, begin: str, end: str, made: str) -> bool:
    """Compare the part of a document between two lines with what the code says; write it when asked to."""
    path = PROJECT / "docs" / document
    before, _, rest = path.read_text().partition(begin)
    current, _, after = rest.partition(end) if end else (rest, "", "")
    if os.environ.get("SNOOPY_REGENERATE"):
        path.write_text(before + begin + made + end + after)
        return True
    return current == made


def test_every_module_says_what_it_is_for_and_is_on_the_map() -> None:
    made = ""
    for module in MODULES:
        if module.name != "__init__.py":
            sentence = first_sentence(module)
            assert sentence, f"{module} has no docstring"
            heading = f"\n### {module.parent.name}\n\n| module | purpose |\n| --- | --- |\n"
            made += ("" if heading in made else heading) + f"| `{module.stem}` | {sentence} |\n"
    assert is_current("architecture.md", "## The modules\n", "\n## Why it is so", made)


def test_the_campaigns_fields_are_documented() -> None:
    parameters = CampaignInput.defaults()
    rows = [
        f"| `{name}` | {f'`{parameters[name]}`' if parameters[name] else ''} | {field.description} |\n"
        for name, field in CampaignInput.model_fields.items()
    ]
    assert is_current("campaign.md", "| field | default | what it is |\n", "", "| --- | --- | --- |\n" + "".join(rows))


def test_every_column_of_the_connections_is_documented_in_order() -> None:
    table = (PROJECT / "docs/report.md").read_text().partition("## connections.parquet")[2]
    assert tuple(re.findall(r"^\| `(\w+)` \| ", table, re.MULTILINE)) == COLUMNS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(document: Path) -> None:
    text = document.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    paths = re.findall(r"`((?:deploy|examples|tests|steps|analysis|workflows|docs|crds)/[\w./-]+)`", text)
    commands = re.findall(r"(?:python3|submit|-f) ((?:tests|examples)/[\w./]+)", text)
    for name in links:
        assert (document.parent / name).exists(), name
    for name in paths + commands:
        assert (PROJECT / name).exists(), name


def test_make_targets_in_the_documents_exist_and_explain_themselves() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    explained = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    named = {name for document in DOCUMENTS for name in re.findall(r"\bmake ([a-z-]+)", document.read_text())}
    assert {"demo", "test", "deploy"} <= named <= explained
    assert explained == set(re.findall(r"^\.PHONY: (.*)", makefile, re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_flags_in_the_documents_exist(document: Path) -> None:
    for line in re.findall(r"(?:\.venv/bin/|`|^ {4})snoopy ([a-z][^`\n]*)", document.read_text(), re.MULTILINE):
        name, *words = line.partition("#")[0].split()
        command = main.commands[name]
        flags = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        for word in words:
            if word.startswith("-") and not word.startswith(("-c", "-t")):
                assert word.strip("\"'") in flags | {"--help"}, line
        assert isinstance(command, click.Command)


def test_every_command_is_in_the_readme() -> None:
    assert {name for name in main.commands if f"snoopy {name}" not in README} <= {"manifests", "logs", "wait"}
