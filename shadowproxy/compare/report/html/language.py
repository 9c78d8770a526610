"""What language models wrote and called."""

from shadowproxy.compare.report.figures.language_types import LanguageFigures
from shadowproxy.compare.report.html.elements import e, table
from shadowproxy.compare.report.sentences.language import LANGUAGE_HEADS, LANGUAGE_NOTE, language_notes, language_rows


def language(found: LanguageFigures | None) -> str:
    if found is None:
        return ""
    rows = [tuple(e(cell) for cell in row) for row in language_rows(found)]
    heads = ("", *(f"#{head}" for head in LANGUAGE_HEADS))
    notes = "".join(f"<p>{e(note)}</p>" for note in language_notes(found))
    return f"<h2>Language model</h2>{table(heads, rows)}{notes}<p class='why'>{e(LANGUAGE_NOTE)}</p>"
