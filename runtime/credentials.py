"""Masks the secrets of sources before they are shown: in messages, logs, rows and pages."""

from __future__ import annotations

import re

MASK = "***"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/+")
_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]+:/+\S*[^\s.,;:)'\"]")
_PIPELINE_TOKEN = re.compile(r"""((?:[^\s"']|"(?:\\.|[^"\\])*"?|'[^']*'?)+)""")
_SECRET_WORDS = ("user", "login", "pw", "pass", "token", "secret", "key", "auth", "credential", "cookie", "header")


def mask_secrets(source: str) -> str:
    """Mask user names, passwords and query values in a source, keeping the parts that identify it.

    URLs are parsed as people write them, not by RFC 3986: a password may contain unescaped ``/``, ``?`` or ``@``,
    and a slash of ``://`` may be missing. When in doubt, more is masked.

    Args:
        source: URL, GStreamer pipeline (``gst:…``), device or path.
    """
    if source.startswith("gst:"):
        return "gst:" + _PIPELINE_TOKEN.sub(lambda token: _mask_property(token.group(1)), source[4:])
    return _mask_url(source)


def mask_text(text: str) -> str:
    """Mask the secrets of all URLs in a text, and of a GStreamer pipeline to the end of it.

    Args:
        text: A message, which may quote user input.
    """
    before, mark, pipeline = text.partition("gst:")
    return _URL.sub(lambda url: _mask_url(url.group()), before) + (mask_secrets(mark + pipeline) if mark else "")


def _mask_url(text: str) -> str:
    scheme = _SCHEME.match(text)
    if scheme is None:
        return text
    start, rest = text[: scheme.end()], text[scheme.end() :]
    address, mark, query = rest.partition("?")
    if "@" in query and not _is_plain_address(address):  # the question mark belongs to the password
        address, mark, query = rest.rpartition("@")[2].partition("?")
        address = f"{MASK}@{address}"
    elif "@" in address:
        address = f"{MASK}@{address.rpartition('@')[2]}"
    address, hash_mark, _ = address.partition("#")
    masked = start + address + (f"#{MASK}" if hash_mark else "")
    return f"{masked}?{_mask_query(query)}" if mark else masked


def _is_plain_address(address: str) -> bool:
    """Return whether a text is ``host``, ``host:port`` or ``host:port/path``, which cannot be part of a password."""
    host, _, port = address.partition("/")[0].rpartition(":")
    return not host or port.isdecimal() or port.endswith("]")


def _mask_query(query: str) -> str:
    name_and_value = re.compile(r"([^&;#=]*=)?[^&;#]+")
    return name_and_value.sub(lambda part: f"{part.group(1) or ''}{MASK}", query)


def _mask_property(token: str) -> str:
    name, equals, value = token.partition("=")
    if not equals:
        return token
    if any(word in name.lower() for word in _SECRET_WORDS):
        return f"{name}={MASK}"
    bare = value.strip("\"'")
    return f"{name}={value.replace(bare, _mask_url(bare))}" if bare else token
