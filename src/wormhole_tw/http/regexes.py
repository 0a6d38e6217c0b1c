"""Regular expressions whose time is bounded, whoever wrote them and whatever they are held against.

An operator writes the expression, and a visitor the text: an engine that backtracks lets the one hang the edge with the
other.  Here a text is read once, from left to right: an octet costs one look into a table, and at the worst, where that
table is not yet filled, one look at each position of the expression (Thompson, "Regular Expression Search Algorithm";
https://swtch.com/~rsc/regexp/regexp1.html).

It is always the whole text that is matched.  What there is: literals, ``.``, ``[a-z]``, ``[^a-z]``, ``\\d \\w \\s`` and
their opposites, escapes, groups, ``|``, ``* + ? {2} {2,} {2,5}`` (lazy ones mean the same here), ``(?i)`` in front,
``^`` in front and ``$`` at the end, which change nothing.  What there is not: back references and looking around.
Letters are those of ASCII.
"""

from __future__ import annotations

from typing import NoReturn

__all__ = ["MAX_PATTERN", "MAX_POSITIONS", "MAX_TEXT", "Regex"]

MAX_PATTERN = 512
"""Characters of an expression: ten times what people can read."""

MAX_POSITIONS = 512
"""Positions of an expression once its counted repeats are written out: the most that one octet can cost."""

MAX_TEXT = 1024
"""Octets of a text; a longer one is not matched at all.  User-Agent and Referer are shorter."""

MAX_STATES = 64
"""Sets of positions whose table is kept, for each expression; ordinary ones have ten.  Full ones are 2 MB in all."""

