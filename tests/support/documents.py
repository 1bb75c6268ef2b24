"""The documents of the repository, and the shell blocks in them.

A shell block is fenced as "```sh TIER". tests/mesh runs the `local` blocks, and tests/cluster the `cluster`
blocks. Other tests run the commands of `images` and `tests` blocks: test_docs.py names them.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")],
)


@dataclass(frozen=True)
class Block:
    """A shell block of a document."""

    document: Path
    number: int
    """Its position in the document, from 1."""
    tier: str
    code: str
    exit_code: int
    """From a comment `<!-- exit N -->` in front of the block; otherwise 0."""
    output: str
    """The text block that follows: lines that the block prints."""

    def __str__(self) -> str:
        return f"{self.document.name}-{self.number}"


_BLOCK = re.compile(
    r"(?:<!-- exit (?P<exit>\d+) -->\n)?^```sh *(?P<tier>\w*)\n(?P<code>.*?)^```\n"
    r"(?:\n(?:[^\n`]+\n)*\n?^```text\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)


def _blocks(document: Path) -> list[Block]:
    found = _BLOCK.finditer(document.read_text(encoding="utf-8"))
    return [
        Block(document, number, each["tier"], each["code"], int(each["exit"] or 0), each["output"] or "")
        for number, each in enumerate(found, start=1)
    ]


BLOCKS = [block for document in DOCUMENTS for block in _blocks(document)]


def prose(document: Path) -> str:
    """Return the text of a document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
