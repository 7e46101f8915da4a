"""The sentences that rules print and parse as.

rule      "activates on nothing", or "activates " clause {" or " clause}
clause    "on" patterns ["after" patterns {"then" patterns}] ["before" patterns] ["near" patterns]
          ["in the first" NUMBER] ["=" NUMBER]
patterns  pattern {"," pattern}
pattern   a token in double quotes, as JSON has it; a bare word; <any> <capitalised> <digit> <newline>
          <punctuation> <space> <ends "ing"> <starts "un">
weighted  "activates by" NUMBER {SIGNED-NUMBER token ["@" OFFSET | "@text"]} ["=" NUMBER]
"""

import json
import re
from collections.abc import Sequence

from gossamer.errors import UsageError
from gossamer.explain.rules import ANY, CLASSES, Clause, Executable, Patterns, Rule, Term, TokenPattern, WeightedRule

_PIECES = re.compile(r'\s*("(?:[^"\\]|\\.)*"|<[a-z]+(?:\s+"(?:[^"\\]|\\.)*")?>|@-?\w+|[,=]|[^\s,="<>@]+)')
_KEYWORDS = ("on", "after", "then", "before", "near", "in", "or", "by", "nothing")
_START = "activates"
# Of a rule that a person or a model writes.
_LONGEST = 20_000


def parse(text: str) -> Executable | None:
    """The rule that a sentence says; None where it is a sentence of another kind.

    Raises:
        UsageError: it begins as a rule does and goes on as none.
    """
    start = text.strip().lower().split(maxsplit=2)[:2]
    if start == [_START, "by"]:
        return parse_weighted(text)
    return parse_rule(text) if start == [_START, "on"] else None


def parse_rule(text: str) -> Rule:
    """The rule that a sentence says. Raises :class:`UsageError` where it says none."""
    pieces = _Pieces(text)
    pieces.take(_START)
    if pieces.texts[pieces.place :] == ["on", "nothing"]:
        return Rule()
    clauses = [_clause(pieces)]
    while pieces.accept("or"):
        clauses.append(_clause(pieces))
    pieces.require_end('"or", or the end')
    return Rule(tuple(clauses))


def parse_weighted(text: str) -> WeightedRule:
    """The weighted rule that a sentence says. Raises :class:`UsageError` where it says none."""
    pieces = _Pieces(text)
    pieces.take(_START)
    pieces.take("by")
    bias, terms, value = pieces.number(), [], 1.0
    while pieces.following not in ("", "="):
        weight, token = pieces.number(), pieces.token()
        terms.append(Term(weight, token, pieces.offset()))
    if pieces.accept("="):
        value = pieces.number()
    pieces.require_end("a weight, =, or the end")
    return WeightedRule(bias, tuple(terms), value)


def rule_text(rule: Rule) -> str:
    """The inverse of :func:`parse_rule`."""
    return f"{_START} {' or '.join(map(_clause_text, rule.clauses)) or 'on nothing'}"


def weighted_text(rule: WeightedRule) -> str:
    """The inverse of :func:`parse_weighted`."""
    parts = [f"{_START} by {rule.bias:.4g}"]
    for term in rule.terms:
        place = "" if term.offset == 0 else "@text" if term.offset is None else f"@{term.offset}"
        parts.append(f"{term.weight:+.4g} {_quoted(term.token)}{place}")
    return " ".join([*parts, f"= {rule.value:.4g}"])


def spoken(text: str) -> str:
    """A sentence for people: of a rule without the numbers that a program needs, any other as it is."""
    try:
        rule = parse(text)
    except UsageError:
        return text
    if isinstance(rule, WeightedRule):
        terms = sorted(rule.terms, key=lambda one: -abs(one.weight))
        parts = []
        for how, sign in (("mostly", 1), ("seldom", -1)):
            if some := [_term_said(one) for one in terms if one.weight * sign > 0]:
                parts.append(f"{how} with {', '.join(some)}")
        return f"{_START} {'; '.join(parts)}" if parts else text
    if isinstance(rule, Rule) and rule.clauses:
        return f"{_START} {' or '.join(_clause_text(one).rpartition(' = ')[0] for one in rule.clauses)}"
    return text


def _term_said(term: Term) -> str:
    if term.offset is None:
        return f"{_quoted(term.token)} anywhere in the text"
    before = {0: "", -1: " right before"}.get(term.offset, f" {abs(term.offset)} tokens before")
    return f"{_quoted(term.token)}{before}"


