"""What the views of the real data sets answer, by Polars.

A row is a pair of a row of the spine (`t`, its instant) and an event before it that counts (`at`), with the
version that the event meets; pairs of a spine row stand in the order of their events.
"""

import polars as pl

from witness import WINDOWS, micros, read

EVER = 1 << 62
# Rows of a spine that are answered together.
ROWS = 500
col = pl.col
ALL = pl.lit(True)


def within(window: str | None) -> pl.Expr:
    if window is None:
        return ALL
    length, hop = WINDOWS[window]
    return col("at") >= (col("t") - length) // hop * hop


def count(where: pl.Expr = ALL, window: str | None = None) -> pl.Expr:
    # An unknown condition is none.
    return (col("at").is_not_null() & where & within(window)).fill_null(False).sum().cast(pl.Int64)


def values(field: str, window: str | None = None, where: pl.Expr = ALL) -> pl.Expr:
    """The values of a field that are there, in order."""
    return col(field).filter(col(field).is_not_null() & where & within(window))


def counted(field: str, window: str | None = None) -> pl.Expr:
    return values(field, window).len().cast(pl.Int64)


def total(field: str, window: str | None = None, where: pl.Expr = ALL) -> pl.Expr:
    some = values(field, window, where)
    return pl.when(some.len() > 0).then(some.sum())


def mean(field: str, window: str) -> pl.Expr:
    some = values(field, window)
    parts = some.sum().cast(pl.Float64), some.len().cast(pl.Float64)
    return pl.when(some.len() > 0).then(parts[0] / parts[1])


def variance(field: str, window: str) -> pl.Expr:
    some = values(field, window)
    n, sums, squares = some.len().cast(pl.Int64), some.sum(), (some * some).sum()
    above, below = n * squares - sums * sums, n * (n - 1)
    return pl.when(n > 1).then(above.cast(pl.Float64) / below.cast(pl.Float64))


def distinct(field: str, window: str | None = None, limit: int = 1_000) -> pl.Expr:
    return values(field, window).n_unique().cast(pl.Int64).clip(upper_bound=limit)


def first_n(field: str, n: int) -> pl.Expr:
    return values(field).head(n)


def last_n(field: str, n: int, window: str | None = None) -> pl.Expr:
    return values(field, window).tail(n).reverse()


def latest(field: str) -> pl.Expr:
    return col(f"now_{field}").first()


