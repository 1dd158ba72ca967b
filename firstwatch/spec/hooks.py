"""The hooks of a service file: the ways to have something done to a release, rolled back or promoted."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from firstwatch.spec.base import Model, Seconds, SecretName


class Webhook(Model):
    url: str
    secret: SecretName | None = Field(None, description="signs the body: X-Firstwatch-Signature: sha256=HMAC")
    headers: dict[str, str] = Field(default_factory=dict)
    timeout: Seconds = 30.0


class Command(Model):
    run: list[str] = Field(
        min_length=1,
        description="argument list; {service}, {version}, {release_id} and (for promote) {weight} are filled in",
    )
    timeout: Seconds = 300.0


class GithubWorkflow(Model):
    repository: str = Field(pattern=r"^[^/\s]+/[^/\s]+$")
    workflow: str = Field(description="file name or id of the workflow")
    ref: str = "main"
    token: SecretName
    inputs: dict[str, str] = Field(default_factory=dict)
    api_url: str = "https://api.github.com"
    timeout: Seconds = 30.0


class PrefectDeployment(Model):
    name: str = Field(pattern=r"^[^/]+/[^/]+$", description="flow/deployment")
    parameters: dict[str, Any] = Field(default_factory=dict)


HOOK_WAYS = ("webhook", "command", "github_workflow", "prefect_deployment")


class Hook(Model):
    """Exactly one of the four ways to have something done to a release."""

    webhook: Webhook | None = Field(None, description="POST to a URL, signed, with an Idempotency-Key")
    command: Command | None = Field(None, description="run a program")
    github_workflow: GithubWorkflow | None = Field(None, description="dispatch a GitHub workflow")
    prefect_deployment: PrefectDeployment | None = Field(None, description="run a Prefect deployment")
    retries: int = Field(3, ge=0, le=10, description="further tries after an attempt that provably did not get through")


class Rollback(Hook):
    """How the old version is brought back."""

    confirm: Seconds = Field(
        0.0, description="how long to wait until the bad version no longer answers; 0: the hook's word is taken"
    )
    idempotent: bool = Field(
        False,
        description="the receiver does nothing a second time for one Idempotency-Key: where an answer was lost, and "
        "the bad version still answers, the rollback is sent once more",
    )


class Promote(Hook):
    """How the canary is given its next share of the traffic."""
