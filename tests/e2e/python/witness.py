"""Training sets of the real data sets, against DuckDB and Polars: what each says in its own words.

    python witness.py prepare DATASET SOURCE FOLDER
    (import the files and make the sets that FOLDER/plan.json names)
    python witness.py compare DATASET SOURCE FOLDER [KNOWN_AT]

`prepare` writes the files to import, each in the order in which its rows were known, and for each view a
spine: instants at events, just after them, and at edges of windows. `compare` computes every feature that
SQL can express exactly, as known at each row and latest, in SQL (witness_sql.py) and by Polars
(witness_polars.py), and compares every value with the set's; of sets known at KNOWN_AT alone, where it is
given.
"""

import json
import sys
from dataclasses import dataclass

import polars as pl

SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND
# A window of width W at t holds what happened from floor(t - W, hop) on and before t: by name W and hop.
WINDOWS = {
    "1h": (HOUR, MINUTE),
    "7d": (7 * DAY, HOUR),
    "30d": (30 * DAY, HOUR),
    "90d": (90 * DAY, DAY),
    "365d": (365 * DAY, DAY),
    "12h exact": (12 * HOUR, 1),
    "1d exact": (DAY, 1),
    "2d exact": (2 * DAY, 1),
}
# How far behind an event a row of the spine lies: where it comes in, and of each window where it is in for
# sure, where half a hop decides, and where it is out.
OFFSETS = [0, 1] + [
    length + more for length, hop in WINDOWS.values() for more in sorted({0, 1, hop // 2, hop})
]
# Rows of a spine, about, and of one entity at most.
SPINE_ROWS, ENTITY_ROWS = 4_000, 6


@dataclass(frozen=True)
class View:
    """A view: the field that is its key, its kind of entity, and the changelog that it joins."""

    key: str
    kind: str
    changelog: str | None


@dataclass(frozen=True)
class DataSet:
    """A data set: by stream its file and the column that says since when a row was known."""

    events: str
    at: str
    id: str
    files: dict[str, tuple[str, str]]
    views: dict[str, View]


DATA_SETS = {
    # Author and arrival of a touch are two clocks.
    "vcpkg-ports": DataSet(
        events="touches",
        at="event_time",
        id="event_id",
        files={
            "touches": ("events.csv.gz", "arrival_time"),
            "manifests": ("profile_changes.csv.gz", "valid_from"),
        },
        views={
            "port_activity": View("key", "port", "manifests"),
            "port_licenses": View("key", "port", "manifests"),
            "contributor_activity": View("contributor", "contributor", None),
        },
    ),
    # Some lines take others back, later.
    "online-retail": DataSet(
        events="lines",
        at="event_time",
        id="line_id",
        files={
            "lines": ("events.csv.gz", "event_time"),
            "items": ("item_changes.csv.gz", "valid_from"),
            "customers": ("customer_changes.csv.gz", "valid_from"),
        },
        views={
            "item_sales": View("key", "item", "items"),
            "item_stock": View("key", "item", "items"),
            "customer_spending": View("customer", "customer", "customers"),
        },
    ),
}


def micros(column: str) -> pl.Expr:
    """RFC 3339 in UTC as microseconds since the epoch."""
    return pl.col(column).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us").cast(pl.Int64)


def read(source: str, file: str) -> pl.DataFrame:
    """A file as text, an empty cell being null."""
    return pl.read_csv(f"{source}/{file}", infer_schema=False)


def spine(events: pl.DataFrame, data: DataSet, view: View) -> pl.DataFrame:
    """Rows about entities spread over all, beside events spread over each."""
    events = events.select(
        entity=view.key, at=micros(data.at), id=pl.col(data.id).cast(pl.Int64)
    ).drop_nulls()
    end = events["at"].max() + 1
    of_entity = pl.col("id").cum_count().over("entity") - 1
    count = pl.len().over("entity")
    beside = (
        events.sort("at", "id")
        .filter(of_entity % (count // ENTITY_ROWS + 1) == 0)
        .with_columns(number=pl.col("entity").rank("dense"))
    )
    every = len(beside) // SPINE_ROWS + 1
    if view.kind == "customer":
        beside = beside.with_columns(pl.col("entity").cast(pl.Int64))
    return (
        beside.filter(pl.col("number") % every == 0)
        .sort("id")
        .with_row_index("row")
        .with_columns(pl.col("row").cast(pl.Int64))
        .with_columns(
            offset=pl.col("row").map_elements(lambda n: OFFSETS[n % len(OFFSETS)], pl.Int64)
        )
        .select(
            pl.col("entity").alias(view.kind),
            at=pl.min_horizontal(pl.col("at") + pl.col("offset"), end)
            .cast(pl.Datetime("us"))
            .dt.replace_time_zone("UTC"),
            row="row",
        )
    )


def prepare(name: str, source: str, folder: str) -> None:
    import witness_sql

    data = DATA_SETS[name]
    plan: dict = {"files": {}, "views": {}}
    for stream, (file, known_at) in data.files.items():
        table = read(source, file)
        path = f"{folder}/{stream}.csv"
        # Rows that were known at the same instant keep their order.
        table.sort(micros(known_at), maintain_order=True).write_csv(path)
        plan["files"][stream] = {"path": path, "known_at": known_at, "rows": len(table)}
    events = read(source, data.files[data.events][0])
    for view, of in data.views.items():
        path = f"{folder}/{view}.spine.parquet"
        rows = spine(events, data, of)
        rows.write_parquet(path)
        sets = {known: f"{folder}/{view}.{known}.parquet" for known in ("at-event", "latest")}
        features = list(witness_sql.FEATURES[view])
        plan["views"][view] = {
            "spine": path, "rows": len(rows), "features": features, "sets": sets,
        }  # fmt: skip
    with open(f"{folder}/plan.json", "w") as out:
        json.dump(plan, out)


def plain(column: pl.Series) -> list:
    """Values that compare as Python's do; instants as microseconds."""
    if isinstance(column.dtype, pl.Datetime):
        column = column.dt.epoch("us")
    return column.to_list()


def compare(name: str, source: str, folder: str, only: str | None = None) -> None:
    import witness_polars
    import witness_sql

    data = DATA_SETS[name]
    with open(f"{folder}/plan.json") as file:
        plan = json.load(file)
    compared, telling, wrong = 0, 0, []
    peers = {
        "DuckDB": witness_sql.Peer(source, data),
        "Polars": witness_polars.Peer(source, data),
    }
    for view, of in data.views.items():
        planned = plan["views"][view]
        for known, path in planned["sets"].items():
            if only not in (None, known):
                continue
            ours = pl.read_parquet(path)
            assert ours["row"].to_list() == list(range(planned["rows"])), "rows keep their order"
            for peer_name, peer in peers.items():
                theirs = peer.answers(view, of, planned["spine"], known == "at-event")
                assert theirs["row"].to_list() == ours["row"].to_list()
                for feature in planned["features"]:
                    left, right = plain(ours[feature]), plain(theirs[feature])
                    compared += len(left)
                    telling += sum(value not in (None, 0, []) for value in left)
                    place = f"{view}.{feature} known at {known}, by {peer_name}"
                    differing = [n for n in range(len(left)) if left[n] != right[n]]
                    wrong += [
                        f"{place}: {left[n]!r} and not {right[n]!r} in {ours.row(n)[:3]}"
                        for n in differing[:2]
                    ]
                    if differing:
                        wrong.append(f"{place}: {len(differing)} of {len(left)} differ")
    if wrong:
        sys.exit("\n".join(wrong))
    # A comparison of nothing would prove nothing.
    assert telling > compared // 3, f"{telling} of {compared} values tell something"
    print(json.dumps({"compared": compared, "telling": telling}))


def main() -> None:
    command, name, source, folder, *only = sys.argv[1:]
    {"prepare": prepare, "compare": compare}[command](name, source, folder, *only)


if __name__ == "__main__":
    main()
