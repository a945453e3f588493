//! The examples that `--help` ends with.

pub(super) const TOP: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  some facts were rejected or late
  4  not reachable

Examples:
  millrace demo                                     See it work in a minute
  millrace dev --catalog catalog.yaml               Run all of it in one process
  millrace publish clicks=clicks.csv.gz             Send facts
  millrace import clicks=2023.parquet               Send history, known when it happened
  millrace get user_activity 42 -o json             Read features
  millrace training user_activity --events --known-at latest --out train.parquet
  millrace tail user_activity --until-idle          Print the joined rows

Run a command with --help for more about it.";

pub(super) const DEV: &str = "\
Everything acknowledged is durable in the data folder; Ctrl-C or SIGTERM ends it cleanly, and
kill -9 loses nothing that was acknowledged.

Examples:
  millrace dev --catalog catalog.yaml
  millrace dev --data /var/lib/millrace --listen 0.0.0.0:7400 \
    --tls-cert server.pem --tls-key server.key --access access.toml
  millrace dev --at-hand-bytes 65536                Make rebuilds common, for tests";

pub(super) const SERVE: &str = "\
Services start in any order; each waits for what it needs. All four on one machine need no
settings: ingest listens on port 7401, join on 7402, store-writer on 7403, feature-serving on 7404.

Examples:
  millrace serve store-writer --data /var/lib/millrace
  millrace serve join --node join-0
  millrace serve ingest --config ingest.toml
  millrace serve feature-serving --store-endpoint http://10.0.0.7:7403";

pub(super) const DEMO: &str = "\
Runs in a temporary folder and leaves nothing behind.

Examples:
  millrace demo";

pub(super) const VALIDATE: &str = "\
Prints every error with file, line, column, rule and the way out, and exits with 1 if there is one.

Examples:
  millrace validate catalog.yaml
  millrace validate catalog.yaml -o json
  cat catalog.yaml | millrace validate -";

pub(super) const APPLY: &str = "\
Refused whole, with every error named, if the catalog is wrong or would make stored facts
unreadable.

Examples:
  millrace apply catalog.yaml --dry-run             Show the difference only
  millrace apply catalog.yaml";

pub(super) const PUBLISH: &str = "\
Each file is a producer of its own, side by side. A row that does not parse is rejected with its
file, line, field and rule, and the rest goes on. Publishing the same file again counts nothing
twice: its facts are DUPLICATE. Exits with 3 if facts were rejected or late.

Formats: CSV with a header row, NDJSON, Parquet; CSV and NDJSON may be gzipped.

Examples:
  millrace publish clicks=clicks.csv.gz profiles=profiles.parquet
  millrace publish clicks=day1.ndjson clicks=day2.ndjson --rate 50000
  my-export | millrace publish clicks=- --producer export-2026-03-01 --format ndjson
  millrace publish clicks=clicks.csv -o json | jq '.exceptions[]'";

pub(super) const TRAINING: &str = "\
Windows end just before a row's instant, so a row never counts itself. Rows keep their order and the
spine's other columns. The file appears whole or not at all, and says what it was made from:
--set-version makes the same set again, bit for bit.

Examples:
  millrace training user_activity --spine labels.parquet --known-at at-event --out train.parquet
  millrace training user_activity --events --known-at latest --out all.arrow
  millrace training user_activity item_activity --spine pairs.csv --known-at latest --out t.csv";

pub(super) const IMPORT: &str = "\
The rows of all files are merged in the order in which they were known, which they have to keep: a
file whose known_at goes back ends the import before that row. A row that was not known by now, or does
not say since when, is rejected like any other bad row. Facts that were published before are DUPLICATE,
and count from the instant stated here if that is earlier; so running an import again completes it.
Exits with 3 if facts were rejected or late.

What is read as known at an instant (get --known-at) changes by an import of what was known by then.

Formats: CSV with a header row, NDJSON, Parquet; CSV and NDJSON may be gzipped.

Examples:
  millrace import clicks=clicks.csv.gz profiles=profiles.parquet
  millrace import clicks=clicks.csv --known-at clicks=received_at
  millrace import clicks=2022.parquet clicks=2023.parquet -o json
  my-export | millrace import clicks=- --producer export-2026-03-01 --format ndjson";

pub(super) const PARITY: &str = "\
Reads sampled entities online, then makes the same values from the log, as known when each was
answered. They are equal, or something is broken: then it lists what differs and exits with 1.

Examples:
  millrace parity                                   1,000 entities of every view
  millrace parity user_activity --sample 50000 --seed 7";

