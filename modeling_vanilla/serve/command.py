# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""`python -m modeling_vanilla serve`: a decoder behind the interface of OpenAI, by transformers' own server."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..convert.folders import complete_folder
from ..modeling_vanilla import VanillaForCausalLM

# The text of the messages, one after another: a model that learnt no dialogue goes on writing behind the last.
CONTINUE = "{% for message in messages %}{{ message['content'] }}{% if not loop.last %}\n{% endif %}{% endfor %}"
TEMPLATE_IS_MISSING = "Cannot use chat template functions"


def serve(parser: ArgumentParser, words: Sequence[str]) -> int:
    """Serve the model that the words of a command line name, until the process is ended.

    Raises:
        ValueError: A word is wrong, the model writes no text, or a package that serving needs is not installed.
    """
    options, others = _parsed(parser, words)
    folder = complete_folder(options.model, _check)
    name = str(folder) if Path(options.model).exists() else options.model
    template = _template(options)
    if template is not None:
        others = _with_template(others, template)
    _start([name, *others])
    return 0


def _check(config: dict[str, Any]) -> None:
    """See that the server can answer: it shows what is written behind a prompt.

    Raises:
        ValueError: The model is a translator, an encoder, or has another head than that of a language model.
    """
    names = config.get("architectures") or ["no head"]
    if config.get("model_type") == "vanilla" and names[0] != "VanillaForCausalLM":
        raise ValueError(
            f"serve: {names[0]} does not go on writing behind a prompt; translate, fill and classify answer by the line"
        )


def _start(words: list[str]) -> None:
    """Run `transformers serve` with these words, where our classes are known."""
    try:
        from transformers.cli.serving import model_manager, server
        from transformers.cli.transformers import app
    except ImportError as error:
        raise ValueError(f"serve: {error}; pip install fastapi openai uvicorn") from error
    # Where the server looks for the class that config.json names.
    model_manager.transformers.VanillaForCausalLM = VanillaForCausalLM
    server.build_server = with_reasons(server.build_server)
    try:
        app(["serve", *words], standalone_mode=False)
    except ImportError as error:
        raise ValueError(f"serve: {error}; pip install fastapi openai uvicorn") from error
    except Exception as error:
        if not hasattr(error, "format_message"):  # of click: a word that `transformers serve` does not know
            raise
        raise ValueError(f"serve: {error.format_message().splitlines()[0]}") from error


def with_reasons(build: Callable[..., Any]) -> Callable[..., Any]:
    """Return a builder of servers whose answer to a request that a model refuses says why, with status 400.

    transformers answers 500 without the reason, as if the server were broken.
    """

    def build_with_reasons(*args, **kwargs) -> Any:
        from fastapi.responses import JSONResponse

        async def refused(request: Any, error: ValueError) -> JSONResponse:
            message = str(error)
            if message.startswith(TEMPLATE_IS_MISSING):
                message = (
                    "the model's tokenizer has no chat template: send the text as `prompt` to /v1/completions, or start "
                    "the server with --chat-template"
                )
            return JSONResponse({"error": {"message": message, "type": "invalid_request_error"}}, status_code=400)

        app = build(*args, **kwargs)
        app.add_exception_handler(ValueError, refused)
        return app

    return build_with_reasons


def _template(options: Namespace) -> str | None:
    """Return the chat template that was asked for."""
    if options.chat_template in (None, "continue"):
        return CONTINUE if options.chat_template else None
    path = Path(options.chat_template)
    if not path.is_file():
        raise ValueError(f"--chat-template: {path} is no file, and not the word 'continue'")
    return path.read_text(encoding="utf-8")


def _with_template(words: list[str], template: str) -> list[str]:
    """Give a template to the server as one of the arguments that it hands on to it."""
    option = "--chat-template-kwargs"
    given = {}
    if option in words[:-1]:
        place = words.index(option)
        try:
            given = json.loads(words[place + 1])
        except ValueError as error:
            raise ValueError(f"{option}: {words[place + 1]!r} is not JSON ({error})") from error
        words = words[:place] + words[place + 2 :]
    return [*words, option, json.dumps({"chat_template": template} | given)]


def _parsed(parser: ArgumentParser, words: Sequence[str]) -> tuple[Namespace, list[str]]:
    parser.description = (
        "Serve a decoder behind the interface of OpenAI: /v1/completions, /v1/chat/completions, /v1/models. It is "
        "`transformers serve`, which cannot find these models by itself, and takes all options of that command."
    )
    parser.usage = f"{parser.prog} MODEL [--chat-template FILE] [options of `transformers serve`, such as --port 8000]"
    parser.epilog = "example: python -m modeling_vanilla serve runs/shakespeare-char --port 8001 --device cpu"
    parser.add_argument("model", metavar="MODEL", help="a model folder, a run folder (its final/), or a Hub id; first")
    parser.add_argument(
        "--chat-template",
        metavar="FILE",
        help="Jinja, for a tokenizer without one; 'continue': the messages' text, behind which the model goes on",
    )
    if words and words[0].startswith("-") and words[0] not in ("-h", "--help"):
        raise ValueError(f"serve: MODEL comes first, before {words[0]}")
    return parser.parse_known_args(words)
