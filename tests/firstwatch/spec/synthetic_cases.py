"""Every fault of the synthetic section and of the alert rules that the loader knows; see cases.py."""

from __future__ import annotations

HEAD = "service: shop\nbase_url: http://127.0.0.1:8000\nmetrics: {scrape: http://127.0.0.1:8000/metrics}\n"
ALLOW = "rules:\n  allow:\n    - {request: POST /cart, because: it is deleted}\n"
SMOKE = "smoke:\n  checks:\n    - {name: health, get: /health, expect: [status == 200]}\n"
CHECK = "    - {name: a, get: /a, expect: [status == 200]}\n"
SYNTHETIC_HEAD = HEAD + SMOKE + "synthetic:\n"
CHECKS = HEAD + "synthetic:\n  checks:\n"
SAVES = "        - {name: log in, get: /login, expect: [status == 200], save: {token: json.token}}\n"


def check(fields: str) -> str:
    return f"{CHECKS}    - {{name: a, get: /a, expect: [status == 200], {fields}}} # <<\n"


def journey(steps: str, rest: str = "", rules: str = "") -> str:
    return f"{HEAD}{rules}synthetic:\n  journeys:\n    - name: buy tea\n      steps:\n{steps}{rest}"


def step(fields: str) -> str:
    return f"        - {{name: a step, expect: [status == 200], {fields}}} # <<\n"


def record(fields: str) -> str:
    return f"{HEAD}synthetic:\n  dns:\n    records:\n      - {{name: shop.example.com, {fields}}} # <<\n"


def dependency(get: str, rest: str = "") -> str:
    return f"{HEAD}synthetic:\n  dependencies:\n    - {{name: a, get: '{get}', expect: [status == 200]{rest}}} # <<\n"


def drift(fields: str) -> str:
    return f"{HEAD}synthetic:\n  drift:\n    - {{name: a, get: /a, {fields}}} # <<\n"


def heartbeat(fields: str) -> str:
    return f"{HEAD}synthetic:\n  heartbeats:\n    - {{name: a, {fields}}} # <<\n"


def synthetic(line: str) -> str:
    return f"{SYNTHETIC_HEAD}  {line} # <<\n"


def alerts(line: str, head: str = HEAD) -> str:
    return f"{head}alerts:\n  {line} # <<\n"


def maintenance(fields: str, head: str = HEAD) -> str:
    return alerts(f"maintenance: [{{name: night, {fields}}}]", head)


