"""Will a customer buy again within 30 days? Features from one definition, offline and online.

Publishes the purchase lines of `online-retail`, reads a training set, fits a model, and scores
customers as an application would, by features that it reads online: features and scores equal
those of the training set bit for bit.

    millrace dev &
    python examples/online_retail.py --data DIRECTORY/online-retail
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import millrace
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

VIEW = "customer_spending"
HORIZON = pd.Timedelta(days=30)
#: A row of the spine is a customer at one of these instants.
INSTANTS = pd.date_range("2011-03-01", "2011-11-01", freq="MS", tz="UTC")
#: Rows before are for training. A label looks 30 days ahead, so those of training end before the
#: first instant of the test.
TEST_FROM = pd.Timestamp("2011-09-01", tz="UTC")

NUMBERS = [
    "lines_30d",
    "quantity_90d",
    "price_mean_90d",
    "price_max",
    "invoices",
    "items_90d",
    "large_lines_30d",
    "price_stddev_90d",
]
FEATURES = [*NUMBERS, "first_bought_at", "last_items", "favourite_items", "country"]


def load(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The lines that have a customer, and the customers' countries, typed as the catalog says."""
    text, number = "string", "Int64"
    lines = pd.read_csv(
        folder / "events.csv.gz",
        dtype={"key": text, "kind": text, "invoice": text, "country": text}
        | {"customer": number, "cancels_line_id": number},
        parse_dates=["event_time"],
        keep_default_na=False,
        na_values=[""],
    )
    customers = pd.read_csv(
        folder / "customer_changes.csv.gz",
        dtype={"op": text, "country": text},
        parse_dates=["valid_from"],
    )
    return lines[lines["customer"].notna()], customers


def publish(client: millrace.Client, catalog: Path, folder: Path) -> pd.DataFrame:
    """Publishes the data and gives the lines. Doing it again counts nothing twice."""
    client.apply(catalog.read_text())
    lines, customers = load(folder)
    for stream, frame in [("customers", customers), ("lines", lines)]:
        published = client.publish(stream, frame)
        assert published.is_clean, published.exceptions[:3]
        print(f"{stream}: {published.accepted + published.repaired} new of {published.sent}")
    # What changed much of an entity is taken up in the background; online reads say `rebuilding`.
    while client.status().rebuild_queue:
        time.sleep(0.1)
    return lines


def spine_of(lines: pd.DataFrame) -> pd.DataFrame:
    """Each customer known by each instant, and whether they buy within 30 days from there on."""
    sales = lines[lines["kind"] == "sale"]
    first = sales.groupby("customer")["event_time"].min()
    parts = []
    for at in INSTANTS:
        soon = sales[(sales["event_time"] >= at) & (sales["event_time"] < at + HORIZON)]
        known = first.index[first < at]
        buys = known.isin(soon["customer"])
        parts.append(pd.DataFrame({"customer": known, "at": at, "buys_again": buys}))
    spine: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return spine


def inputs_of(rows: pd.DataFrame) -> pd.DataFrame:
    """What the model sees of rows: all of it comes from features and the instant."""
    inputs: pd.DataFrame = rows[NUMBERS].astype("float64")
    inputs["days_as_customer"] = (rows["at"] - rows["first_bought_at"]).dt.days
    # NULL where every line of a customer was taken back. Sums of returns are negative.
    inputs = inputs.fillna(0.0)
    inputs = np.sign(inputs) * np.log1p(inputs.abs())
    inputs["days_per_invoice"] = inputs["days_as_customer"] - inputs["invoices"]
    return inputs


def bits(table: pa.Table) -> pa.Table:
    """The table with the bits of its doubles in their place, since −0.0 == 0.0."""
    for index, field in enumerate(table.schema):
        if field.type == pa.float64():
            whole = table.column(index).combine_chunks()
            table = table.set_column(index, field.name, whole.view(pa.int64()))
    return table


def scores_of(model: Pipeline, rows: pa.Table) -> npt.NDArray[np.float64]:
    """How probable the model holds it that each customer buys again."""
    scores: npt.NDArray[np.float64] = model.predict_proba(inputs_of(rows.to_pandas()))[:, 1]
    return scores


def check_online(client: millrace.Client, model: Pipeline, offline: pa.Table) -> tuple[int, int]:
    """Scores the rows' customers as an application does and compares features and scores with
    those of the rows; gives how many values and scores."""
    values, scored = 0, 0
    for at in offline["at"].unique().to_pylist():
        rows = offline.filter(pc.equal(offline["at"], pa.scalar(at, offline["at"].type)))
        keys = rows["customer"].to_pylist()
        online = client.get_features(VIEW, keys, features=FEATURES, at=at)
        assert not online.rebuilding
        found = online.to_arrow(schema=offline.schema, key_names=())
        known = rows.select(FEATURES)
        assert bits(found).equals(bits(known)), f"online differs at {at}"
        values += found.num_rows * found.num_columns
        # Both are scored in one call each: how a product is summed may depend on its shape.
        scores, expected = (
            scores_of(model, table.append_column("at", rows["at"])) for table in (found, known)
        )
        assert np.array_equal(scores, expected), f"scores differ at {at}"
        scored += len(scores)
    return values, scored


def main() -> None:
    """Runs all of it and prints how it went."""
    here = Path(__file__).resolve()
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--endpoint", help="where Millrace is, else as MILLRACE_ENDPOINT says")
    arguments.add_argument("--data", type=Path, required=True, help="the folder online-retail")
    arguments.add_argument(
        "--catalog", type=Path, default=here.parents[3] / "examples" / "online-retail.yaml"
    )
    given = arguments.parse_args()

    with millrace.Client(given.endpoint) as client:
        lines = publish(client, given.catalog, given.data)
        spine = spine_of(lines)

        training = client.training_set(VIEW, spine=spine, features=FEATURES, known_at="latest")
        offline = training.to_arrow()
        print(f"training set: {offline.num_rows} rows, as known at {training.known_at}")

        rows = offline.to_pandas()
        is_test = rows["at"] >= TEST_FROM
        train, test = rows[~is_test], rows[is_test]
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
        model.fit(inputs_of(train), train["buys_again"])
        score = roc_auc_score(test["buys_again"], model.predict_proba(inputs_of(test))[:, 1])
        # Who has bought more often will rather buy again.
        naive = roc_auc_score(test["buys_again"], test["invoices"])
        print(f"AUC {score:.3f} on {len(test)} rows, of the naive guess {naive:.3f}")
        assert score > naive, "the model is no better than a naive guess"

        values, scored = check_online(client, model, offline.filter(pa.array(is_test)))
        print(f"online equals offline: {values} values, bit for bit")
        print(f"scored online: {scored} customers and instants, each as offline, bit for bit")


if __name__ == "__main__":
    main()
