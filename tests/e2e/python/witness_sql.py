"""What the views of the real data sets answer, in DuckDB's SQL.

`e` is an event with the version it meets, `s` a row of the spine: s.t its instant, s.k up to when facts
count as known, both in microseconds.
"""

import duckdb
import polars as pl

from witness import WINDOWS

EVER = 1 << 62


def within(window: str) -> str:
    """The condition that an event, which lies before s.t, lies in a window."""
    length, hop = WINDOWS[window]
    return f"e.at >= (s.t - {length}) // {hop} * {hop}"


def count(where: str = "true", window: str | None = None) -> str:
    where = f"({where}) AND {within(window)}" if window else where
    return f"count(e.id) FILTER ({where})"


def counted(field: str, window: str | None = None) -> str:
    return count(f"e.{field} IS NOT NULL", window)


def over(aggregate: str, field: str, window: str | None = None, where: str = "true") -> str:
    where = f"e.{field} IS NOT NULL AND ({where})" + (f" AND {within(window)}" if window else "")
    return f"{aggregate.format(f'e.{field}')} FILTER ({where})"


def total(field: str, window: str | None = None, where: str = "true") -> str:
    return over("sum({})", field, window, where) + "::BIGINT"


def mean(field: str, window: str) -> str:
    return f"{over('sum({})', field, window)}::DOUBLE / nullif({counted(field, window)}, 0)::DOUBLE"


def variance(field: str, window: str) -> str:
    """(n sum(x^2) - sum(x)^2) / (n (n - 1)) of integers: both are below 2^53, so it is rounded once."""
    n, squares = counted(field, window), over("sum({0} * {0})", field, window)
    sums = over("sum({})", field, window)
    above, below = f"({n} * {squares} - {sums} * {sums})", f"({n} * ({n} - 1))"
    exact = f"CASE WHEN {above} > 9007199254740992 THEN error('not exact') ELSE {above} END"
    return f"CASE WHEN {n} > 1 THEN {exact}::DOUBLE / {below}::DOUBLE END"


def distinct(field: str, window: str | None = None, limit: int = 1_000) -> str:
    return f"least({over('count(DISTINCT {})', field, window)}, {limit})"


def first(field: str, where: str = "true") -> str:
    return over("arg_min({}, e.ord)", field, where=where)


def last(field: str, where: str = "true") -> str:
    return over("arg_max({}, e.ord)", field, where=where)


def first_n(field: str, n: int) -> str:
    return f"coalesce(({over('list({} ORDER BY e.ord)', field)})[1:{n}], [])"


def last_n(field: str, n: int, window: str | None = None) -> str:
    return f"coalesce(({over('list({} ORDER BY e.ord DESC)', field, window)})[1:{n}], [])"


def latest(field: str) -> str:
    return f"any_value(v.{field})"


