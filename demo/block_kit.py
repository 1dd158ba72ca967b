"""What Slack checks in a message: its length, its metadata (docs.slack.dev/messaging/message-metadata) and its blocks
(docs.slack.dev/reference/block-kit/blocks), as far as messages go."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

MAX_BLOCKS = 50
MAX_TEXT = 40_000


def refusal(message: dict[str, Any]) -> dict[str, Any] | None:
    """Why Slack would not take the message, as its JSON says it; None if it would."""
    text, blocks, metadata = message.get("text"), message.get("blocks"), message.get("metadata")
    if blocks and (problems := problems_with(blocks)):
        return {"ok": False, "error": "invalid_blocks", "response_metadata": {"messages": problems}}
    if not blocks and not text:
        return {"ok": False, "error": "no_text"}
    if text is not None and (not isinstance(text, str) or len(text) > MAX_TEXT):
        return {"ok": False, "error": "msg_too_long"}
    if metadata and not (isinstance(metadata, dict) and isinstance(metadata.get("event_payload"), dict)):
        return {"ok": False, "error": "invalid_metadata_format"}
    return None


def kept_metadata(message: dict[str, Any]) -> dict[str, Any] | None:
    """What is kept of a message's metadata: an event type that Slack does not like is dropped, with a warning."""
    given = message.get("metadata") or {}
    return given if re.fullmatch(r"[A-Za-z0-9_-]+", str(given.get("event_type", ""))) else None


def problems_with(blocks: Any) -> list[str]:
    """Everything that Slack would refuse, told in its manner: `[ERROR] must be … [json-pointer:/blocks/0/text]`."""
    if not isinstance(blocks, list):
        return ["[ERROR] blocks must be a list [json-pointer:/blocks]"]
    found = _Problems()
    if len(blocks) > MAX_BLOCKS:
        found.add("/blocks", f"no more than {MAX_BLOCKS} items allowed")
    for n, block in enumerate(blocks):
        at = f"/blocks/{n}"
        check = _BLOCKS.get(block.get("type")) if isinstance(block, dict) else None
        if check is None:
            found.add(at, "unsupported type")
            continue
        check(found, at, block)
    ids = [b["block_id"] for b in blocks if isinstance(b, dict) and "block_id" in b]
    if len(ids) != len(set(ids)) or any(len(str(i)) > 255 for i in ids):
        found.add("/blocks", "block_id must be unique and at most 255 characters")
    return found.lines


class _Problems:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, at: str, what: str) -> None:
        self.lines.append(f"[ERROR] {what} [json-pointer:{at}]")

    def keys(self, at: str, value: dict[str, Any], allowed: str) -> None:
        for key in value.keys() - set(allowed.split()):
            self.add(f"{at}/{key}", "invalid additional property")

    def text(self, at: str, value: Any, limit: int, *, plain_only: bool = False) -> None:
        """A text object, with 1 … limit characters (UTF-16 units)."""
        if not isinstance(value, dict) or value.get("type") not in ("plain_text", "mrkdwn"):
            return self.add(at, "must be a text object")
        if plain_only and value["type"] != "plain_text":
            self.add(f"{at}/type", "must be plain_text")
        self.keys(at, value, "type text emoji" if value["type"] == "plain_text" else "type text verbatim")
        self.string(f"{at}/text", value.get("text"), limit)

    def string(self, at: str, value: Any, limit: int) -> None:
        if not isinstance(value, str) or not value:
            return self.add(at, "must be more than 0 characters")
        if len(value.encode("utf-16-le", "surrogatepass")) // 2 > limit:
            self.add(at, f"must be less than {limit + 1} characters")

    def count(self, at: str, value: Any, limit: int) -> list[Any]:
        if not isinstance(value, list) or not 1 <= len(value) <= limit:
            self.add(at, f"must have 1 to {limit} items")
            return []
        return value


def _header(found: _Problems, at: str, block: dict[str, Any]) -> None:
    found.keys(at, block, "type text block_id")
    found.text(f"{at}/text", block.get("text"), 150, plain_only=True)


def _section(found: _Problems, at: str, block: dict[str, Any]) -> None:
    found.keys(at, block, "type text fields accessory block_id expand")
    if "text" not in block and "fields" not in block:
        found.add(at, "missing required field: text or fields")
    if "text" in block:
        found.text(f"{at}/text", block["text"], 3000)
    if "fields" in block:
        for n, part in enumerate(found.count(f"{at}/fields", block["fields"], 10)):
            found.text(f"{at}/fields/{n}", part, 2000)
    if "accessory" in block:
        _button(found, f"{at}/accessory", block["accessory"])


def _context(found: _Problems, at: str, block: dict[str, Any]) -> None:
    found.keys(at, block, "type elements block_id")
    for n, part in enumerate(found.count(f"{at}/elements", block.get("elements"), 10)):
        found.text(f"{at}/elements/{n}", part, 3000)


def _actions(found: _Problems, at: str, block: dict[str, Any]) -> None:
    found.keys(at, block, "type elements block_id")
    for n, part in enumerate(found.count(f"{at}/elements", block.get("elements"), 25)):
        _button(found, f"{at}/elements/{n}", part)


def _button(found: _Problems, at: str, value: Any) -> None:
    if not isinstance(value, dict) or value.get("type") != "button":
        return found.add(at, "unsupported element")
    found.keys(at, value, "type text url value style action_id accessibility_label")
    found.text(f"{at}/text", value.get("text"), 75, plain_only=True)
    if "url" in value:
        found.string(f"{at}/url", value["url"], 3000)
        if not str(value["url"]).startswith(("http://", "https://")):
            found.add(f"{at}/url", "invalid url")


def _divider(found: _Problems, at: str, block: dict[str, Any]) -> None:
    found.keys(at, block, "type block_id")


_BLOCKS: dict[Any, Callable[[_Problems, str, dict[str, Any]], None]] = {
    "header": _header,
    "section": _section,
    "context": _context,
    "actions": _actions,
    "divider": _divider,
}
