"""How text looks: tones to colours, safe text, and the ASCII set.

Whatever may come from a host passes `Look.text` or `Look.block`: control characters, terminal
escapes and direction overrides never reach the terminal, and nothing is read as markup.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.cells import cell_len, set_cell_size
from rich.style import Style
from rich.text import Text
from textual.color import Color, ColorParseError
from textual.theme import Theme

from runbook.symbols import AS_FOUND, SEVERITY, STATUS, TO_COME, UNDER_WAY, Mark, shown

Part = str | tuple[str, str]
"""A text, or a text and its tone."""

CALM = Theme(
    name="pmrunbook",
    primary="#7aa7d2",
    secondary="#8794a3",
    accent="#c9a86a",
    success="#86b98a",
    warning="#d9b065",
    error="#e0807c",
    foreground="#cfd6dd",
    background="#12171d",
    surface="#171d24",
    panel="#1d242c",
    dark=True,
    variables={
        "block-cursor-background": "#2b3a4a",
        "block-cursor-foreground": "#e8edf2",
        "border": "#7aa7d2",
        "border-blurred": "#35404c",
        "footer-key-foreground": "#c9a86a",
        "footer-background": "#12171d",
        "scrollbar": "#35404c",
        "scrollbar-background": "#171d24",
    },
)
PAPER = Theme(
    name="pmrunbook-light",
    primary="#2d6296",
    secondary="#5c6773",
    accent="#7c5c12",
    success="#2f6f3a",
    warning="#8a5a00",
    error="#a8322d",
    foreground="#22282e",
    background="#f7f6f2",
    surface="#f1efe9",
    panel="#e7e4dc",
    dark=False,
    variables={
        "block-cursor-background": "#d5e0eb",
        "block-cursor-foreground": "#10161c",
        "border": "#2d6296",
        "border-blurred": "#c5c1b6",
    },
)

_TONES = {
    "good": "success",
    "bad": "error",
    "warn": "warning",
    "busy": "primary",
    "accent": "accent",
}
SMALLER = str.maketrans(
    {
        **{"·": "-", "…": "~", "—": "-", "→": ">", "─": "-", "│": "|"},
        **{
            m.symbol: m.ascii
            for m in (*STATUS.values(), *SEVERITY.values(), AS_FOUND, UNDER_WAY, TO_COME)
        },
    }
)
"""What our own texts use beyond ASCII, in ASCII."""


class Look:
    """The tones of one theme, and whether only ASCII may be drawn."""

    def __init__(self, ascii_only: bool, variables: Mapping[str, str], native: bool) -> None:
        self.ascii = ascii_only
        self._styles = {tone: _style(variables.get(name, "")) for tone, name in _TONES.items()}
        self._styles["plain"] = Style()
        self._styles["strong"] = Style(bold=True)
        self._styles["head"] = self._styles["accent"] + Style(bold=True)
        self._styles["dim"] = Style(dim=True) if native else _faded(variables)

    @property
    def arrow(self) -> str:
        """What points at the row under the cursor."""
        return ">" if self.ascii else "\u276f"

    def style(self, tone: str) -> Style:
        return self._styles.get(tone, Style())

    def sign(self, mark: Mark) -> Part:
        return (mark.sign(self.ascii), mark.tone)

    def word(self, mark: Mark, width: int = 0) -> Part:
        """Symbol and word, padded to `width` cells."""
        return (f"{mark.sign(self.ascii)} {mark.word}".ljust(width), mark.tone)

    def clean(self, text: str) -> str:
        """`text` on one line with nothing in it that a terminal would obey."""
        if text.isascii() and text.isprintable():
            return text
        text = text.replace("\n", " ").replace("\t", " ")
        if self.ascii:
            text = text.translate(SMALLER).encode("ascii", "replace").decode()
        return shown(text, "·?"[self.ascii])

    def text(self, *parts: Part) -> Text:
        """One line."""
        return Text.assemble(
            *((self.clean(p), Style()) if isinstance(p, str) else
              (self.clean(p[0]), self.style(p[1])) for p in parts),
            end="", no_wrap=True, overflow="ellipsis",
        )  # fmt: skip

    def block(self, *parts: Part) -> Text:
        """Several lines; newlines stay, everything else is cleaned."""
        result = Text(end="", overflow="fold")
        for part in parts:
            said, tone = (part, "plain") if isinstance(part, str) else part
            lines = said.expandtabs(8).split("\n")
            result.append("\n".join(self.clean(line) for line in lines), self.style(tone))
        return result

    def cell(self, text: str, width: int) -> str:
        """`text` cleaned and made exactly `width` cells wide, cut with an ellipsis."""
        if width <= 0:
            return ""
        text = self.clean(text)
        if cell_len(text) > width:
            return set_cell_size(text, width - 1) + ("~" if self.ascii else "…")
        return text + " " * (width - cell_len(text))

    def bar(self, parts: tuple[tuple[int, str], ...], width: int) -> list[Part]:
        """Counts as a bar of `width` cells; whatever is not nothing gets at least one."""
        total = sum(n for n, _ in parts)
        if not total:
            return []
        cells = [max(1, round(n * width / total)) if n else 0 for n, _ in parts]
        cells[cells.index(max(cells))] += width - sum(cells)
        letters = {"plain": "█", "good": "█", "busy": "▓", "dim": "░", "bad": "▒", "warn": "▒"}
        small = {"plain": "#", "good": "#", "busy": ">", "dim": ".", "bad": "x", "warn": "!"}
        table = small if self.ascii else letters
        return [(table[tone] * n, tone) for n, (_, tone) in zip(cells, parts, strict=True) if n > 0]


def _style(color: str) -> Style:
    try:
        return Style(color=Color.parse(color).rich_color) if color else Style()
    except ColorParseError:
        return Style()


def _faded(variables: Mapping[str, str]) -> Style:
    front, back = variables.get("foreground", ""), variables.get("background", "")
    try:
        return Style(color=Color.parse(front).blend(Color.parse(back), 0.45).rich_color)
    except ColorParseError:
        return Style(dim=True)
