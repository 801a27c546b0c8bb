"""How the terminal says no: a message and an exit code, never a traceback; with ``--json`` it is JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from airflow_provider_mlpipex.domain.errors import ConfigurationInvalid, MlpipexError
from airflow_provider_mlpipex.domain.fields.free_text import without_controls

#: What typer raises where a command line is wrong, whether it brings its own click or uses the installed one.
UsageError: Any = typer.BadParameter.__mro__[1]


class Commands(TyperGroup):
    """A refusal is a message and an exit code, never a traceback; with ``--json`` it is JSON."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        as_json = "--json" in (sys.argv[1:] if args is None else args)
        try:
            # Standalone, typer prints usage errors itself; as JSON we print them.
            code = super().main(args, prog_name, complete_var, standalone_mode=not as_json, **extra)
        except MlpipexError as error:
            _refuse(error, as_json)
        except UsageError as error:
            message = error.format_message()
            typer.echo(json.dumps({"error": "UsageError", "thing": message, "remedy": "see --help"}), err=True)
            raise SystemExit(error.exit_code) from None
        except OSError as error:
            if error.filename is None:
                raise
            _refuse(_path_error(error), as_json)
        raise SystemExit(code if isinstance(code, int) else 0)


def _refuse(error: MlpipexError, as_json: bool) -> NoReturn:
    payload = error.as_dict() | {"problems": list(getattr(error, "problems", ()))}
    typer.echo(json.dumps(payload) if as_json else without_controls(str(error), but="\n"), err=True)
    raise SystemExit(1) from None


def _path_error(error: OSError) -> ConfigurationInvalid:
    return ConfigurationInvalid(
        f"path {error.filename}",
        value=error.strerror,
        limit="a path that this user may read and write",
        remedy="correct the path or its permissions; MLPIPEX_LEDGER_URL and --state-dir say where things are kept",
    )
