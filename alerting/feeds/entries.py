"""Atom and RSS taken apart: for each entry the CAP document it holds, or where that is to be had."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin

from lxml import etree

from alerting.cap_xml.envelopes import CAP_TYPES
from alerting.cap_xml.grammar import NAMESPACES
from alerting.cap_xml.parsing import FEED, parse
from alerting.cap_xml.rules import Report

FEEDS = frozenset({"feed", "rss", "RDF"})
"""The outermost elements of Atom, RSS 2.0 and RSS 1.0."""
ENTRIES = frozenset({"entry", "item"})
MOST_ENTRIES = 5000


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a feed. `key` stands for its id, when it was updated and what it holds or leads to.

    `documents` are in the entry itself; where there are none, `link` leads to one, and is empty where nothing does.
    """

    key: str
    updated: datetime
    link: str
    documents: tuple[bytes, ...]


def entries(raw: bytes, address: str) -> tuple[Entry, ...] | None:
    """The entries of Atom or RSS fetched from `address`, in its order; None for anything else, readable or not."""
    root = parse(raw, FEED, Report())
    if root is None or _name(root) not in FEEDS:
        return None
    found = (element for element in root.iter() if _name(element) in ENTRIES)
    return tuple(_entry(element, address) for _, element in zip(range(MOST_ENTRIES), found, strict=False))


def _entry(element: etree._Element, address: str) -> Entry:
    updated = _text(element, "updated") or _text(element, "pubDate") or _text(element, "date")
    name = _text(element, "id") or _text(element, "guid")
    documents = tuple(_documents(element))
    link = "" if documents else _joined(address, min(_links(element), default=(0, ""))[1])
    # There are feeds that give one id to all. And without a time only the whole entry tells whether it is the same.
    stamp = [name.encode(), updated.encode() or etree.tostring(element, with_tail=False), link.encode(), *documents]
    return Entry(
        key=hashlib.sha256(b"\0".join(stamp)).hexdigest()[:20],
        updated=_moment(updated),
        link=link,
        documents=documents,
    )


def _documents(entry: etree._Element) -> Iterator[bytes]:
    """CAP inside the entry, as elements; or as text, escaped or in CDATA."""
    for element in entry.iter():
        if _name(element) == "alert" and "cap" in _namespace(element).lower():
            if not any(_name(above) == "alert" for above in element.iterancestors()):
                yield etree.tostring(element, encoding="utf-8", with_tail=False)
        elif _name(element) in {"content", "description", "encoded"}:
            text = (element.text or "").strip()
            if text.startswith(("<?xml", "<alert", "<cap:alert")) and any(one in text for one in NAMESPACES):
                yield _without_encoding(text).encode()


def _without_encoding(text: str) -> str:
    """A document that was text inside another is UTF-8 now, whatever its first line declares."""
    return text.partition("?>")[2].lstrip() if text.startswith("<?xml") else text


def _links(entry: etree._Element) -> Iterator[tuple[int, str]]:
    """Where the entry leads, the likeliest to be CAP with the smallest number. Web pages are not among them."""
    for element in entry:
        match _name(element):
            case "link" | "enclosure" | "content":
                where = element.get("href") or element.get("url") or element.get("src") or ""
                if _name(element) == "link":
                    where = where or (element.text or "").strip()
            case "guid" if element.get("isPermaLink", "true") == "true" and (element.text or "").startswith("http"):
                where = (element.text or "").strip()
            case _:
                continue
        kind = (element.get("type") or "").partition(";")[0].strip().lower()
        if where and element.get("rel", "alternate") in {"alternate", "enclosure", "related"} and "html" not in kind:
            yield (
                (0 if kind in CAP_TYPES else 1 if kind.endswith("xml") else 2 if _name(element) != "guid" else 3),
                where,
            )


def _joined(address: str, link: str) -> str:
    try:
        return urljoin(address, link) if link else ""
    except ValueError:
        return ""


def _moment(text: str) -> datetime:
    """When an entry says it was updated; the beginning of time where it does not."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(text)
            return (moment if moment.utcoffset() is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            continue
    return datetime.min.replace(tzinfo=UTC)


def _text(entry: etree._Element, name: str) -> str:
    return next(((child.text or "").strip() for child in entry if _name(child) == name and child.text), "")


def _name(element: etree._Element) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _namespace(element: etree._Element) -> str:
    tag = element.tag
    return tag[1:].partition("}")[0] if isinstance(tag, str) and tag.startswith("{") else ""