class _Pieces:
    """The pieces of a sentence, read from the left."""

    def __init__(self, text: str) -> None:
        self.text, self.texts, self.place = text, [], 0
        at, end = 0, len(text.rstrip())
        while at < min(end, _LONGEST):
            found = _PIECES.match(text, at)
            if found is None:
                raise self._error("words, tokens in double quotes and <classes>", text[at:])
            self.texts.append(found[1])
            at = found.end()
        if end > _LONGEST:
            raise self._error(f"at most {_LONGEST:,} characters", f"{end:,}")

    @property
    def following(self) -> str:
        return self.texts[self.place] if self.place < len(self.texts) else ""

    def accept(self, word: str) -> bool:
        """Go on if the next piece is `word`."""
        found = self.following.lower() == word
        self.place += found
        return found

    def take(self, word: str) -> None:
        if not self.accept(word):
            raise self._error(f'"{word}"')

    def number(self) -> float:
        try:
            found = float(self.following)
        except ValueError:
            raise self._error("a number") from None
        if not abs(found) < float("inf"):
            raise self._error("a finite number")
        self.place += 1
        return found

    def token(self) -> str:
        if not self.following.startswith('"'):
            raise self._error("a token in double quotes")
        found = self.unquoted(self.following)
        self.place += 1
        return found

    def offset(self) -> int | None:
        if not self.following.startswith("@"):
            return 0
        text = self.following[1:]
        if text != "text" and not re.fullmatch(r"-\d{1,2}", text):
            raise self._error("@-1, @-2 ... or @text")
        self.place += 1
        return None if text == "text" else int(text)

    def unquoted(self, piece: str) -> str:
        try:
            return str(json.loads(piece, strict=False))
        except ValueError:
            raise self._error("a token as JSON writes it") from None

    def pattern(self) -> TokenPattern:
        piece = self.following
        if piece.startswith("<"):
            name, _, quoted = piece[1:-1].partition(" ")
            if name in ("ends", "starts") and quoted:
                found = TokenPattern(name, self.unquoted(quoted.strip()))
            elif name in CLASSES and not quoted:
                found = TokenPattern(name)
            else:
                raise self._error(f'<{">, <".join(CLASSES)}>, <ends "ing"> or <starts "un">')
        elif piece.startswith('"'):
            found = TokenPattern("token", self.unquoted(piece))
        elif piece and piece.lower() not in _KEYWORDS and piece not in ",=":
            found = TokenPattern("word", piece.lower())
        else:
            raise self._error("a token, a word or a class")
        self.place += 1
        return found

    def require_end(self, expected: str) -> None:
        if self.following:
            raise self._error(expected)

    def _error(self, expected: str, found: str | None = None) -> UsageError:
        shown = found if found is not None else self.following or "the end"
        return UsageError(f"rule: {expected} expected, found {shown[:40]!r} in {self.text[:200]!r}")


def _clause(pieces: _Pieces) -> Clause:
    pieces.take("on")
    on, after, value = _patterns(pieces), list[Patterns](), 1.0
    before: Patterns = ()
    near: Patterns = ()
    first: int | None = None
    if pieces.accept("after"):
        after.append(_patterns(pieces))
        while pieces.accept("then"):
            after.append(_patterns(pieces))
    if pieces.accept("before"):
        before = _patterns(pieces)
    if pieces.accept("near"):
        near = _patterns(pieces)
    if pieces.accept("in"):
        pieces.take("the")
        pieces.take("first")
        first = int(pieces.number())
    if pieces.accept("="):
        value = pieces.number()
    return Clause(on, tuple(after), before, near, first, value)


def _patterns(pieces: _Pieces) -> Patterns:
    found = [pieces.pattern()]
    while pieces.accept(","):
        found.append(pieces.pattern())
    return tuple(found)


def _clause_text(clause: Clause) -> str:
    parts = [f"on {_several(clause.on or ANY)}"]
    if clause.after:
        parts.append(f"after {' then '.join(map(_several, clause.after))}")
    if clause.before:
        parts.append(f"before {_several(clause.before)}")
    if clause.near:
        parts.append(f"near {_several(clause.near)}")
    if clause.first is not None:
        parts.append(f"in the first {clause.first}")
    return " ".join([*parts, f"= {clause.value:.4g}"])


def _several(patterns: Sequence[TokenPattern]) -> str:
    return ", ".join(map(_pattern_text, patterns))


def _pattern_text(pattern: TokenPattern) -> str:
    if pattern.kind in ("token", "word"):
        plain = pattern.kind == "word" and re.fullmatch(r"[^\s,=\"<>@]+", pattern.text)
        return pattern.text if plain and pattern.text not in _KEYWORDS else _quoted(pattern.text)
    return f"<{pattern.kind} {_quoted(pattern.text)}>" if pattern.text else f"<{pattern.kind}>"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
