"""One request of a service file, and a check: a request with its expectations."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from firstwatch.spec.base import Model, Seconds

Method = Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
METHODS: tuple[Method, ...] = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")


class Request(Model):
    """One request: exactly one of get, head, options, post, put, patch, delete, and what it carries."""

    get: str | None = Field(None, description="path and query, below base_url")
    head: str | None = Field(None, description="path and query, below base_url")
    options: str | None = Field(None, description="path and query, below base_url")
    post: str | None = Field(None, description="path; must be listed under rules.allow")
    put: str | None = Field(None, description="path; must be listed under rules.allow")
    patch: str | None = Field(None, description="path; must be listed under rules.allow")
    delete: str | None = Field(None, description="path; must be listed under rules.allow")
    headers: dict[str, str] = Field(
        default_factory=dict, description="besides those that mark the request as synthetic"
    )
    json_body: Any = Field(None, alias="json", description="sent as JSON")
    form: dict[str, str] | None = Field(None, description="sent as a form")
    body: str | None = Field(None, description="sent as it is")
    timeout: Seconds | None = Field(None, description="total time of one try; left out: that of rules")

    @model_validator(mode="after")
    def _one_request(self) -> Self:
        named = [method.lower() for method in METHODS if getattr(self, method.lower()) is not None]
        if len(named) != 1:
            raise ValueError(f"{' and '.join(named) or 'no request'}: a check sends one; give one of get, post, …")
        return self

    @property
    def method(self) -> Method:
        return next(method for method in METHODS if getattr(self, method.lower()) is not None)

    @property
    def path(self) -> str:
        """The path with its query, as written."""
        return str(getattr(self, self.method.lower()))


class Check(Request):
    name: str = Field(min_length=1, description="as people read it in the report")
    expect: list[str] = Field(min_length=1, description="CEL conditions over status, headers, json, text, elapsed")
    retries: int = Field(1, ge=0, le=5, description="how often a failure is confirmed before it counts")
    retry_delay: Seconds = Field(1.0, description="how long is waited before a failure is confirmed")
