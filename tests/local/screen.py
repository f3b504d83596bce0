"""How the demo writes: columns, colours only for a terminal, lines that update in place only there."""

import os
import shutil
import sys
import textwrap


class Screen:
    def __init__(self, out=sys.stdout):
        self.out = out
        self.live = out.isatty() and os.environ.get("TERM") != "dumb"
        self.coloured = self.live and "NO_COLOR" not in os.environ
        self.width = max(80, min(100, shutil.get_terminal_size((96, 24)).columns if self.live else 96))
        self.unfinished = False
        utf8 = (getattr(out, "encoding", "") or "").lower().replace("-", "").startswith("utf8")
        self.bar, self.rule, self.arrow = ("█", "─", "→") if utf8 else ("#", "-", "->")

    def paint(self, text, code):
        return f"\033[{code}m{text}\033[0m" if self.coloured else text

    def good(self, text):
        return self.paint(text, "32")

    def bad(self, text):
        return self.paint(text, "31;1")

    def dim(self, text):
        return self.paint(text, "2")

    def bold(self, text):
        return self.paint(text, "1")

    def line(self, text=""):
        self._clear()
        self.out.write(text.rstrip() + "\n")
        self.out.flush()

    def update(self, text):
        """A line that the next one replaces. Only on a terminal: elsewhere it would be noise."""
        if self.live:
            self._clear()
            self.out.write(text[: self.width - 1])
            self.out.flush()
            self.unfinished = True

    def _clear(self):
        if self.unfinished:
            self.out.write("\r\033[K")
            self.unfinished = False

    def heading(self, text):
        self.line()
        self.line(self.bold(text) + " " + self.dim(self.rule * (self.width - len(text) - 1)))

    def paragraph(self, text, indent="  ", paint=None):
        for part in str(text).splitlines() or [""]:
            for wrapped in textwrap.wrap(part, self.width - len(indent)) or [""]:
                self.line(indent + (paint(wrapped) if paint else wrapped))

    def cut(self, text, width):
        text = str(text)
        return text if len(text) <= width else text[: width - 3] + "..."
