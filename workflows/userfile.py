"""The Workflow that a user's own Python file defines with Hera."""

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from hera.workflows import CronWorkflow, Workflow, WorkflowTemplate

from steps.campaign_input import InvalidInputError

NAME = "snoopy_submitted_file"  # not the file's own name, which may be that of a module: json.py


def load(path: Path, name: str | None = None) -> Workflow:
    """Run a Python file and give the Workflow that it defines; of several, the one called `name`.

    What the file imports does not count, nor do templates: they are installed, not submitted.

    Raises:
        InvalidInputError: the file cannot be run, or does not define exactly one such Workflow.

    """
    module = _run(path)
    found = {
        id(value): value
        for variable, value in vars(module).items()
        if isinstance(value, Workflow)
        and not isinstance(value, WorkflowTemplate | CronWorkflow)
        and variable not in _imported(path)
        and name in {None, variable, value.name, value.generate_name}
    }
    if len(found) == 1:
        return next(iter(found.values()))
    called = f" called {name}" if name else ""
    if not found:
        raise InvalidInputError(f"{path}: it defines no Workflow{called}, such as: workflow = Workflow(...)")
    names = ", ".join(sorted(str(each.name or each.generate_name) for each in found.values()))
    raise InvalidInputError(f"{path}: it defines {len(found)} Workflows{called}; --name says which: {names}")


def _run(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(NAME, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise InvalidInputError(f"{path}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module  # dataclasses and pickle look there for what a class's module holds
    sys.path.insert(0, str(path.parent))  # as for a script: what lies beside it can be imported
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        line = _line(error, path)
        raise InvalidInputError(f"{path}{line}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.parent))
    return module


def _line(error: BaseException, path: Path) -> str:
    """Give the last line of the file itself that led to the error."""
    lines, trace = [error.lineno] if isinstance(error, SyntaxError) else [], error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == str(path.absolute()):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f":{lines[-1]}" if lines else ""


def _imported(path: Path) -> set[str]:
    imports = (node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.ImportFrom))
    return {alias.asname or alias.name for node in imports for alias in node.names}
