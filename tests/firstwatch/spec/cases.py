"""Every fault that the loader knows: a file with it (the line is marked `# <<`), what is said, and what to do."""

from __future__ import annotations

from typing import NamedTuple

from tests.firstwatch.spec.canary_cases import TABLE
from tests.firstwatch.spec.synthetic_cases import SYNTHETIC

HEAD = "service: shop\nbase_url: http://127.0.0.1:8000\nmetrics: {scrape: http://127.0.0.1:8000/metrics}\n"
HEALTH = HEAD + "smoke:\n  checks:\n    - name: health\n      get: /health\n"
EXPECT = "      expect: [status == 200]\n"
WINDOW = HEAD + "window:\n"


class Case(NamedTuple):
    name: str
    text: str
    message: str  # a part of it, in the words of docs/service-file.md
    hint: str  # a part of it


def expecting(conditions: str) -> str:
    return f"{HEALTH}      expect: {conditions} # <<\n"


def checkpoint(fields: str) -> str:
    return f"{WINDOW}  - {{at: 1m, name: a, {fields}}} # <<\n"


def post(path: str, rest: str = "", rules: str = "") -> str:
    return f"{HEAD}{rules}smoke:\n  checks:\n    - name: a write\n      post: {path} # <<\n{rest}{EXPECT}"


LISTED = (
    "rules:\n  allow:\n    - {request: POST /graphql, because: reads only}\n"
    "    - {request: POST /orders, because: is empty}\n"
)

