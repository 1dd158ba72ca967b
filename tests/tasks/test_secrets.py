"""Where secrets come from: a block of the Prefect server, else the environment; and what is said when there is none."""

from __future__ import annotations

import asyncio

import pytest

from firstwatch.spec import Service
from tasks.secrets import SecretMissing, known_secrets, load_secret, variable_name


def test_names_become_variables() -> None:
    assert variable_name("shop-smoke-password") == "SHOP_SMOKE_PASSWORD"


def test_without_a_server_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "from-env")
    secret = asyncio.run(load_secret("shop-password"))
    assert (secret.name, secret.reveal()) == ("shop-password", "from-env")


def test_a_secret_that_is_nowhere_says_where_it_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY", "")
    for name, variable in (("not-there", "NOT_THERE"), ("empty", "EMPTY")):
        with pytest.raises(SecretMissing, match=f"secret:{name} has no value: .* variable {variable} is not set"):
            asyncio.run(load_secret(name))


def test_what_is_known_may_be_as_old_as_the_caller_says(monkeypatch: pytest.MonkeyPatch) -> None:
    alerts = {"slack": {"webhook": "secret:known-webhook"}, "ping": "secret:known-nowhere"}
    file = Service.model_validate({"service": "shop", "base_url": "http://127.0.0.1:9", "alerts": alerts})

    def known(age: float) -> list[str]:
        return asyncio.run(known_secrets(file, age))

    monkeypatch.setenv("KNOWN_WEBHOOK", "first")
    assert known(60) == ["first"]
    monkeypatch.setenv("KNOWN_WEBHOOK", "second")
    assert known(60) == ["first"]
    assert known(0) == known(60) == ["second"]


@pytest.mark.e2e
def test_a_block_comes_before_the_environment(prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.blocks.system import Secret as SecretBlock

    monkeypatch.setenv("SHOP_BLOCK", "from-env")
    monkeypatch.setenv("SHOP_OTHER", "from-env")

    async def main() -> None:
        await SecretBlock(value="from-block").save("shop-block", overwrite=True)
        assert (await load_secret("shop-block")).reveal() == "from-block"
        assert (await load_secret("shop-other")).reveal() == "from-env"
        with pytest.raises(SecretMissing, match="there is no Prefect Secret block shop-none"):
            await load_secret("shop-none")

    asyncio.run(main())


def test_a_server_that_is_not_there_leaves_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setenv("SHOP_PASSWORD", "from-env")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert asyncio.run(load_secret("shop-password")).reveal() == "from-env"
        with pytest.raises(SecretMissing, match="the Prefect server could not be asked"):
            asyncio.run(load_secret("not-there"))
