"""What is done where nothing is proven for or against a release."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from firstwatch.spec.base import Model, Seconds

WITHIN, OTHERWISE = 3600.0, "stop"


class OnInconclusive(Model):
    """May be written as its plain word too: `on_inconclusive: ask`."""

    do: Literal["ask", "rollback", "proceed"] = Field("ask", description="ask: a person decides, in the Prefect UI")
    within: Seconds = Field(WITHIN, description="how long an answer is waited for")
    otherwise: Literal["rollback", "proceed", "stop"] = Field(
        "stop", description="what is done when nobody answers; stop: the run ends as inconclusive"
    )


def _of_word(given: Any) -> Any:
    return {"do": given} if isinstance(given, str) else given


InconclusivePolicy = Annotated[OnInconclusive | None, BeforeValidator(_of_word)]
