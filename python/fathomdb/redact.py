"""Takes credentials out of words that are kept: an embedder's errors may quote its own request.

What belongs here: what a credential looks like. What does not: deciding what is kept (each place
that stores, logs or shows another's message calls ``redact`` on it).
"""

from __future__ import annotations

import re

HIDDEN = "***"

# No name may begin with what can repeat: each place of a text is tried once, and left at once.
_NAMES = (
    r"passw(?:or)?d|passphrase|secret|token|api[-_ ]?key|"
    r"(?:access|secret|private|subscription)[-_ ]?key|"
    # These end other words too, or are parts of them.
    r"(?<![^\W_])(?:authorization|cookie|credentials?|pwd|signature|sig|bearer|auth)|"
    r"(?<=[?&])key"
)
# What repeats never gives back (``*+``) where the next part may take it too: that would be squared.
_UNTIL = r"\\*+[\"']?(?:\s+(?:provided|given|used))?\s*[:=]\s*"
_SCHEME = r"(?:(?:bearer|basic|token|digest|negotiate|api-?key|key)\s+)?"
# In quotes (which may be escaped, as in JSON within JSON) up to the quote that ends it; in brackets
# up to that; or else a word, and not the full stop behind it.
_VALUE = (
    r"(?:(\\*+[\"'])(?:(?!\3)(?:\\.|.)){1,1000}(?=\3)|"
    r"\([^()]{1,1000}\)|\[[^\[\]]{1,1000}\]|"
    rf"(\\*+[\"']?+){_SCHEME}[^\s\"',;&}}\])]*[^\s\"',;&}}\]).\\])"
)
_SHAPES = (
    # user:password@ of an address; a password may have an @, and a / that is not behind a port.
    (
        re.compile(r"(?<=://)(?:[^/\s\"']+|[^/\s\"'@:\[]+:(?!\d+/)[^\s\"']{1,256})(?=@)"),
        HIDDEN,
    ),
    # Keys of well-known providers, by the way they begin.
    (
        re.compile(
            r"\b(?:sk|pk|rk)[-_][\w-]{8,}|\bgh[opsur]_\w{8,}|\bgithub_pat_\w{8,}|\bhf_\w{8,}|"
            r"\bAKIA[0-9A-Z]{12,}|\bAIza[\w-]{20,}|\bxox[a-z]-[\w-]{8,}|"
            r"(?<![\w-])eyJ[\w-]{6,}\.[\w-]+\.[\w-]*"
        ),
        HIDDEN,
    ),
    (
        re.compile(r"\b(cookie:\s*)[^\s\"',;]+(?:;\s*[\w-]+(?:=[^\s\"',;]*)?)*", re.IGNORECASE),
        rf"\1{HIDDEN}",
    ),
    (re.compile(rf"({_NAMES})({_UNTIL}){_VALUE}", re.IGNORECASE), rf"\1\2\3\4{HIDDEN}"),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
)


def redact(text: str) -> str:
    """The text with ``***`` where a credential stood; everything else stays readable.

    The work grows with the length of the text, and no faster, whatever it says.
    """
    for shape, instead in _SHAPES:
        text = shape.sub(instead, text)
    return text
