"""Secrets that only a reply shows: what changes anything asks for one.

FiftyOne's server runs what any page in the user's browser posts to it and does not look where it
comes from; but only the App's own page can read the replies. So a form, or a button of the panel,
carries a secret of this process, and what comes without one was not asked for in the App.
"""

from __future__ import annotations

import hmac
import secrets
import time
from threading import Lock

from fiftyone_isoclip.errors import IsoClipError

LIFE = 12 * 3600.0
"""Seconds for which a token is good: a form may be open all day."""

STALE = (
    "Nothing was done: this form was used already, is too old, or was opened before the App's "
    "server was started; open it again"
)

_KEY = secrets.token_bytes(32)
_lock = Lock()
_used: dict[str, float] = {}
"""The tokens that were redeemed and would be good still, and until when."""


def mint_token(purpose: str) -> str:
    """A secret of 128 random bits that is good once, for a while, in this process, for a purpose.

    Nothing is kept of it until it is used, so asking for many costs nothing.
    """
    body = f"{secrets.token_urlsafe(16)}.{time.monotonic() + LIFE:.0f}"
    return f"{body}.{_seal(body, purpose)}"


def is_good(token: object, purpose: str) -> bool:
    """Whether `redeem_token` would take it."""
    return _end(token, purpose) is not None and token not in _used


def redeem_token(token: object, purpose: str) -> None:
    """Use a token up.

    Raises:
        IsoClipError: it was used already, is too old, of another purpose or process, or none.
    """
    end = _end(token, purpose)
    with _lock:
        for old in [old for old, until in _used.items() if until < time.monotonic()]:
            del _used[old]
        if end is None or token in _used:
            raise IsoClipError(STALE)
        _used[str(token)] = end


def panel_token() -> str:
    """The secret that the panel's buttons carry, the same for as long as this process runs."""
    return _seal("", "panel")


def is_panel_token(token: object) -> bool:
    """Whether a press of a button comes from a panel that this process drew."""
    return hmac.compare_digest(_bytes(token), panel_token().encode())


def _end(token: object, purpose: str) -> float | None:
    """Until when a token is good, None if it is not."""
    body, _, seal = str(token).rpartition(".")
    if not hmac.compare_digest(_bytes(seal), _seal(body, purpose).encode()):
        return None
    end = float(body.rpartition(".")[2])
    return end if end > time.monotonic() else None


def _seal(body: str, purpose: str) -> str:
    return hmac.new(_KEY, _bytes(f"{purpose}\n{body}"), "sha256").hexdigest()


def _bytes(text: object) -> bytes:
    # JSON can hold half a surrogate pair, which has no encoding of its own.
    return str(text).encode(errors="replace")
