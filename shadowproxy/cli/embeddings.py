"""The options of `report` that send texts to an embeddings endpoint. Without them nothing is sent anywhere."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from shadowproxy.cli.group import UserError, print_error
from shadowproxy.cli.keys import key_for
from shadowproxy.cli.reading import only_of

if TYPE_CHECKING:
    from shadowproxy.compare.report.figures.language_types import MeaningFigures
    from shadowproxy.judge.embeddings import Embeddings


def embeddings_of(logs: tuple[str, ...], given: Mapping[str, Any]) -> "Embeddings | None":
    """The endpoint that the options name, if they do."""
    url, model = given["embeddings_url"], given["embeddings_model"]
    if url is None and model is None:
        return None
    if url is None or model is None:
        raise click.UsageError("--embeddings and --embeddings-model must be given together")
    if "-" in logs:
        raise click.UsageError("--embeddings reads the log twice, which standard input cannot be: give a file")
    from shadowproxy.judge.embeddings import Embeddings, EmbeddingsFailed, embeddings_address

    try:
        address = embeddings_address(url)
    except ValueError as error:
        raise click.UsageError(f"--embeddings: {error}") from None
    if not model.strip() or not model.isprintable():
        raise click.UsageError("--embeddings-model: it is empty, or cannot be printed")
    try:
        return Embeddings(address, model, key_for("SHADOWPROXY_EMBEDDINGS_KEY", address))
    except EmbeddingsFailed as error:
        raise UserError(str(error)) from None


def meanings_of(
    logs: tuple[str, ...], given: Mapping[str, Any], endpoint: "Embeddings"
) -> "Mapping[str, MeaningFigures]":
    """How near the texts of both are in meaning, by shadow. Says first on standard error what is sent, and where."""
    from shadowproxy.judge.draw import DrawError
    from shadowproxy.judge.meaning import draw_texts, meanings

    try:
        pairs = draw_texts(logs, given["shadow"], given["embeddings_pairs"], only_of(given))
    except DrawError as error:
        raise UserError(f"--embeddings: {error}") from None
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror or error}") from None
    count = sum(len(each.drawn) for each in pairs.values())
    print_error(f"sending the texts of {count:,} pairs of answers, without the equal ones, to {endpoint.origin}")
    with endpoint:
        return meanings(pairs, endpoint, given["embeddings_model"])
