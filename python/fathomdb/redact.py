"""Takes credentials out of words that are kept: an embedder's errors may quote its own request.

What belongs here: what a credential looks like. What does not: deciding what is kept (each place
that stores, logs or shows another's message calls ``redact`` on it).
"""

from __future__ import annotations

import re

HIDDEN = "***"

_NAMES = (
    r"authorization|proxy-authorization|cookie|set-cookie|credentials?|passw(?:or)?d|passphrase|pwd|"
    r"signature|sig|bearer|"
    r"(?:[\w-]*[-_])?(?:api[-_ ]?key|apikey|access[-_ ]?key|secret[-_ ]?key|private[-_ ]?key|"
    r"subscription[-_ ]?key|secret|token|auth)"
)
_VALUE = r"(?:(?:bearer|basic|token|digest)\s+)?[^\s\"',;&}\])]+"
_SHAPES = (
    # user:password@ of an address, and keys of well-known providers by the way they begin.
    (re.compile(r"(?<=://)[^/\s@\"']+(?=@)"), HIDDEN),
    (
        re.compile(
            r"\b(?:sk|pk|rk)[-_][\w-]{8,}|\bgh[opsur]_\w{8,}|\bgithub_pat_\w{8,}|\bhf_\w{8,}|"
            r"\bAKIA[0-9A-Z]{12,}|\bAIza[\w-]{20,}|\bxox[a-z]-[\w-]{8,}|"
            r"\beyJ[\w-]{6,}\.[\w-]+\.[\w-]*"
        ),
        HIDDEN,
    ),
    (re.compile(rf"\b({_NAMES})([\"']?\s*[:=]\s*[\"']?){_VALUE}", re.IGNORECASE), rf"\1\2{HIDDEN}"),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
)


def redact(text: str) -> str:
    """The text with ``***`` where a credential stood; everything else stays readable."""
    for shape, instead in _SHAPES:
        text = shape.sub(instead, text)
    return text
