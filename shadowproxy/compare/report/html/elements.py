"""What the page is made of: text made harmless, code, tables that scroll, and how much is shown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from shadowproxy.compare.judge.visible import parts, visible

_N: Final = " class='n'"


@dataclass(frozen=True, slots=True)
class Detail:
    """How much of a shadow a page shows, so that one with many shadows stays small."""

    fields: int
    slices: int
    reasons: int
    examples: int
    pictures: bool


FULL: Final = Detail(20, 10, 10, 12, True)
SHORT: Final = Detail(6, 4, 4, 2, True)
LEAST: Final = Detail(0, 0, 3, 0, False)


def e(text: Any) -> str:
    """Text made harmless; a number stays on one line with its sign of per cent."""
    return escape(visible(str(text)).replace(" %", "\u00a0%"), quote=True)


def code(text: Any) -> str:
    return f"<code>{e(text)}</code>"


def marked(live: str, shadow: str) -> tuple[str, str]:
    """Two sides of a difference, with what differs between them marked."""
    one, other = (
        f"<code>{e(before)}{f'<mark>{e(differing)}</mark>' if differing else ''}{e(after)}</code>"
        for before, differing, after in parts(live, shadow)
    )
    return one, other


def sentence(text: str) -> str:
    """A text as a sentence: a first word with digits in it, such as p99, stays as it is."""
    first = text.partition(" ")[0].rstrip(":,")
    return f"{text[:1].upper() if first.isalpha() else text[:1]}{text[1:]}."


def css(result: str) -> str:
    """A result as a class name of the style sheet."""
    return result.replace(" ", "-")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", kind: str = "") -> str:
    """A table that scrolls by itself. A heading that begins with # is over numbers; the first column names its row.

    `rows` are HTML already.
    """
    numeric = [head.startswith("#") for head in heads]
    tops = "".join(
        f"<th scope='col'{_N if right else ''}>{e(head.lstrip('#'))}</th>" if head else "<td></td>"
        for head, right in zip(heads, numeric, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<th scope='row'>{cell}</th>" if at == 0 else f"<td{_N if numeric[at] else ''}>{cell}</td>"
            for at, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    title = f"<caption>{e(caption)}</caption>" if caption else ""
    return f"<div class='scroll'><table{kind}>{title}<thead><tr>{tops}</tr></thead><tbody>{body}</tbody></table></div>"