BAD_NEEDS = "    - {name: b, get: /b, expect: [status == 200], needs: [a]} # <<\n"
SYNTHETIC: list[tuple[str, str, str, str]] = [
    # ── when, and how long ──
    ("monitor: nothing", HEAD + "synthetic: {} # <<\n", "synthetic watches nothing", "add checks"),
    (
        "monitor: no smoke",
        SYNTHETIC_HEAD.replace("synthetic:", "synthetic: # <<") + "  smoke: false\n",
        "watches nothing",
        "journeys",
    ),
    ("every", synthetic("every: 7m"), "an hour cannot be divided into 7m each", "6m, 10m"),
    ("every: seconds", synthetic("every: 90s"), "an hour cannot be divided into 1m30s each", "2m"),
    ("no budget", synthetic("budget: 0s"), "`budget` must be longer than 0s", "two thirds"),
    (
        "late budget",
        synthetic("budget: 5m"),
        "the budget of 5m ends no sooner than the next round begins",
        "two thirds",
    ),
    (
        "round's budget",
        synthetic("budget: 20s"),
        "the budget of 20s cannot hold what the checks may take: slowest check 'health' 2 × 10s + 1 × 1s = 21s + "
        "2 requests at 5 a second 400ms, together 21.4s",
        "lower timeouts",
    ),
    (
        "journey's budget",
        journey(
            SAVES + SAVES.replace("log in", "b").replace("token:", "other:"),
            "      cleanup: {name: c, get: /c, expect: [status == 200]}\n  every: 1m\n",
        ).replace("synthetic:", "synthetic: # <<"),
        "the budget of 40s cannot hold what the checks may take: slowest journey 'buy tea' 2 × 30s + 1 × 1s = 1m1s + "
        "6 requests at 5 a second 1.2s, together 1m2s",
        "lower timeouts",
    ),
    (
        "certificates' budget",
        f"{HEAD}synthetic:\n  budget: 20s # <<\n  certificate: {{hosts: [shop.example.com, cdn.example.com]}}\n",
        "slowest certificate shop.example.com 2 × 10s + 1 × 1s = 21s + 12 requests at 5 a second 2.4s, together 23.4s",
        "lower timeouts",
    ),
    (
        "records' budget",
        f"{HEAD}synthetic:\n  budget: 10s # <<\n  dns: {{records: [{{name: shop.example.com}}]}}\n",
        "slowest dns shop.example.com A 2 × 5s + 1 × 1s = 11s + 0 requests at 5 a second 0s, together 11s",
        "lower timeouts",
    ),
    # ── requests, conditions ──
    ("monitor: unlisted", CHECKS + CHECK.replace("get:", "post:")[:-1] + " # <<\n", "is not listed", "POST /a"),
    ("monitor: condition", CHECKS + CHECK.replace("status ==", "statsu ==")[:-1] + " # <<\n", "name statsu", "status?"),
    ("monitor: timeout", check("timeout: 0s"), "`timeout` must be longer than 0s", "5s"),
    ("step: unlisted", journey(step("delete: '/cart/1'")), "DELETE /cart/1 is not a plain read and is not listed", ""),
    ("step: payment", journey(step("get: '/payments/1'")), "/payments/1 is a payment path", "rules.sandbox"),
    ("step: condition", journey(SAVES.replace("status ==", "statsu ==")[:-1] + " # <<\n"), "name statsu", "status?"),
    ("step: timeout", journey(step("get: /a, timeout: 0s")), "`timeout` must be longer than 0s", "5s"),
    ("save: syntax", journey(step("get: /a, save: {a: json.}")), "json.: not a condition", ""),
    ("save: constant", journey(step("get: /a, save: {a: '1'}")), "1: looks at nothing of the answer", "json.version"),
    ("save: name", journey(step("get: /a, save: {Token: text}")), "`Token` cannot be 'Token'", "lower-case"),
    # ── saved values ──
    (
        "used too early",
        journey(step("get: '/a?t=${token}'") + SAVES),
        "`${token}` is used before it is saved, by 'log in'",
        "before this one",
    ),
    (
        "used where it is saved",
        journey(SAVES[:-1].replace("/login", "'/login/${token}'") + " # <<\n"),
        "`${token}` is used before it is saved, by 'log in'",
        "before this one",
    ),
    (
        "never saved",
        journey(SAVES + step("post: /cart, json: {a: ['${tokn}']}"), rules=ALLOW),
        "`${tokn}` is saved by no step",
        "did you mean token?",
    ),
    (
        "nothing saved",
        journey(step("get: /a, headers: {Authorization: 'Bearer ${token}'}")),
        "`${token}` is saved by no step",
        "add save: {token: json.…}",
    ),
    (
        "clean-up: never saved",
        journey(
            SAVES, "      cleanup:\n        name: c\n        get: /c/${cart} # <<\n        expect: [status == 200]\n"
        ),
        "`${cart}` is saved by no step",
        "known here: token",
    ),
    (
        "saved twice",
        journey(SAVES + step("get: /a, save: {token: json.b}")),
        "`token` is saved twice, first by 'log in'",
        "another name",
    ),
    (
        "a saved value where none is filled in",
        journey(SAVES + SAVES.replace("log in", "'${token}'").replace("token:", "b:")[:-1] + " # <<\n"),
        "`${token}` is not the name of an environment variable",
        "in capitals",
    ),
    (
        "allowed in part",
        HEAD + "rules:\n  allow:\n    - {request: 'DELETE /cart/x${cart}', because: is ours} # <<\n",
        "`${…}` stands for one whole segment of a path",
        "DELETE /cart/${cart}",
    ),
    (
        "allowed with any query",
        HEAD + "rules:\n  allow:\n    - {request: 'DELETE /cart?${cart}', because: is ours} # <<\n",
        "`${…}` stands for one whole segment of a path",
        "DELETE /cart/${cart}",
    ),
    # ── names and needs ──
    (
        "name of the smoke suite",
        SYNTHETIC_HEAD + "  checks:\n" + CHECK.replace("name: a", "name: health")[:-1] + " # <<\n",
        "two checks are named 'health'",
        "smoke suite",
    ),
    (
        "name of another kind",
        CHECKS + CHECK + "  heartbeats:\n    - {name: a, every: 1h} # <<\n",
        "two checks are named 'a'",
        "told apart",
    ),
    (
        "record twice",
        record("type: A").replace(" # <<", "") + "      - {name: shop.example.com} # <<\n",
        "two checks are named 'dns shop.example.com A'",
        "told apart",
    ),
    (
        "our own name",
        CHECKS + CHECK.replace("name: a", "name: schedule eu")[:-1] + " # <<\n",
        "'schedule eu' is the monitor's own check",
        "another name",
    ),
    ("needs: unknown", CHECKS + CHECK + BAD_NEEDS.replace("[a]", "[aa]"), "there is no check named 'aa'", "mean a?"),
    ("needs: itself", CHECKS + BAD_NEEDS.replace("[a]", "[b]"), "'b' needs itself", "take it out"),
    (
        "needs: circle",
        CHECKS
        + BAD_NEEDS.replace("[a]", "[c]")
        + BAD_NEEDS.replace("name: b", "name: a").replace("[a]", "[b]").replace(" # <<", "")
        + BAD_NEEDS.replace("name: b", "name: c").replace(" # <<", ""),
        "these need each other: b → c → a → b",
        "take one out",
    ),
    # ── certificates, DNS ──
    (
        "certificate: late",
        HEAD + "synthetic:\n  certificate:\n    hosts: [a.example]\n    warn: 7d\n    fail: 21d # <<\n",
        "it fails 21d before it expires, and would warn later than that",
        "less than `warn`, which is 7d",
    ),
    ("certificate: none", HEAD + "synthetic:\n  certificate: {} # <<\n", "base_url is not https", "hosts"),
    (
        "certificate: host",
        HEAD + "synthetic:\n  certificate:\n    hosts:\n      - https://a.example # <<\n",
        "this is not a host",
        "cdn.example.com",
    ),
    (
        "resolver",
        record("type: A").replace(" # <<", "") + "    resolvers:\n      - dns.example # <<\n",
        "'dns.example' is not the address of a resolver",
        "192.0.2.53",
    ),
    ("dns: timeout", record("type: A").replace(" # <<", "") + "    timeout: 0s # <<\n", "longer than 0s", "leave it"),
    (
        "dns: name",
        record("type: A").replace("shop.example.com", "'https://a.example'"),
        "is not a domain name",
        "shop.",
    ),
    ("dns: address", record("type: A").replace("shop.example.com", "192.0.2.1"), "is not a domain name", "shop."),
    ("dns: type", record("type: PTR"), "`type` cannot be 'PTR'", "known here: A, AAAA"),
    *(
        (f"dns: {kind}", record(f"type: {kind}, values: ['{value}']"), f"is not what a record of type {kind} says", "")
        for kind, value in (
            ("A", "::1"),
            ("AAAA", "192.0.2.1"),
            ("MX", "mail.example"),
            ("CAA", "letsencrypt.org"),
            ("SRV", "1 2 sip.example"),
            ("NS", "a b"),
            ("CNAME", "-a.example"),
            ("SOA", "a b 1"),
        )
    ),
    ("dns: TTL", record("least_ttl: 5m, most_ttl: 1m"), "no TTL is right: 5m at least and 1m at most", "smaller"),
    # ── dependencies, drift, heartbeats ──
    ("dependency: path", dependency("/a"), "'/a' is a path of the service", "https://…"),
    ("dependency: scheme", dependency("ftp://a.example"), "`get` is not an http or https URL", "https://"),
    (
        "dependency: password",
        dependency("https://me:pass@a.example"),
        "`get` carries a user name or password",
        "secret",
    ),
    ("dependency: payments", dependency("https://api.stripe.com/v1"), "the host api.stripe.com takes payments", ""),
    ("dependency: condition", dependency("https://a.example").replace("status", "statsu"), "name statsu", "status?"),
    ("dependency: timeout", dependency("https://a.example", ", timeout: 0s"), "`timeout` must be longer than 0s", "5s"),
    (
        "drift: another host",
        drift("watch: [text]").replace("/a", "https://a.example"),
        "neither that of base_url",
        "list",
    ),
    ("drift: watch", drift("watch: [jsn.a]"), "jsn.a: unknown name jsn", "json?"),
    ("drift: elapsed", drift("watch: [elapsed]"), "elapsed differs from answer to answer", "degraded"),
    ("drift: elapsed in it", drift("watch: [elapsed < 1.0]"), "elapsed differs from answer to answer", "degraded"),
    ("drift: always new", drift("version: elapsed"), "elapsed differs from answer to answer", "degraded"),
    ("drift: version", drift("version: '1'"), "1: looks at nothing of the answer", "json.version"),
    ("heartbeat: rare", heartbeat("every: 7d"), "Prefect keeps events for 7 days", "6d at most"),
    ("heartbeat: late", heartbeat("every: 6d, grace: 2d"), "Prefect keeps events for 7 days", "1d at most"),
    ("heartbeat: never", heartbeat("every: 0s"), "`every` must be longer than 0s", "1h"),
    # ── slowness, locations, metrics ──
    ("slower", synthetic("degraded: {slower: 0%}"), "every answer that is slower than the one before", "30%"),
    ("slow limit", synthetic("degraded: {limit: 0s}"), "`limit` must be longer than 0s", "leave it out"),
    ("slow history", synthetic("degraded: {history: 0s}"), "`history` must be longer than 0s", "leave it out"),
    ("locations twice", synthetic("locations: [eu, us, eu]"), "two locations are named 'eu'", "told apart"),
    ("location", synthetic("locations: [eu, u s]"), "`names` no. 2 cannot be 'u s'", "letters, digits"),
    ("reference", synthetic("locations: {names: [eu], reference: a}"), "`reference` is not an http or https URL", ""),
    ("pushgateway", synthetic("metrics: {pushgateway: a}"), "`pushgateway` is not an http or https URL", "https"),
    # ── alert rules ──
    ("open: words", alerts("open: {after: often}"), "'often' is no such number", "3 in a row"),
    ("open: unreachable", alerts("open: {after: 3 of 2}"), "'3 of 2' can never be reached", "2 of 5"),
    ("open: long form", alerts("open: {after: {count: 3, out_of: 2}}"), "3 of 2 can never be reached", "2 of 5"),
    ("close", alerts("close: {after: 0}"), "'0 in a row' can never be reached", "3 in a row"),
    ("degraded", alerts("degraded: {after: {count: 9, out_of: 2}}"), "9 of 2 can never be reached", "2 of 5"),
    ("remind", alerts("remind: 1m"), "`remind` must be 5m or longer", "0 or left out: never"),
    ("flapping", alerts("flapping: {within: 0s}"), "`within` must be longer than 0s", "leave it out"),
    ("storm", alerts("storm: {within: 0s}"), "`within` must be longer than 0s", "leave it out"),
    ("storm: one", alerts("storm: {after: 1}"), "`after` should be greater than or equal to 2, not 1", ""),
    (
        "quorum of nobody",
        alerts("locations: 2 of 3"),
        "`locations` counts locations, and synthetic has none",
        "[eu, us",
    ),
    (
        "quorum of others",
        alerts("locations: 2 of 3", SYNTHETIC_HEAD + "  locations: [eu, us]\n"),
        "`locations` counts 3 locations, and synthetic has 2",
        "write 2 of 2",
    ),
    (
        "window: zone",
        maintenance("start: '02:00', duration: 1h, timezone: Mars"),
        "'night': there is no time zone",
        "IANA",
    ),
    ("window: no way", maintenance("duration: 1h"), "'night': a window is given by", ""),
    (
        "window: check",
        maintenance("start: '02:00', duration: 1h, checks: [healht]", SYNTHETIC_HEAD + "  every: 5m\n"),
        "there is no check named 'healht'",
        "did you mean health?",
    ),
]
