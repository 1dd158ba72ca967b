"""Accept what a check shows now, in the Prefect UI: the deployment accept/production, *Custom run*.

prefect deployment run accept/production -p service=shop -p check="security headers"
firstwatch accept shop "security headers"
"""

from __future__ import annotations

import time

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from firstwatch.report.text import plain
from tasks.accept import NothingToAccept, accept_check
from tasks.opening import read_service
from tasks.run import NotVerifiable


@flow(name="accept", flow_run_name="accept {service}: {check}", persist_result=False)
async def accept(service: str, check: str) -> State[None]:
    """Take what a check shows now for how it is to be.

    Args:
        service: a file in services/, without .yaml.
        check: the check's name, as alerts have it: a drift that is meant, or a speed that is all right.
    """
    try:
        file = read_service(service)
        if file.synthetic is None:
            raise NotVerifiable(f"the service file of {file.service} has no synthetic section")
        async with get_client() as client:
            return Completed(message=plain(await accept_check(client, file, check, time.time())))
    except (NotVerifiable, NothingToAccept) as problem:
        return Failed(name="Refused", message=plain(str(problem), 3000))
