"""The documentation is true: the commands, flags, files, modules and fields that it names exist, and all are named.

SNOOPY_REGENERATE=1 pytest tests/test_docs.py writes the parts that are made from the code.
"""

import ast
import os
import re
from pathlib import Path

import click
import pytest
import yaml

from analysis.tables import TABLES
from steps.campaign_input import CampaignInput
from workflows.cli import COMMANDS, main

PROJECT = Path(__file__).parents[1]
DOCUMENTS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
CRDS = sorted((PROJECT / "crds").glob("*s.yaml"))
README = (PROJECT / "README.md").read_text()
PACKAGES = ("analysis", "analysis/kernel", "analysis/findings", "analysis/report", "steps", "workflows")
MODULES = [path for package in PACKAGES for path in sorted((PROJECT / package).glob("*.py"))]
KERNEL = sorted((PROJECT / "analysis/kernel/src").glob("*.rs"))


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
        if module.name != "__init__.py" or first_sentence(module):
            sentence = first_sentence(module)
            assert sentence, f"{module} has no docstring"
            package = module.parent.relative_to(PROJECT)
            heading = f"\n### {package}\n\n| module | purpose |\n| --- | --- |\n"
            name = package.name if module.name == "__init__.py" else module.stem
            made += ("" if heading in made else heading) + f"| `{name}` | {sentence} |\n"
    made += "\n### analysis/kernel/src\n\n| file | purpose |\n| --- | --- |\n"
    for file in KERNEL:
        comment = re.match(r"(//! .*\n)+", file.read_text())
        assert comment, f"{file} does not say what it is for"
        sentence = comment[0].replace("//! ", "").replace("\n", " ").partition(". ")[0]
        made += f"| `{file.name}` | {sentence.strip().rstrip('.')}. |\n"
    assert is_current("architecture.md", "## The modules\n", "\n## Why it is so", made)


def test_the_campaigns_fields_are_documented() -> None:
    parameters = CampaignInput.defaults()
    rows = [
        f"| `{name}` | {f'`{parameters[name]}`' if parameters[name] else ''} | {field.description} |\n"
        for name, field in CampaignInput.model_fields.items()
    ]
    assert is_current("campaign.md", "| field | default | what it is |\n", "", "| --- | --- | --- |\n" + "".join(rows))


def test_every_field_of_every_resource_is_documented() -> None:
    made = ""
    for file in CRDS:
        crd = yaml.safe_load(file.read_text())["spec"]
        schema = crd["versions"][0]["schema"]["openAPIV3Schema"]
        spec, names = schema["properties"]["spec"], crd["names"]
        made += f"\n### {names['kind']}\n\n{schema['description']} `{crd['group']}/v1alpha1`, for kubectl also"
        made += f" `{names['shortNames'][0]}`.\n\n| field | default | what it is |\n| --- | --- | --- |\n"
        for name, field in spec["properties"].items():
            default = f"`{field['default']}`" if "default" in field else ""
            default = "(needed)" if name in spec.get("required", ()) else default
            made += f"| `{name}` | {default} | {' '.join(field['description'].split())} |\n"
    assert is_current("resources.md", "<!-- the fields, from crds/ -->\n", "\n## For users of", made)


def test_every_column_of_every_table_is_documented() -> None:
    made = ""
    for table, columns in TABLES.items():
        made += (
            f"\n### {table}.parquet\n\n| column | unit | what it is, and whose rule it follows |\n| --- | --- | --- |\n"
        )
        assert all(column.text for column in columns)
        made += "".join(f"| `{column.name}` | {column.unit} | {column.text} |\n" for column in columns)
    assert is_current("report.md", "<!-- the columns, from analysis/tables.py -->\n", "", made)


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


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """Give the command that words name, one word for each group it is in, and the other words."""
    command: click.Command = main
    for number, word in enumerate(words):
        if not isinstance(command, click.Group):
            return command, words[number:]
        found = command.get_command(click.Context(command), word)
        assert isinstance(found, click.Command), words
        command = found
    return command, []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_flags_in_the_documents_exist(document: Path) -> None:
    for line in re.findall(r"(?:\.venv/bin/|`|^ {4})snoopy ([a-z][^`\n]*)", document.read_text(), re.MULTILINE):
        command, words = command_of(line.partition("#")[0].split())
        flags = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        for word in words:
            if word.startswith("-") and not word.startswith(("-c", "-t")):
                assert word.strip("\"'") in flags | {"--help"}, line


def test_every_command_is_in_the_readme() -> None:
    names = set(COMMANDS)
    for name in COMMANDS:
        command, _ = command_of([name])
        names |= {f"{name} {each}" for each in command.commands} if isinstance(command, click.Group) else set()
    assert {name for name in names if f"snoopy {name}" not in README} <= {"manifests", "logs", "wait"}