PORTS = {
    "touches": count(),
    "touches_7d": count(window="7d"),
    "touches_1d_exact": count(window="1d exact"),
    "reverts": counted("reverts_commit"),
    "source_touches_30d": count("e.is_manifest = 0", "30d"),
    "licensed_touches_90d": counted("license", "90d"),
    "heavy_touches_90d": count("e.n_deps >= 5 AND e.n_deps > e.n_features", "90d"),
    "orphan_touches": count("e.version IS NULL"),
    "late_merges": count(
        "e.arrival_time > e.at AND e.arrival_time >= epoch_us(TIMESTAMP '2020-01-01 00:00:00')"
    ),
    "patches": count("suffix(e.file, '.patch') OR regexp_matches(e.file, '\\.(diff|cmake)$')"),
    "contributors_90d": distinct("contributor", "90d"),
    "commits_365d": distinct("commit", "365d", 200),
    "first_touch": first("arrival_time"),
    "last_touch": last("arrival_time"),
    "last_commit_kept": last("commit", "e.change IN ('A', 'M')"),
    "first_files": first_n("file", 3),
    "last_files_30d": last_n("file", 5, "30d"),
    "least_file": over("min({})", "file"),
    "latest_arrival_365d": over("max({})", "arrival_time", "365d"),
    "deps_mean_365d": mean("n_deps", "365d"),
    "deps_variance_365d": variance("n_deps", "365d"),
    "version": latest("version"),
    "license": latest("license"),
    "n_deps": latest("n_deps"),
}
LICENSES = {
    "versions_touched": distinct("version"),
    "last_version_touched": last("version"),
    "last_versions": last_n("version", 4),
    "deps_max_90d": over("max({})", "n_deps", "90d"),
    "deps_sum_90d": total("n_deps", "90d"),
    "mit_touches_90d": count("e.license = 'MIT' OR contains(e.license, 'MIT ')", "90d"),
    "repackaged": count("e.port_version % 2 = 1 AND NOT (e.n_features + 1 > e.n_deps)"),
}
CONTRIBUTORS = {
    "touches_30d": count(window="30d"),
    "touches_12h_exact": count(window="12h exact"),
    "ports_365d": distinct("key", "365d"),
    "last_ports": last_n("key", 3),
    "manifest_share_90d": mean("is_manifest", "90d"),
    "manifest_stddev_90d": f"sqrt({variance('is_manifest', '90d')})",
    "first_port": first("key"),
}
SALES = {
    "lines_7d": count(window="7d"),
    "lines_1d_exact": count(window="1d exact"),
    "sold_30d": total("quantity", "30d", "e.kind = 'sale'"),
    "sold_1h": total("quantity", "1h", "e.kind = 'sale'"),
    "with_customer_30d": counted("customer", "30d"),
    "price_min": over("min({})", "unit_price"),
    "price_max_90d": over("max({})", "unit_price", "90d"),
    "quantity_variance_30d": variance("quantity", "30d"),
    "customers_30d": distinct("customer", "30d"),
    "invoices_90d": distinct("invoice", "90d", 100),
    "first_invoice": first("invoice"),
    "last_quantity": last("quantity"),
    "first_customers": first_n("customer", 3),
    "last_prices": last_n("unit_price", 5, "30d"),
    "above_list_90d": count("e.unit_price > e.list_price", "90d"),
    "unlisted": count("e.list_price IS NULL AND NOT regexp_matches(e.key, '^[A-Z]+$')"),
    "list_price": latest("list_price"),
    "description": latest("description"),
}
STOCK = {
    "adjusted": total("quantity", where="e.kind IN ('stock', 'adjust')"),
    "descriptions": distinct("description"),
    "heart_lines_30d": count(
        "contains(e.description, 'HEART') OR starts_with(e.description, 'WHITE')", "30d"
    ),
    "bulk_12h_exact": over(
        "max({})", "quantity", "12h exact", "e.quantity * 2 >= 24 AND e.unit_price >= 1"
    ),
}
CUSTOMERS = {
    "lines_30d": count(window="30d"),
    "lines_2d_exact": count(window="2d exact"),
    "quantity_90d": total("quantity", "90d"),
    "price_max": over("max({})", "unit_price"),
    "invoices": distinct("invoice"),
    "items_90d": distinct("key", "90d"),
    "first_bought_at": first("at"),
    "last_items": last_n("key", 5),
    "large_lines_30d": count("e.quantity >= 24", "30d"),
    "moved_lines": count("e.country <> e.changed_country"),
    "country": latest("changed_country"),
}
FEATURES = {
    "port_activity": PORTS,
    "port_licenses": LICENSES,
    "contributor_activity": CONTRIBUTORS,
    "item_sales": SALES,
    "item_stock": STOCK,
    "customer_spending": CUSTOMERS,
}

