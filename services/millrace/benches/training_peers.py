"""The training set of `millrace bench training --keep DIR`, by DuckDB and by Polars, in memory.

    pip install duckdb polars pyarrow
    millrace bench training --keep DIR && python training_peers.py DIR

Reads the same clicks and profiles, writes Parquet, prints rows a second of each, and compares every
value with Millrace's. Both keep everything in memory and know no correction, no retraction and no
second clock; what they compute is the same, since the workload has none of these.
"""

import sys
import time

import duckdb
import polars as pl

HOUR, DAY = 3_600_000, 86_400_000
# A window of width W reaches back to floor(t - W, hop): a minute for an hour, five for a day.
MINUTE, FIVE = 60_000, 300_000

SQL = """
WITH per AS (
  SELECT user_id, event_time AS t, count(*) AS n, sum(dwell_ms) AS s,
         arg_max(item_id, event_id) AS item
  FROM clicks GROUP BY ALL
), cum AS (
  SELECT user_id, t, item, sum(n) OVER w AS n, sum(s) OVER w AS s
  FROM per WINDOW w AS (PARTITION BY user_id ORDER BY t)
), version AS (
  SELECT user_id, valid_from,
         arg_max({'op': op, 'country': country, 'tier': tier, 'age': age}, row) AS v
  FROM profiles GROUP BY ALL
), spine AS (
  SELECT row, user_id, event_time AS t,
         (event_time - 3600000) // 60000 * 60000 AS from_1h,
         (event_time - 86400000) // 300000 * 300000 AS from_24h
  FROM clicks
)
SELECT r.row, r.user_id,
       coalesce(a.n, 0) - coalesce(b.n, 0) AS clicks_1h,
       CASE WHEN coalesce(a.n, 0) > coalesce(b.n, 0)
            THEN a.s - coalesce(b.s, 0) END AS dwell_1h,
       coalesce(a.n, 0) - coalesce(c.n, 0) AS clicks_24h,
       CASE WHEN coalesce(a.n, 0) > coalesce(c.n, 0)
            THEN a.s - coalesce(c.s, 0) END AS dwell_24h,
       a.item AS last_item,
       CASE WHEN p.v.op != 'delete' THEN p.v.country END AS country,
       CASE WHEN p.v.op != 'delete' THEN p.v.tier END AS tier,
       CASE WHEN p.v.op != 'delete' THEN p.v.age END AS age
FROM spine r
ASOF LEFT JOIN cum a ON r.user_id = a.user_id AND r.t > a.t
ASOF LEFT JOIN cum b ON r.user_id = b.user_id AND r.from_1h > b.t
ASOF LEFT JOIN cum c ON r.user_id = c.user_id AND r.from_24h > c.t
ASOF LEFT JOIN version p ON r.user_id = p.user_id AND r.t >= p.valid_from
ORDER BY r.row
"""
COLUMNS = [
    "clicks_1h", "dwell_1h", "clicks_24h", "dwell_24h", "last_item", "country", "tier", "age",
]


def by_duckdb(folder: str) -> float:
    """Seconds from tables in memory to a Parquet file."""
    con = duckdb.connect()
    con.execute("SET threads = 2")
    for name in ("clicks", "profiles"):
        con.execute(
            f"CREATE TABLE {name} AS SELECT *, row_number() OVER () - 1 AS row"
            f" FROM read_parquet('{folder}/{name}.parquet')"
        )
    begun = time.perf_counter()
    con.execute(f"COPY ({SQL}) TO '{folder}/duckdb.parquet' (COMPRESSION zstd)")
    return time.perf_counter() - begun


def by_polars(folder: str) -> float:
    """Seconds from frames in memory to a Parquet file."""
    clicks = pl.read_parquet(f"{folder}/clicks.parquet").with_row_index("row")
    profiles = pl.read_parquet(f"{folder}/profiles.parquet").with_row_index("order")
    begun = time.perf_counter()
    cum = (
        clicks.sort("user_id", "event_time", "event_id")
        .group_by("user_id", "event_time", maintain_order=True)
        .agg(n=pl.len().cast(pl.Int64), s=pl.col("dwell_ms").sum(), item=pl.col("item_id").last())
        .with_columns(
            n=pl.col("n").cum_sum().over("user_id"), s=pl.col("s").cum_sum().over("user_id")
        )
        .sort("event_time")
    )
    versions = (
        profiles.sort("user_id", "valid_from", "order")
        .unique(["user_id", "valid_from"], keep="last", maintain_order=True)
        .sort("valid_from")
    )
    spine = clicks.select(
        "row",
        "user_id",
        at=pl.col("event_time"),
        from_1h=(pl.col("event_time") - HOUR) // MINUTE * MINUTE,
        from_24h=(pl.col("event_time") - DAY) // FIVE * FIVE,
    )

    def before(rows: pl.DataFrame, instant: str, name: str) -> pl.DataFrame:
        # Strictly before: the whole milliseconds up to the one before.
        right = cum.rename({"n": f"n_{name}", "s": f"s_{name}", "item": f"item_{name}"})
        return (
            rows.with_columns(key=pl.col(instant) - 1)
            .sort("key")
            .join_asof(right, left_on="key", right_on="event_time", by="user_id")
            .drop("key", "event_time")
        )

    rows = before(before(before(spine, "at", "now"), "from_1h", "hour"), "from_24h", "day")
    rows = rows.sort("at").join_asof(versions, left_on="at", right_on="valid_from", by="user_id")
    count = lambda name: pl.col(f"n_{name}").fill_null(0)
    total = lambda name: pl.col(f"s_{name}").fill_null(0)
    there = pl.col("op") != "delete"
    result = rows.sort("row").select(
        "row",
        "user_id",
        clicks_1h=count("now") - count("hour"),
        dwell_1h=pl.when(count("now") > count("hour")).then(total("now") - total("hour")),
        clicks_24h=count("now") - count("day"),
        dwell_24h=pl.when(count("now") > count("day")).then(total("now") - total("day")),
        last_item=pl.col("item_now"),
        country=pl.when(there).then("country"),
        tier=pl.when(there).then("tier"),
        age=pl.when(there).then("age"),
    )
    result.write_parquet(f"{folder}/polars.parquet", compression="zstd")
    return time.perf_counter() - begun


def main() -> None:
    folder = sys.argv[1]
    ours = pl.read_parquet(f"{folder}/set.parquet")
    for name, peer in (("DuckDB", by_duckdb), ("Polars", by_polars)):
        seconds = peer(folder)
        theirs = pl.read_parquet(f"{folder}/{name.lower()}.parquet")
        for column in COLUMNS:
            left, right = ours[column], theirs[column].cast(ours[column].dtype)
            differ = (left.ne_missing(right)).sum()
            if differ:
                sys.exit(f"{name}: {differ} values of {column} differ from Millrace's")
        print(f"{name}: {len(ours) / seconds:,.0f} rows/s, all values equal Millrace's")


if __name__ == "__main__":
    main()