PORTS = {
    "touches": count(),
    "touches_7d": count(window="7d"),
    "touches_1d_exact": count(window="1d exact"),
    "reverts": counted("reverts_commit"),
    "source_touches_30d": count(col("is_manifest") == 0, "30d"),
    "licensed_touches_90d": counted("license", "90d"),
    "heavy_touches_90d": count(
        (col("n_deps") >= 5) & (col("n_deps") > col("n_features")), "90d"
    ),
    "orphan_touches": count(col("version").is_null()),
    "late_merges": count(
        (col("arrival_time") > col("at")) & (col("arrival_time") >= 1_577_836_800_000_000)
    ),
    "patches": count(col("file").str.contains(r"\.patch$|\.(?:diff|cmake)$")),
    "contributors_90d": distinct("contributor", "90d"),
    "commits_365d": distinct("commit", "365d", 200),
    "first_touch": values("arrival_time").first(),
    "last_touch": values("arrival_time").last(),
    "last_commit_kept": values("commit", where=col("change").is_in(["A", "M"])).last(),
    "first_files": first_n("file", 3),
    "last_files_30d": last_n("file", 5, "30d"),
    "least_file": values("file").min(),
    "latest_arrival_365d": values("arrival_time", "365d").max(),
    "deps_mean_365d": mean("n_deps", "365d"),
    "deps_variance_365d": variance("n_deps", "365d"),
    "version": latest("version"),
    "license": latest("license"),
    "n_deps": latest("n_deps"),
}
LICENSES = {
    "versions_touched": distinct("version"),
    "last_version_touched": values("version").last(),
    "last_versions": last_n("version", 4),
    "deps_max_90d": values("n_deps", "90d").max(),
    "deps_sum_90d": total("n_deps", "90d"),
    "mit_touches_90d": count(
        (col("license") == "MIT") | col("license").str.contains("MIT ", literal=True), "90d"
    ),
    "repackaged": count(
        (col("port_version") % 2 == 1) & ~(col("n_features") + 1 > col("n_deps"))
    ),
}
CONTRIBUTORS = {
    "touches_30d": count(window="30d"),
    "touches_12h_exact": count(window="12h exact"),
    "ports_365d": distinct("key", "365d"),
    "last_ports": last_n("key", 3),
    "manifest_share_90d": mean("is_manifest", "90d"),
    "manifest_stddev_90d": variance("is_manifest", "90d").sqrt(),
    "first_port": values("key").first(),
}
SALES = {
    "lines_7d": count(window="7d"),
    "lines_1d_exact": count(window="1d exact"),
    "sold_30d": total("quantity", "30d", col("kind") == "sale"),
    "sold_1h": total("quantity", "1h", col("kind") == "sale"),
    "with_customer_30d": counted("customer", "30d"),
    "price_min": values("unit_price").min(),
    "price_max_90d": values("unit_price", "90d").max(),
    "quantity_variance_30d": variance("quantity", "30d"),
    "customers_30d": distinct("customer", "30d"),
    "invoices_90d": distinct("invoice", "90d", 100),
    "first_invoice": values("invoice").first(),
    "last_quantity": values("quantity").last(),
    "first_customers": first_n("customer", 3),
    "last_prices": last_n("unit_price", 5, "30d"),
    "above_list_90d": count(col("unit_price") > col("list_price"), "90d"),
    "unlisted": count(col("list_price").is_null() & ~col("key").str.contains("^[A-Z]+$")),
    "list_price": latest("list_price"),
    "description": latest("description"),
}
STOCK = {
    "adjusted": total("quantity", where=col("kind").is_in(["stock", "adjust"])),
    "descriptions": distinct("description"),
    "heart_lines_30d": count(
        col("description").str.contains("HEART", literal=True)
        | col("description").str.starts_with("WHITE"),
        "30d",
    ),
    "bulk_12h_exact": values(
        "quantity", "12h exact", (col("quantity") * 2 >= 24) & (col("unit_price") >= 1)
    ).max(),
}
CUSTOMERS = {
    "lines_30d": count(window="30d"),
    "lines_2d_exact": count(window="2d exact"),
    "quantity_90d": total("quantity", "90d"),
    "price_max": values("unit_price").max(),
    "invoices": distinct("invoice"),
    "items_90d": distinct("key", "90d"),
    "first_bought_at": values("at").first(),
    "last_items": last_n("key", 5),
    "large_lines_30d": count(col("quantity") >= 24, "30d"),
    "moved_lines": count(col("country") != col("changed_country")),
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
# By changelog, its fields as they are named beside those of an event.
FIELDS = {
    "manifests": {
        "version": pl.String,
        "license": pl.String,
        "n_deps": pl.Int64,
        "n_features": pl.Int64,
        "port_version": pl.Int64,
    },
    "items": {"list_price": pl.Float64, "description": pl.String},
    "customers": {"changed_country": pl.String},
}


def events(source: str, data, key: str) -> pl.DataFrame:
    """The events: since when they are known, and since when they are taken back."""
    table = read(source, data.files[data.events][0])
    table = table.with_columns(at=micros(data.at), id=col(data.id).cast(pl.Int64))
    if data.events == "touches":
        arrived = micros("arrival_time")
        table = table.with_columns(
            col("is_manifest").cast(pl.Int64), arrival_time=arrived, known=arrived, gone=EVER + 1
        )
    else:
        numbers = [col("quantity").cast(pl.Int64), col("unit_price").cast(pl.Float64)]
        table = table.with_columns(*numbers, col("customer").cast(pl.Int64), known=col("at"))
        back = table.filter(col("cancels_line_id").is_not_null())
        back = back.group_by("key", id=col("cancels_line_id").cast(pl.Int64)).agg(gone=col("at").min())
        table = table.filter(col("cancels_line_id").is_null()).join(back, on=["key", "id"], how="left")
        table = table.with_columns(col("gone").fill_null(EVER + 1))
    table = table.with_columns(entity=col(key).cast(pl.String)).filter(col("entity").is_not_null())
    return table.sort("at", "id")


def versions(source: str, data, changelog: str) -> pl.DataFrame:
    """Of each instant the last version; an END says nothing."""
    table = read(source, data.files[changelog][0])
    if changelog == "customers":
        table = table.rename({"country": "changed_country"})
    says = {
        name: pl.when(col("op") != "delete").then(col(name).cast(dtype))
        for name, dtype in FIELDS[changelog].items()
    }
    return (
        table.sort(micros("valid_from"), col("seq").cast(pl.Int64))
        .select(entity="key", since=micros("valid_from"), **says)
        .unique(["entity", "since"], keep="last", maintain_order=True)
        .sort("since")
    )


def as_of(rows: pl.DataFrame, at: str, said: pl.DataFrame) -> pl.DataFrame:
    """Each row with the version of its entity at its instant. Both are in the order of their instants."""
    on = {"left_on": at, "right_on": "since", "by": "entity", "check_sortedness": False}
    return rows.join_asof(said, **on).drop("since", strict=False)


class Peer:
    """Polars with a data set in memory."""

    def __init__(self, source: str, data) -> None:
        self.events = {of.key: events(source, data, of.key) for of in data.views.values()}
        self.said = {name: versions(source, data, name) for name in FIELDS.keys() & data.files.keys()}

    def answers(self, name: str, view, spine: str, at_event: bool) -> pl.DataFrame:
        """The rows of a spine as known at each or latest."""
        entity, t = col(view.kind).cast(pl.String), col("at").dt.epoch("us")
        rows = pl.read_parquet(spine).select("row", entity=entity, t=t)
        rows = rows.with_columns(k=col("t") if at_event else pl.lit(EVER))
        happened = self.events[view.key]
        if view.changelog:
            said = self.said[view.changelog]
            happened = as_of(happened, "at", said)
            now = said.rename({field: f"now_{field}" for field in FIELDS[view.changelog]})
            rows = as_of(rows.sort("t"), "t", now).sort("row")
        answered = []
        for part in rows.iter_slices(ROWS):
            pairs = part.join(happened, on="entity").filter(
                (col("at") < col("t")) & (col("known") <= col("k")) & (col("gone") > col("k"))
            )
            # Rows without any event are there too, with nothing in them.
            happenings = pairs.select(pl.exclude("entity", "t", "k", "^now_.*$"))
            pairs = part.join(happenings, on="row", how="left").sort("row", "at", "id")
            answered.append(pairs.group_by("row", maintain_order=True).agg(**FEATURES[name]))
        return pl.concat(answered)