INSTANT = "epoch_us({}::TIMESTAMP)"
# By data set its events, by changelog its versions: the last one of an instant counts, an END says nothing.
EVENTS = {
    "touches": f"""
        SELECT event_id::BIGINT AS id, {INSTANT.format('event_time')} AS "at",
               {INSTANT.format('arrival_time')} AS known, {EVER + 1} AS gone, key, contributor, "commit",
               change, file, is_manifest::BIGINT AS is_manifest, reverts_commit,
               {INSTANT.format('arrival_time')} AS arrival_time
        FROM 'SOURCE/events.csv.gz'""",
    "lines": f"""
        WITH lines AS (SELECT *, {INSTANT.format('event_time')} AS "at" FROM 'SOURCE/events.csv.gz'),
             back AS (SELECT key, cancels_line_id AS line_id, min("at") AS gone FROM lines
                      WHERE cancels_line_id IS NOT NULL GROUP BY ALL)
        SELECT line_id::BIGINT AS id, "at", "at" AS known, coalesce(gone, {EVER + 1}) AS gone, key,
               customer::BIGINT AS customer, kind, invoice, country, quantity::BIGINT AS quantity,
               unit_price::DOUBLE AS unit_price
        FROM lines LEFT JOIN back USING (line_id, key) WHERE cancels_line_id IS NULL""",
}
VERSIONS = {
    "manifests": ("profile_changes.csv.gz", ["version", "license", "n_deps", "n_features", "port_version"]),
    "items": ("item_changes.csv.gz", ["list_price", "description"]),
    "customers": ("customer_changes.csv.gz", ["country AS changed_country"]),
}
NUMBERS = {"n_deps": "BIGINT", "n_features": "BIGINT", "port_version": "BIGINT", "list_price": "DOUBLE"}


def csv(sql: str, source: str) -> str:
    """With every file read as text, an empty cell being NULL."""
    for file in ("events", "profile_changes", "item_changes", "customer_changes"):
        path = f"SOURCE/{file}.csv.gz"
        sql = sql.replace(f"'{path}'", f"read_csv('{path}', all_varchar = true, nullstr = '')")
    return sql.replace("SOURCE", source)


def versions(changelog: str) -> str:
    file, fields = VERSIONS[changelog]
    names = [field.split(" AS ")[-1] for field in fields]
    texts = [f"{field.split(' AS ')[0]}::{NUMBERS.get(field, 'VARCHAR')}" for field in fields]
    said = ", ".join(
        f"arg_max_null(CASE WHEN op <> 'delete' THEN {text} END, seq::BIGINT) AS {name}"
        for text, name in zip(texts, names, strict=True)
    )
    at = INSTANT.format("valid_from")
    return f"SELECT key AS entity, {at} AS since, {said} FROM 'SOURCE/{file}' GROUP BY ALL"


class Peer:
    """DuckDB with a data set in memory."""

    def __init__(self, source: str, data) -> None:
        self.con = duckdb.connect()
        self.con.execute("SET threads = 2")
        self.con.execute(csv(f"CREATE TABLE plain AS {EVENTS[data.events]}", source))
        for changelog in VERSIONS.keys() & data.files.keys():
            self.con.execute(csv(f"CREATE TABLE {changelog} AS {versions(changelog)}", source))
        nothing = "SELECT '' AS entity, 0::BIGINT AS since WHERE false"
        self.con.execute(f"CREATE TABLE nothing AS {nothing}")

    def answers(self, name: str, view, spine: str, at_event: bool) -> pl.DataFrame:
        """The rows of a spine as known at each or latest."""
        changelog = view.changelog or "nothing"
        features = ", ".join(f"{sql} AS {feature}" for feature, sql in FEATURES[name].items())
        return self.con.sql(f"""
            WITH spine AS (
                SELECT "row", {view.kind}::VARCHAR AS entity, epoch_us("at") AS t,
                       {'epoch_us("at")' if at_event else EVER} AS k
                FROM '{spine}'
            ), event AS MATERIALIZED (
                SELECT p.*, v.* EXCLUDE (entity, since), p.{view.key}::VARCHAR AS entity,
                       row_number() OVER (ORDER BY p.at, p.id) AS ord
                FROM plain p
                ASOF LEFT JOIN {changelog} v ON p.{view.key}::VARCHAR = v.entity AND p.at >= v.since
            ), dated AS (
                SELECT s."row", v.* EXCLUDE (entity, since)
                FROM spine s
                ASOF LEFT JOIN {changelog} v ON s.entity = v.entity AND s.t >= v.since
            )
            SELECT s."row", {features}
            FROM spine s
            JOIN dated v USING ("row")
            LEFT JOIN event e
                ON e.entity = s.entity AND e.at < s.t AND e.known <= s.k AND e.gone > s.k
            GROUP BY s."row", s.t
            ORDER BY s."row" """).pl()