pub(super) const GET: &str = "\
Windows end just before the instant of the read. History read at `now` has empty windows: ask
--at latest or at an instant of its time.

Examples:
  millrace get user_activity 42
  millrace get user_activity 42 43 --at latest --features clicks_1h,country
  millrace get user_activity 42 --at 2026-03-01T12:00:00Z --known-at 2026-03-01T13:00:00Z
  millrace get user_item 42,B007                    A composite key
  millrace get user_item -- -42,B007                One that begins with a minus";

pub(super) const EXPLAIN: &str = "\
Lists the events counted and the versions they meet, and every other fact of the streams that the
feature reads with the reason it does not count. Computed from the log, as known at --known-at.

Examples:
  millrace explain user_activity 42 clicks_1h
  millrace explain user_activity 42 gold_clicks_7d --at 2026-03-01T12:00:00Z
  millrace explain user_activity 42 spend_30d --at latest -o json | jq '.left_out_totals'
  millrace explain user_activity 42 spend_30d --known-at 2026-03-01T13:00:00Z --limit 1000";

pub(super) const TAIL: &str = "\
One JSON object a line: rows that appear (\"op\":\"+\") and disappear (\"-\"), and watermarks (\"w\"), which
make the rows before them final. The cursor of any record is where to resume.

Examples:
  millrace tail user_activity
  millrace tail user_activity --until-idle | jq -c 'select(.op == \"+\") | .row'
  millrace tail user_activity --from CURSOR         Go on after a record";

pub(super) const LATE: &str = "\
Facts more than `repair` behind the watermark are LATE where their stream says
`beyond_repair: hold`: kept in the log, and in no value until they are replayed. A replay passes
over what is in effect, so a second one changes nothing.

Examples:
  millrace late list clicks
  millrace late list clicks --pending -o json | jq '.facts[].id'
  millrace late list clicks --limit 100 --cursor CURSOR
  millrace late replay clicks";

pub(super) const ERASE: &str = "\
For good: the entity's facts are taken out of the log and out of the entities that share them, those
are rebuilt, and facts that name it later are REJECTED. Its kind and key stay known, so that they can be.
The same command again shows the receipt.

Examples:
  millrace erase user 42
  millrace erase store_item 7,85123A -o json";

pub(super) const STATUS: &str = "\
Exits with 0 only when every service takes calls and every slot has an owner.

Examples:
  millrace status
  millrace status --slots -o csv
  until millrace status -o json > /dev/null; do sleep 1; done";

pub(super) const DOCTOR: &str = "\
Reads every chunk, head, page, mark and row, and says of each that is damaged or missing what to do.
Nothing in the folder is changed: journals are copied to the folder for temporary files, where they
take a few hundred MiB at the most. Exits with 1 if something is wrong.

With --cql it looks at a database instead, and with --redis at a Redis beside it: nodes, commit logs,
clocks, copies, whose the keyspace is, leases, slots without owner, sealed epochs, how Redis keeps what it
holds. A line each says ok, warn or fail, and what to do. Services may run; nothing is written or made,
also with --cql-create. Exits with 1 if something fails.

Examples:
  millrace doctor --data /var/lib/millrace
  millrace doctor -o json | jq '.checks[].problems[]'
  millrace doctor --cql 10.0.0.1:9042 --cql-keyspace millrace --redis redis://10.0.0.9:6379
  millrace doctor --config store-writer.toml -o json | jq '.checks[] | select(.state != \"ok\")'";

pub(super) const BENCH: &str = "\
Examples:
  millrace bench clickprofile
  millrace bench clickprofile --events 200000 --keys uniform -o json
  millrace bench training --spine-times 5           A set of 10 million rows";

pub(super) const BENCH_CLUSTER: &str = "\
Starts two of each service as processes of its own, on the loopback address, and ends them when it ends.
Their keyspace is a new one unless --cql-keyspace names it; it is made with one copy in datacenter1 unless
--cql-create says otherwise, and it is left: drop it when you have seen enough. Windows in Redis expire.

Examples:
  cargo xtask cluster servers                       Starts a Cassandra and a Redis, says where
  millrace bench cluster --cql 127.0.0.1:9042 --redis redis://127.0.0.1:6379
  MILLRACE_CQL=db:9042 MILLRACE_REDIS=redis://cache:6379 millrace bench cluster --events 200000 -o json";

pub(super) const COMPLETIONS: &str = "\
Examples:
  millrace completions bash > ~/.local/share/bash-completion/completions/millrace
  millrace completions zsh > ~/.zfunc/_millrace
  millrace completions fish > ~/.config/fish/completions/millrace.fish";