_ALL = (1 << 256) - 1
_DIGITS = sum(1 << octet for octet in b"0123456789")
_WORD = _DIGITS | sum(1 << octet for octet in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_SPACE = sum(1 << octet for octet in b" \t\n\r\f\v")
_CLASSES = {"d": _DIGITS, "w": _WORD, "s": _SPACE, "D": _ALL & ~_DIGITS, "W": _ALL & ~_WORD, "S": _ALL & ~_SPACE}
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_NOT_NEWLINE = _ALL & ~(1 << 10)

_UPPER = sum(1 << octet for octet in range(65, 91))
_LOWER = _UPPER << 32


class Regex:
    """One expression, compiled.

    :param pattern: the expression, ASCII
    :raises ValueError: it is none, or one of what there is not; the message says why
    """

    __slots__ = ("_first", "_kept", "_loose", "_masks", "_next", "_reach", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        if len(pattern) > MAX_PATTERN:
            raise ValueError(f"longer than {MAX_PATTERN} characters")
        if not pattern.isascii():
            raise ValueError("not ASCII: write an octet as \\xE9")
        parser = _Parser(pattern)
        start, end = parser.whole()
        self._masks = parser.masks
        self._loose = parser.loose
        self._next = parser.following
        end_of_all = parser.node(0)
        self._loose[end].append(end_of_all)
        # which positions that read an octet (and the end) are reached from each without reading any
        self._reach = [self._closure(position) for position in range(len(self._masks))]
        self._kept: dict[frozenset[int], _State] = {}
        self._first = self._reach[start]

    def __repr__(self) -> str:
        return f"Regex({self.pattern!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Regex) and other.pattern == self.pattern

    def __hash__(self) -> int:
        return hash(self.pattern)

    def matches(self, text: bytes) -> bool:
        """Whether the whole text is one of those that the expression describes; False where it is too long."""
        if len(text) > MAX_TEXT:
            return False
        state = self._state(self._first)
        for octet in text:
            following = state.table.get(octet)
            if following is None:
                following = state.table[octet] = self._state(self._after(state.positions, octet))
            if not following.positions:
                return False
            state = following
        return len(self._masks) - 1 in state.positions

    def _after(self, positions: frozenset[int], octet: int) -> frozenset[int]:
        masks, reach, following = self._masks, self._reach, self._next
        found: set[int] = set()
        for position in positions:
            if masks[position] >> octet & 1:
                found |= reach[following[position]]
        return frozenset(found)

    def _state(self, positions: frozenset[int]) -> _State:
        kept = self._kept
        state = kept.get(positions)
        if state is None:
            if len(kept) >= MAX_STATES:
                for old in kept.values():
                    old.table.clear()  # or those that are left would hold on to the others
                kept.clear()
            state = kept[positions] = _State(positions)
        return state

    def _closure(self, start: int) -> frozenset[int]:
        seen = {start}
        pending = [start]
        while pending:
            for position in self._loose[pending.pop()]:
                if position not in seen:
                    seen.add(position)
                    pending.append(position)
        last = len(self._masks) - 1
        return frozenset(position for position in seen if self._masks[position] or position == last)


class _State:
    """A set of positions, and what follows on it.

    :ivar table: octet → the state behind it, as far as it was asked for
    """

    __slots__ = ("positions", "table")

    def __init__(self, positions: frozenset[int]) -> None:
        self.positions = positions
        self.table: dict[int, _State] = {}


class _Parser:
    """From the text of an expression to its positions.

    :ivar masks: of each position, the octets that it reads, one bit each; 0 for one that reads none
    :ivar following: the position behind one that reads
    :ivar loose: the positions that are reached from one without reading
    """

    def __init__(self, pattern: str) -> None:
        self.masks: list[int] = []
        self.following: list[int] = []
        self.loose: list[list[int]] = []
        self._fold = pattern.startswith("(?i)")
        self._text = pattern[4:] if self._fold else pattern
        self._text = self._text.removeprefix("^")
        self._at = 0
        self._depth = 0

    def node(self, mask: int) -> int:
        if len(self.masks) > MAX_POSITIONS:
            self._refuse("too much of it, with its counted repeats written out")
        self.masks.append(mask)
        self.following.append(-1)
        self.loose.append([])
        return len(self.masks) - 1

    def whole(self) -> tuple[int, int]:
        """Everything; where it begins and where it ends."""
        tree = self._alternatives()
        if self._at < len(self._text):
            self._refuse("a ) without its (")
        return self._build(tree)

    def _refuse(self, why: str) -> NoReturn:
        raise ValueError(f"no expression of those that there are: {why}")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._peek()
        if not char:
            self._refuse("it ends too early")
        self._at += 1
        return char

    # a tree of tuples: ("one", mask) · ("row", [tree …]) · ("any", [tree …]) · ("repeat", tree, least, most or None)

    def _alternatives(self) -> tuple[object, ...]:
        branches = [self._row()]
        while self._peek() == "|":
            self._at += 1
            branches.append(self._row())
        return branches[0] if len(branches) == 1 else ("any", branches)

    def _row(self) -> tuple[object, ...]:
        parts: list[tuple[object, ...]] = []
        while (char := self._peek()) and char not in "|)":
            if char == "$" and self._at == len(self._text) - 1:
                self._at += 1
                break
            parts.append(self._repeated(self._atom()))
        return ("row", parts)

    def _atom(self) -> tuple[object, ...]:
        char = self._take()
        if char == "(":
            return self._group()
        if char == "[":
            return ("one", self._class())
        if char == "\\":
            return ("one", self._folded(self._escape()))
        if char == ".":
            return ("one", _NOT_NEWLINE)
        if char in "*+?{":
            self._refuse(f"{char} with nothing before it to repeat (the character itself is \\{char})")
        if char in "^$":
            self._refuse(f"{char} in the middle: it is always the whole text (the character itself is \\{char})")
        return ("one", self._folded(1 << ord(char)))

    def _group(self) -> tuple[object, ...]:
        if self._text.startswith("?:", self._at):
            self._at += 2
        elif self._peek() == "?":
            self._refuse("(? is only for (?:…), and (?i) in front of all")
        self._depth += 1
        if self._depth > 50:
            self._refuse("more than 50 groups within one another")
        tree = self._alternatives()
        if self._peek() != ")":
            self._refuse("a ( without its )")
        self._at += 1
        self._depth -= 1
        return tree

    def _repeated(self, tree: tuple[object, ...]) -> tuple[object, ...]:
        char = self._peek()
        if char not in ("*", "+", "?", "{"):
            return tree
        self._at += 1
        least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(char) or self._counted()
        if self._peek() == "?":
            self._at += 1
        if self._peek() in ("*", "+", "?", "{"):
            self._refuse("a repeat of a repeat: put a group around the first")
        return ("repeat", tree, least, most)

    def _counted(self) -> tuple[int, int | None]:
        end = self._text.find("}", self._at)
        first, comma, second = self._text[self._at : max(end, self._at)].partition(",")
        if end < 0 or not first.isdecimal() or (second and not second.isdecimal()) or len(first + second) > 8:
            self._refuse("{ is for {2}, {2,} and {2,5} (the character itself is \\{)")
        self._at = end + 1
        least = int(first)
        most = int(second) if second else None if comma else least
        if most is not None and most < least:
            self._refuse(f"{{{first},{second}}} wants more than it allows")
        return least, most

    def _escape(self) -> int:
        char = self._take()
        if char in _CLASSES:
            return _CLASSES[char]
        if char in _CONTROLS:
            return 1 << _CONTROLS[char]
        if char == "x":
            digits = self._take() + self._take()
            try:
                return 1 << int(digits, 16)
            except ValueError:
                self._refuse("\\x stands before two hex digits")
        if char.isalnum():
            self._refuse(f"\\{char} is not there")
        return 1 << ord(char)

    def _class(self) -> int:
        negated = self._peek() == "^"
        if negated:
            self._at += 1
        mask = 0
        first = True
        while first or self._peek() != "]":
            first = False
            low = self._member()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                high = self._member()
                if low.bit_count() != 1 or high.bit_count() != 1 or high < low:
                    self._refuse("a range in [ ] goes from one character up to another")
                mask |= (high << 1) - low
            else:
                mask |= low
        self._at += 1
        mask = self._folded(mask)
        return _ALL & ~mask if negated else mask

    def _member(self) -> int:
        char = self._take()
        return self._escape() if char == "\\" else 1 << ord(char)

    def _folded(self, mask: int) -> int:
        return mask | (mask & _UPPER) << 32 | (mask & _LOWER) >> 32 if self._fold else mask

    # from the tree to positions: each part has one way in and one way out, neither of which reads

    def _build(self, tree: tuple[object, ...]) -> tuple[int, int]:
        kind = tree[0]
        if kind == "one":
            assert isinstance(tree[1], int)
            into, out = self.node(tree[1]), self.node(0)
            self.following[into] = out
            # a class of nothing ([^\d\D]) reads nothing, and leads nowhere
            return into, out
        if kind == "repeat":
            return self._build_repeat(*tree[1:])  # type: ignore[arg-type]
        assert isinstance(tree[1], list)
        into = out = self.node(0)
        if kind == "row":
            for part in tree[1]:
                start, end = self._build(part)
                self.loose[out].append(start)
                out = end
            return into, out
        out = self.node(0)
        for branch in tree[1]:
            start, end = self._build(branch)
            self.loose[into].append(start)
            self.loose[end].append(out)
        return into, out

    def _build_repeat(self, tree: tuple[object, ...], least: int, most: int | None) -> tuple[int, int]:
        into = out = self.node(0)
        last = self.node(0)
        for count in range(least if most is None else most):
            if count >= least:
                self.loose[out].append(last)
            start, end = self._build(tree)
            self.loose[out].append(start)
            out = end
        if most is None:
            # once more, or any number of times
            start, end = self._build(tree)
            self.loose[out].append(start)
            self.loose[end] += (start, last)
        self.loose[out].append(last)
        return into, last
