"""Passwords in the URLs of databases: nothing that is shown, logged or stored holds one.

What looks like a password is taken for one: a text that hides too much can still be read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote

if TYPE_CHECKING:
    import sqlalchemy as sa

HIDDEN = "***"
SECRET = ("password", "passwd", "passphrase", "pwd", "secret", "token")  #: ends of options' names

_WORD = re.compile(r"""(?:'[^']*'|"[^"]*"|[^\s'"])+""")  # as a shell takes a text apart
_LOGIN = re.compile(r"^([^:@/]*):.*@", re.DOTALL)  # up to the last @: a password may hold some
_NO_HOST = re.compile(r"^([^:/?\[]+):(?!\d+(?!\w)).+", re.DOTALL)  # me:secret, and no host
_NAME = re.compile(r"""([^?&=\s'"]+)=""")
_VALUE = re.compile(r"""[^&]*?(?=['"]?(?:&|$))""", re.DOTALL)


def masked(text: str) -> str:
    """Return a text without the passwords of the URLs in it.

    >>> masked("--storage postgresql://me:secret@host/db")
    '--storage postgresql://me:***@host/db'
    >>> masked("postgresql://me:s/e@c:ret@host, postgresql://host/db?user=me&password=secret")
    'postgresql://me:***@host, postgresql://host/db?user=me&password=***'
    """
    return _WORD.sub(lambda word: masked_url(word[0]), text)


def masked_url(text: str) -> str:
    """Return what should be one URL without its password, also where it is none.

    >>> masked_url("postgresql://me:a b@host/db"), masked_url("host=here password=secret")
    ('postgresql://me:***@host/db', 'host=here password=***')
    """
    head, mark, rest = text.partition("://")
    if _LOGIN.match(rest):
        rest = _LOGIN.sub(rf"\1:{HIDDEN}@", rest)
    else:
        rest = _NO_HOST.sub(rf"\1:{HIDDEN}", rest)
    return _without_options(head + mark + rest)


def shown(url: sa.URL) -> str:
    """Return a URL as it may be shown."""
    return masked_url(url.render_as_string(hide_password=True))


def scrubbed(text: str, url: sa.URL) -> str:
    """Return what a driver says of a URL, without the URL's passwords wherever they stand."""
    for secret in _secrets(url):
        for form in {secret, quote(secret, safe=""), quote_plus(secret)}:
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", HIDDEN, text)
    return masked(text)


def _without_options(text: str) -> str:
    """A text without the values of the options in it that are passwords."""
    for name in _NAME.finditer(text):
        value = _VALUE.match(text, name.end())
        if value and _is_secret(name[1]):
            return text[: name.end()] + HIDDEN + _without_options(text[value.end() :])
    return text


def _is_secret(name: str) -> bool:
    return unquote(name).lower().endswith(SECRET)


def _secrets(url: sa.URL) -> list[str]:
    """The passwords of a URL, the longest first."""
    found = [str(url.password)] if url.password else []
    for name, value in url.query.items():
        if _is_secret(name):
            found += [value] if isinstance(value, str) else value
    return sorted(filter(None, found), key=len, reverse=True)