CASES = [
    # ── the text ──
    Case("not YAML", "service: shop\nsmoke: [a, b # <<\nother: 1\n", "not YAML", "quotes"),
    Case("tabs", "service: shop\nsmoke:\n\tchecks: 1 # <<\n", "not YAML", "spaces, not tabs"),
    Case("not a mapping", "- service # <<\n", "a service file is a mapping", "service: NAME"),
    Case("a key twice", HEAD + "rules: {}\nrules: {} # <<\n", "stands here twice, first on line 4", "keep one"),
    Case(
        "a tag",
        HEALTH + "      expect:\n        - !has(json.error) # <<\n",
        "is a YAML tag here, not text",
        "in quotes",
    ),
    Case(
        "an anchor in itself", HEAD + "rules: &a\n  account: *a # <<\n", "an anchor that contains itself", "write the"
    ),
    # ── the environment ──
    Case(
        "unset", HEAD.replace("http://127.0.0.1:8000\n", "${NOPE} # <<\n"), "the environment has no NOPE", "${NOPE:-…}"
    ),
    Case(
        "no environment name",
        HEALTH.replace("get: /health", "get: /users/${account.username} # <<") + EXPECT,
        "`${account.username}` is not the name of an environment variable",
        "in capitals",
    ),
    Case("unclosed", HEALTH.replace("/health", "/${PATH # <<") + EXPECT, "`${` is not closed", "${NAME:-default}"),
    # ── single values ──
    Case("unknown key", HEAD + "smok: # <<\n  checks: []\n", "unknown key `smok`", "did you mean smoke?"),
    Case(
        "unknown inner key", HEALTH + EXPECT + "      retry: 3 # <<\n", "unknown key `retry`", "did you mean retries?"
    ),
    Case("missing", HEALTH.replace("name: health", "retries: 1 # <<") + EXPECT, "`name` is missing", "report"),
    Case(
        "no service",
        "base_url: http://x # <<\nmetrics: {scrape: http://x/m}\n",
        "`service` is missing",
        "service: shop",
    ),
    Case("empty", HEAD + "smoke: # <<\n  # checks: …\nrules: {}\n", "`smoke` is empty", "take it out"),
    Case("empty list", HEAD + "smoke:\n  checks: [] # <<\n", "`checks` is empty", "get: /health"),
    Case("not text", HEALTH.replace("/health", "5 # <<") + EXPECT, "`get` must be text, not a number", "in quotes"),
    Case("not a mapping inside", HEAD + "rules: 5 # <<\n", "`rules` must be a mapping, not a number", "key: value"),
    Case("not a list", HEALTH + "      expect: status == 200 # <<\n", "`expect` must be a list, not text", "[a, b]"),
    Case("no duration", HEALTH + EXPECT + "      timeout: 5 minutes # <<\n", "'5 minutes' is not a duration", "30s"),
    Case("no percentage", HEAD + "objectives:\n  availability: 99 percent # <<\n", "is not a percentage", "99.9%"),
    Case(
        "out of range", HEALTH + EXPECT + "      retries: 9 # <<\n", "`retries` should be less than or equal to 5", ""
    ),
    Case("no choice", checkpoint("signal: eror"), "`signal` cannot be 'eror'", "mean errors?"),
    Case("service name", HEAD.replace("shop", "my shop # <<", 1), "`service` cannot be 'my shop'", "letters, digits"),
    Case("no quantile", HEAD + "objectives:\n  latency: {median: 1s} # <<\n", "'median' is not a quantile", "p95"),
    Case(
        "a written secret",
        HEAD + "rules:\n  account:\n    username: a\n    password: hunter2 # <<\n",
        "a secret is named, not written",
        "secret:NAME",
    ),
    Case("unknown policy", HEAD + "on_inconclusive: aks # <<\n", "`do` cannot be 'aks'", "did you mean ask?"),
    Case(
        "a rollback that nobody can do",
        HEAD + "on_inconclusive: {do: ask, otherwise: rollback} # <<\n",
        "on_inconclusive rolls back, and the file names no way to",
        "add rollback",
    ),
    Case(
        "a deadline for nobody",
        HEAD + "on_inconclusive: {do: proceed, within: 1h} # <<\n",
        "`within` and `otherwise` belong to ask",
        "do: ask",
    ),
    Case("no time to answer", HEAD + "on_inconclusive: {do: ask, within: 10ms} # <<\n", "must be 1s or longer", "1h"),
    Case("later: smoke.pytest", HEALTH + EXPECT + "  pytest: tests # <<\n", "does not have `smoke.pytest` yet", "take"),
    # ── URLs ──
    Case(
        "no URL",
        HEAD.replace("base_url: http://", "base_url: ftp://").replace("8000\n", "8000 # <<\n", 1),
        "`base_url` is not an http or https URL",
        "https://",
    ),
    Case(
        "URL with a password",
        "service: s\nbase_url: http://me:pass@x # <<\nmetrics: {scrape: http://x/m}\n",
        "`base_url` carries a user name or password",
        "secret:NAME",
    ),
    Case(
        "URL with a query",
        "service: s\nbase_url: http://x/?a=1 # <<\nmetrics: {scrape: http://x/m}\n",
        "`base_url` carries a query or fragment",
        "take out",
    ),
    # ── metrics, signals, objectives ──
    Case(
        "no metrics", "service: shop # <<\nbase_url: http://x\n", "the window has nowhere to measure", "metrics.scrape"
    ),
    Case(
        "two ways to log in",
        "service: s\nbase_url: http://x\nmetrics:\n  prometheus: http://p\n"
        "  basic: {username: a, password: secret:b}\n  bearer: secret:c # <<\n",
        "`basic` and `bearer` exclude each other",
        "keep one",
    ),
    Case("no time for requests", HEAD + "rules: {timeout: 0} # <<\n", "must be longer than 0s", "leave it out"),
    Case("no time", HEAD.replace("/metrics}", "/metrics, every: 0s} # <<"), "must be longer than 0s", "leave it out"),
    Case(
        "no selector", HEAD + "signals:\n  errors: rate(errors_total[5m]) # <<\n", "is not a plain selector", "the rate"
    ),
    Case(
        "buckets", HEAD + "signals:\n  latency: seconds_bucket # <<\n", "names a histogram's buckets", "leave _bucket"
    ),
    Case(
        "errors are requests",
        HEAD + "signals:\n  requests: r_total\n  errors: r_total # <<\n",
        "`errors` counts all requests",
        "5..",
    ),
    Case(
        "needs a Prometheus",
        HEAD + "signals:\n  memory: sum(rss_bytes) # <<\n",
        "is a PromQL expression, which only a Prometheus can answer",
        "metrics.prometheus",
    ),
    Case(
        "no objective", HEAD + "objectives:\n  availability: 0% # <<\n", "an availability of 0% can never fail", "99%"
    ),
    # ── requests ──
    Case("no request", HEAD + "smoke:\n  checks:\n    - name: a # <<\n" + EXPECT, "a check sends one", "get, post"),
    Case(
        "two requests",
        HEAD + "smoke:\n  checks:\n    - {name: a, get: /, post: /, expect: [status == 200]} # <<\n",
        "a check sends one",
        "get, post",
    ),
    Case(
        "two bodies",
        post("/orders", "      json: {}\n      body: x # <<\n", LISTED).replace("orders # <<", "orders"),
        "a request carries one body",
        "keep one",
    ),
    Case("no path", HEALTH.replace("/health", "health # <<") + EXPECT, "'health' is not a path", "start it with one /"),
    Case("another host's path", HEALTH.replace("/health", "//evil.example/x # <<") + EXPECT, "is not a path", "one /"),
    Case(
        "another host",
        HEALTH.replace("/health", "https://evil.example/x # <<") + EXPECT,
        "is neither that of base_url nor listed under rules.hosts",
        "rules.hosts",
    ),
    Case(
        "unlisted",
        post("/orders?a=1"),
        "POST /orders is not a plain read and is not listed",
        "add - {request: POST /orders, because: …} to rules.allow",
    ),
    Case(
        "GraphQL mutation",
        post("/graphql", "      json: {query: 'mutation { a }'} # <<\n", LISTED).replace("/graphql # <<", "/graphql"),
        "the request is a GraphQL mutation",
        "",
    ),
    Case("payment", HEALTH.replace("/health", "/payments/1 # <<") + EXPECT, "is a payment path", "rules.sandbox"),
    Case(
        "card number",
        post("/orders", "      json: {card: 4111 1111 1111 1111} # <<\n", LISTED).replace("/orders # <<", "/orders"),
        "the request carries a card number",
        "rules.sandbox",
    ),
    Case(
        "reserved header",
        HEALTH + "      headers: {X-SYNTHETIC-Request: 'no'} # <<\n" + EXPECT,
        "the header X-SYNTHETIC-Request is set by Firstwatch",
        "take it out",
    ),
    Case(
        "reserved Host",
        HEALTH + "      headers:\n        host: other # <<\n" + EXPECT,
        "the header host is set by Firstwatch",
        "take it out",
    ),
    Case("no header", HEALTH + "      headers: {'a b': c} # <<\n" + EXPECT, "this is not a header", "dashes"),
    Case(
        "reserved sandbox header",
        HEAD + "rules:\n  sandbox: {header: User-Agent, value: x, paths: [/pay]} # <<\n",
        "the header User-Agent is set by Firstwatch",
        "take it out",
    ),
    Case(
        "sandbox path",
        HEAD + "rules:\n  sandbox: {header: X-S, value: x, paths: [pay]} # <<\n",
        "'pay' is not a path",
        "start it with /",
    ),
    Case(
        "allow",
        HEAD + "rules:\n  allow:\n    - {request: /orders, because: is fine} # <<\n",
        "'/orders' is not a request",
        "POST /auth/token",
    ),
    Case("host", HEAD + "rules:\n  hosts: [https://cdn.example.com/x] # <<\n", "this is not a host", "cdn.example.com"),
    # ── conditions and the suite ──
    Case(
        "no expectation",
        HEALTH.replace("- name", "- retries: 1 # <<\n      name"),
        "a check without an expectation can never fail",
        "status == 200",
    ),
    Case("empty expectation", expecting("[]"), "a check without an expectation can never fail", "status == 200"),
    Case(
        "unknown name",
        HEALTH + "      expect:\n        - status == 200\n        - statsu == 200 # <<\n",
        "unknown name statsu",
        "did you mean status?",
    ),
    Case("unknown function", expecting("[foo(status)]"), "unknown function foo()", "functions here"),
    Case("syntax", expecting("[status = 200]"), "not a condition (column 8)", "use =="),
    Case("never fails", expecting("[1 == 1]"), "this condition can never fail", "compare something"),
    Case("never holds", expecting("[status == 20]"), "this condition can never hold", "100 to 599"),
    Case("no yes or no", expecting("[status]"), "which is neither true nor false", "compare it"),
    Case(
        "header in capitals",
        expecting('[\'headers["Age"] == "0"\']'),
        "header names are lower-case here",
        'headers["age"]',
    ),
    Case("no pattern", expecting("['text.matches(\"(\")']"), "is not a regular expression", "RE2"),
    Case(
        "shadowed name",
        expecting("['json.all(status, status > 1)']"),
        "status is used as a variable of all, exists, map or filter",
        "another name",
    ),
    Case("NaN", expecting("[json.a / json.b != 1.0]"), "a division or double() can give NaN", "compare with <"),
    Case(
        "version",
        HEALTH + EXPECT + "  version:\n    get: /version\n    equals: jsn.version # <<\n",
        "unknown name jsn",
        "did you mean json?",
    ),
    Case(
        "constant version",
        HEALTH + EXPECT + "  version: {get: /version, equals: '\"v1\"'} # <<\n",
        "looks at nothing of the answer",
        "json.version",
    ),
    Case(
        "two checks of a name",
        HEALTH + EXPECT + "    - name: health # <<\n      get: /x\n" + EXPECT,
        "two checks are named 'health'",
        "told apart",
    ),
    Case(
        "budget",
        HEALTH + EXPECT + "      timeout: 8s\n      retries: 2\n  budget: 20s # <<\n",
        "the budget of 20s cannot hold what the checks may take: "
        "slowest check 'health' 3 × 8s + 2 × 1s = 26s + 3 requests at 5 a second 600ms, together 26.6s",
        "raise the budget",
    ),
    # ── window ──
    Case(
        "descends",
        WINDOW + "  - {at: 5m, name: a, signal: errors}\n  - {at: 2m, name: b, signal: errors} # <<\n",
        "the window does not ascend: T+2m 'b' comes after T+5m 'a'",
        "order",
    ),
    Case(
        "two checkpoints of a name",
        checkpoint("signal: errors}\n  - {at: 2m, name: a, signal: memory"),
        "two checkpoints are named 'a'",
        "told apart",
    ),
    Case(
        "no length", WINDOW + "  - {at: 0m, name: a, signal: errors} # <<\n", "the window ends when it begins", "last"
    ),
    Case(
        "too many looks", WINDOW + "  look_every: 100ms # <<\n", "`look_every` must be 500ms or longer", "leave it out"
    ),
    Case("neither", WINDOW + "  - {at: 1m, name: a} # <<\n", "has neither of signal and query", "give a signal"),
    Case(
        "both",
        checkpoint("signal: errors, query: up, expect: value > 0"),
        "has both of signal and query",
        "give a signal",
    ),
    Case("judge", checkpoint("signal: errors, judge: trend"), "the judge trend does not fit errors", "proportion"),
    Case("quantile", checkpoint("signal: latency, quantile: p99"), "p99 is not among objectives.latency", "p95"),
    Case(
        "quantile of errors",
        checkpoint("signal: errors, quantile: p95"),
        "`quantile` belongs to latency",
        "take it out",
    ),
    Case(
        "no latency objective",
        HEAD + "objectives: {latency: {}}\nwindow:\n  - {at: 1m, name: a, signal: latency} # <<\n",
        "there is no latency objective",
        "objectives.latency",
    ),
    Case("limit", checkpoint("signal: errors, limit: 10%"), "`limit` belongs to trend and creep", "objectives"),
    Case(
        "expect of a signal",
        checkpoint("signal: errors, expect: value < 1"),
        "`expect` belongs to a query",
        "objective",
    ),
    Case(
        "judge of a query",
        checkpoint("query: up, judge: trend, expect: value > 0"),
        "`judge` belongs to a signal",
        "expect",
    ),
    Case(
        "query without expect", checkpoint("query: up"), "a query without an expectation can never fail", "value < 100"
    ),
    Case("query's names", checkpoint("query: up, expect: status == 1"), "unknown name status", "names here: value"),
    Case(
        "query without Prometheus",
        checkpoint("query: sum(up), expect: value > 0"),
        "is a PromQL expression, which only a Prometheus can answer",
        "metrics.prometheus",
    ),
    # ── rollback and alerts ──
    Case("no rollback", HEAD + "rollback: {retries: 1} # <<\n", "rollback names no way", "exactly one"),
    Case(
        "two rollbacks",
        HEAD + "rollback:\n  webhook: {url: http://x}\n  command: {run: [a]} # <<\n",
        "rollback names 2 ways (webhook, command)",
        "exactly one",
    ),
    Case(
        "a workflow that heeds no key",
        HEAD
        + "rollback:\n  github_workflow: {repository: a/b, workflow: y, token: secret:z}\n  idempotent: true # <<\n",
        "GitHub starts a workflow as often as it is asked to",
        "take `idempotent` out",
    ),
    Case(
        "rollback URL", HEAD + "rollback:\n  webhook:\n    url: x # <<\n", "`url` is not an http or https URL", "https"
    ),
    Case(
        "repository",
        HEAD + "rollback:\n  github_workflow: {repository: x, workflow: y, token: secret:z} # <<\n",
        "`repository` cannot be 'x'",
        "owner/name",
    ),
    Case(
        "slack without a way",
        HEAD + "alerts:\n  slack: {channel: a} # <<\n",
        "slack has neither of webhook and token",
        "token and channel",
    ),
    Case(
        "slack with two ways",
        HEAD + "alerts:\n  slack: {webhook: secret:a, token: secret:b, channel: c} # <<\n",
        "slack has both of webhook and token",
        "token and channel",
    ),
    Case(
        "slack without a channel",
        HEAD + "alerts:\n  slack: {token: secret:b} # <<\n",
        "a Slack token needs a channel",
        "#releases",
    ),
    # ── the canary ──
    *(Case(*row) for row in TABLE),
    # ── monitors and alert rules ──
    *(Case(*row) for row in SYNTHETIC),
]
