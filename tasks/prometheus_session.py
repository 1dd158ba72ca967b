"""One request to a Prometheus, with an end: in time, in a bounded JSON answer of success, or with a reason in words.

A session for prometheus-api-client, which leaves open how long an answer may take and how much it may be.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import orjson
import requests
from urllib3.exceptions import HTTPError as Urllib3Error
from urllib3.exceptions import NewConnectionError
from urllib3.exceptions import TimeoutError as Urllib3Timeout

from firstwatch.answer import retry_after
from firstwatch.units import show_duration
from tasks.access import system_reason

MOST_BYTES = 50_000_000  # of an answer; an hour and a half of 200 series at 15 s is 2 MB
_MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})
_SHOWN = 300  # characters of what a server says of its error

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Refusal(Exception):
    """The question has no answer. `may_pass`: asked again, it may have one.

    `lost`: it failed on its way, and the server may be in trouble (time-outs, broken connections, 5xx, 429), which may
    have said for how many seconds it is to be left alone (`retry_after`). `unmet`: there was not even a connection.
    """

    def __init__(
        self, why: str, *, may_pass: bool = False, lost: bool = False, unmet: bool = False, retry_after: float = 0.0
    ) -> None:
        super().__init__(why)
        self.why, self.may_pass, self.lost, self.unmet, self.retry_after = why, may_pass, lost, unmet, retry_after


class TooSlow(Refusal):
    """No answer came within so many seconds. Fewer than half of the `usual` say nothing of how the server is."""

    def __init__(self, where: str, seconds: float, usual: float = 0.0) -> None:
        why = f"{where} did not answer within {show_duration(seconds)}"
        super().__init__(why, may_pass=True, lost=seconds >= usual / 2)
        self.seconds = seconds


def as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """An authentication that adds nothing; with none at all, requests would send what it finds in ~/.netrc."""
    return request


class BoundedSession(requests.Session):
    """A session whose requests end in time, in a bounded JSON answer of success, or in a Refusal that says why."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self._surroundings: dict[tuple[str, str], dict[str, Any]] = {}

    def merge_environment_settings(self, url: str, *more: Any, **named: Any) -> dict[str, Any]:
        """The proxies and certificates that the environment names for a server. Found once: to look through all its
        variables costs a third of a request."""
        parts = urlsplit(url)
        server = parts.scheme, parts.netloc
        if server not in self._surroundings:
            self._surroundings[server] = super().merge_environment_settings(url, *more, **named)
        return dict(self._surroundings[server])

    def request(self, method: str, url: str | bytes, *args: Any, **options: Any) -> requests.Response:
        ends = time.monotonic() + options["timeout"]
        try:
            with super().request(method, url, *args, **{**options, "stream": True, "allow_redirects": False}) as sent:
                body = self._body(sent, ends)
        except (requests.Timeout, Urllib3Timeout, TimeoutError):
            raise TimeoutError from None
        except (requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema, requests.exceptions.InvalidURL):
            raise Refusal(f"{self.where}: metrics.prometheus is not an http or https URL") from None
        except (requests.RequestException, Urllib3Error, OSError) as error:
            reason = system_reason(error) or "the connection broke"
            ours = isinstance(error, requests.exceptions.SSLError)  # a certificate that we do not trust
            raise Refusal(
                f"{self.where} cannot be reached: {reason}", may_pass=True, lost=not ours, unmet=_is_unmet(error)
            ) from None
        return _Answer(sent, self._result(sent, body))

    def _body(self, sent: requests.Response, ends: float) -> bytes:
        """Reads what comes, as it comes: a server that drips bytes must not hold us, nor one that pours them."""
        body = bytearray()
        while piece := sent.raw.read1(65536, decode_content=True):
            body += piece
            if len(body) > MOST_BYTES:
                raise Refusal(f"{self.where} answers more than {MOST_BYTES // 1_000_000} MB: narrow the selector")
            if time.monotonic() > ends:
                raise TimeoutError
        return bytes(body)

    def _result(self, sent: requests.Response, body: bytes) -> dict[str, Any]:
        """The answer's JSON. Raises Refusal for what is no result."""
        payload = _json(body)
        if sent.status_code != 200:
            raise Refusal(
                f"{self.where} answers {sent.status_code} {_told(sent, payload, body)}",
                may_pass=sent.status_code in _MAY_PASS,
                lost=sent.status_code == 429 or sent.status_code >= 500,
                retry_after=retry_after({k.lower(): v for k, v in sent.headers.items()}, time.time()),
            )
        if not isinstance(payload, dict):
            may_pass = body.lstrip()[:1] == b"{"  # JSON that was cut off
            raise Refusal(f"{self.where} answers something that is not JSON {_hint(sent)}", may_pass=may_pass)
        result = payload.get("data", {}).get("result") if isinstance(payload.get("data"), dict) else None
        if payload.get("status") != "success" or result is None:
            raise Refusal(f"{self.where} answers {_told(sent, payload, body)}")
        if warnings := payload.get("warnings"):
            _log.warning("%s warns: %s", self.where, str(warnings)[:_SHOWN])
            if not result:
                raise Refusal(f"{self.where} answers nothing, with a warning: {str(warnings)[:_SHOWN]}", may_pass=True)
        return payload


class _Answer(requests.Response):
    """What was read already, and read only once: an answer may be megabytes of JSON."""

    def __init__(self, sent: requests.Response, payload: dict[str, Any]) -> None:
        super().__init__()
        self.status_code, self.headers, self._payload = sent.status_code, sent.headers, payload

    def json(self, **_: Any) -> Any:
        return self._payload


def _is_unmet(error: Exception) -> bool:
    """Could no connection be made at all?"""
    return any(isinstance(getattr(cause, "reason", None), NewConnectionError) for cause in error.args)


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)  # json takes seven times as long, a tenth of a look
    except ValueError:
        return None


def _told(sent: requests.Response, payload: Any, body: bytes) -> str:
    """What a server says of its own error, in short."""
    if isinstance(payload, dict) and payload.get("error"):
        return f"{payload.get('errorType', 'error')}: {str(payload['error'])[:_SHOWN]}"
    hint = {401: "(see metrics.basic and metrics.bearer)", 403: "(see metrics.basic and metrics.bearer)"}
    if sent.status_code in hint:
        return hint[sent.status_code]
    if sent.is_redirect:
        return "(a redirect, which is not followed: is there a login page in front?)"
    if "html" in sent.headers.get("content-type", ""):
        return _hint(sent)
    return f"with {body[:_SHOWN].decode(errors='replace')!r}"


def _hint(sent: requests.Response) -> str:
    kind = sent.headers.get("content-type", "no content type").partition(";")[0]
    return f"({kind}): is this the URL of Prometheus itself, without a login page in front?"


async def in_thread(work: Callable[[], T]) -> T:
    """Runs blocking work without holding the loop, nor, as asyncio.to_thread would, the end of the process.

    If the wait is cancelled the thread goes on to the end of its socket's timeout, and its result is dropped.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failed = None, None
        try:
            result = work()
        except Exception as error:
            failed = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=run, name="prometheus", daemon=True).start()
    return await done
