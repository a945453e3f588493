//! The command line of `cargo xtask`.

use crate::cluster::{Action, EACH_MAX, Plan};
use crate::stage::Stage;

/// What `cargo xtask help` prints.
pub(crate) const USAGE: &str = "\
The developer's commands of Millrace.

  cargo xtask test [--real-data] [--overnight] [--cases N] [--kills N] [--fuzz-seconds N]
                   [--seed S] [--only STAGE]
      Runs every check, in this order, and ends with a table of them:
        tools    fetches crates, grpcurl and the Python client's packages
        format   cargo fmt --check
        lint     cargo clippy, warnings denied
        build    everything, the `millrace` binary included
        test     unit, property, conformance, architecture and end-to-end tests
        doctest  the examples in the docs
        cluster  `cluster up`, facts in, features out, `kill join-0`, `start join-0`, all there,
                 `cluster down`; the same on `--store cql` with traces in place of the kill
        compose  docker-compose reads the compose files
        doc      cargo doc, warnings denied
        fuzz     every decoder of what comes from outside, under libFuzzer
      --real-data  the real data sets must be there (found through MILLRACE_DATA,
                   default ../shared/data); without it their tests say that they are left out
      --overnight  the tests too whose names end in `overnight`: what a cluster does as one
                   process does it, and real data on it in every order
      --cases N    cases of each property test (default: what each test sets)
      --kills N    kills of processes under fire, in the end-to-end tests (default: 8)
      --fuzz-seconds N  how long each fuzz target runs (default: 5, with --real-data 60)
      --seed S     the seed of the first property case, of the kills and of the fuzz targets
                   (default: 1)
      --only STAGE this stage and what it needs

  cargo xtask ci
      The same as `cargo xtask test --real-data`.

  cargo xtask cluster up [--store embedded|cql] [--ingest N] [--join N] [--store-writer N]
                         [--serving N] [--cassandra 1|3]
      Starts the services as processes of their own on loopback, N of each (default: 1), waits
      until they are ready, and writes target/cluster/cluster.json: what the command line needs in
      its environment to reach them, and the processes by name.
      --store embedded  on an empty folder, with one store-writer (the default)
      --store cql       on a Cassandra and a Redis that it starts, traced in a Jaeger, all of which
                        `down` ends; where they are is in cluster.json too
      --cassandra 3     of three nodes, each with all of it, of which one may be gone
  cargo xtask cluster servers [--cassandra 1|3]
      Starts the Cassandra, the Redis and the Jaeger alone, and says where they are: for
      `millrace bench cluster` and services of one's own.
  cargo xtask cluster kill NAME
      Ends one with SIGKILL, such as join-0.
  cargo xtask cluster start NAME
      Starts it again, on the same port and folder, and waits until it is ready.
  cargo xtask cluster down
      Ends exactly what `up` and `start` started.

  cargo xtask compose
      Runs docker-compose.yml as root where no registry is within reach: on images made here, with
      Cassandra in ScyllaDB's place; puts facts in, reads features back, and takes all of it down.
      The first time it makes the images, in some minutes; then it takes one.

  cargo xtask help";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Print [`USAGE`].
    Help,
    /// Run the checks.
    Test(TestOptions),
    /// Start and end services on this machine.
    Cluster(Action),
    /// Run docker-compose.yml with stand-ins.
    Compose,
}

/// How to run the checks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TestOptions {
    /// Fail where a real data set is missing.
    pub(crate) real_data: bool,
    /// Run the tests that are left for the night too.
    pub(crate) overnight: bool,
    /// Cases of each property test.
    pub(crate) cases: Option<u64>,
    /// Kills of the tests that kill processes.
    pub(crate) kills: Option<u64>,
    /// How long each fuzz target runs.
    pub(crate) fuzz_seconds: Option<u64>,
    /// Where random tests begin.
    pub(crate) seed: Option<u64>,
    /// Only this stage and what it needs.
    pub(crate) only: Option<Stage>,
}

/// Parses the arguments after `cargo xtask`.
///
/// # Errors
///
/// Says what is wrong when a command, flag or value is unknown or missing.
pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Request, String> {
    match args.next().as_deref() {
        None | Some("help" | "-h" | "--help") => Ok(Request::Help),
        Some("test") => test_options(args),
        Some("ci") => match args.next() {
            None => Ok(Request::Test(TestOptions { real_data: true, ..TestOptions::default() })),
            Some(extra) => Err(format!("`ci` takes no argument, got `{extra}`")),
        },
        Some("cluster") => cluster_action(args),
        Some("compose") => match args.next() {
            None => Ok(Request::Compose),
            Some(extra) => Err(format!("`compose` takes no argument, got `{extra}`")),
        },
        Some(other) => Err(format!("there is no command `{other}`")),
    }
}

fn cluster_action(mut args: impl Iterator<Item = String>) -> Result<Request, String> {
    let action = args.next();
    let mut name = |what: &str| args.next().ok_or_else(|| format!("`cluster {what}` needs a name"));
    let action = match action.as_deref() {
        Some("up") => return cluster_up(args).map(|plan| Request::Cluster(Action::Up(plan))),
        Some("servers") => {
            return cluster_servers(args).map(|plan| Request::Cluster(Action::Up(plan)));
        }
        Some("kill") => Action::Kill(name("kill")?),
        Some("start") => Action::Start(name("start")?),
        Some("down") => Action::Down,
        Some(other) => return Err(format!("`cluster` has no command `{other}`")),
        None => {
            return Err("`cluster` needs a command: up, servers, kill, start or down".to_owned());
        }
    };
    match args.next() {
        None => Ok(Request::Cluster(action)),
        Some(extra) => Err(format!("`cluster` does not take `{extra}` here")),
    }
}

fn cluster_servers(mut args: impl Iterator<Item = String>) -> Result<Plan, String> {
    let mut plan = Plan::of_servers();
    while let Some(flag) = args.next() {
        match flag.as_str() {
            "--cassandra" => {
                let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
                plan.cassandra = nodes(&value)?;
            }
            _ => return Err(format!("`cluster servers` does not take `{flag}`")),
        }
    }
    Ok(plan)
}

/// Nodes of Cassandra.
fn nodes(value: &str) -> Result<u8, String> {
    match value {
        "1" => Ok(1),
        "3" => Ok(3),
        other => Err(format!("--cassandra takes 1 or 3, got `{other}`")),
    }
}

fn cluster_up(mut args: impl Iterator<Item = String>) -> Result<Plan, String> {
    let mut plan = Plan::default();
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value"));
        let count = match flag.as_str() {
            "--store" => {
                plan.is_cql = match value()?.as_str() {
                    "embedded" => false,
                    "cql" => true,
                    other => {
                        return Err(format!("--store takes `embedded` or `cql`, got `{other}`"));
                    }
                };
                continue;
            }
            "--ingest" => &mut plan.ingest,
            "--join" => &mut plan.join,
            "--store-writer" => &mut plan.store_writer,
            "--serving" => &mut plan.serving,
            "--cassandra" => {
                plan.cassandra = nodes(&value()?)?;
                continue;
            }
            _ => return Err(format!("`cluster` does not take `{flag}` here")),
        };
        *count = positive(&flag, &value()?)?;
        if *count > EACH_MAX {
            return Err(format!("{flag} takes at most {EACH_MAX}"));
        }
    }
    if plan.store_writer > 1 && !plan.is_cql {
        return Err("--store-writer: several need --store cql, where they share a database".into());
    }
    if plan.cassandra > 1 && !plan.is_cql {
        return Err("--cassandra: nodes need --store cql".into());
    }
    Ok(plan)
}

fn test_options(mut args: impl Iterator<Item = String>) -> Result<Request, String> {
    let mut options = TestOptions::default();
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--real-data" => options.real_data = true,
            "--overnight" => options.overnight = true,
            "--cases" => options.cases = Some(positive(&flag, &value()?)?),
            "--kills" => options.kills = Some(positive(&flag, &value()?)?),
            "--fuzz-seconds" => options.fuzz_seconds = Some(positive(&flag, &value()?)?),
            "--seed" => options.seed = Some(positive(&flag, &value()?)?),
            "--only" => {
                let name = value()?;
                let rule = || format!("there is no stage `{name}`; stages: {}", Stage::names());
                options.only = Some(Stage::named(&name).ok_or_else(rule)?);
            }
            "-h" | "--help" => return Ok(Request::Help),
            _ => return Err(format!("`test` has no flag `{flag}`")),
        }
    }
    Ok(Request::Test(options))
}

fn positive(flag: &str, text: &str) -> Result<u64, String> {
    let number = text.replace('_', "").parse().ok().filter(|n| *n > 0);
    number.ok_or_else(|| format!("{flag} takes a positive number, got `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_are_read() {
        let options = TestOptions {
            real_data: true,
            overnight: true,
            cases: Some(1_000_000),
            kills: Some(1_000),
            fuzz_seconds: Some(3_600),
            seed: Some(7),
            only: Some(Stage::Lint),
        };
        let line = "test --cases 1_000_000 --kills 1000 --fuzz-seconds 3600 --seed 7 --real-data \
                    --overnight --only lint";
        assert_eq!(parsed(line), Ok(Request::Test(options)));
        assert_eq!(parsed("ci"), parsed("test --real-data"));
        assert_eq!(parsed(""), Ok(Request::Help));
        let kill = Action::Kill("join-0".to_owned());
        assert_eq!(parsed("cluster kill join-0"), Ok(Request::Cluster(kill)));
        assert_eq!(parsed("cluster up --store embedded"), parsed("cluster up"));
        let plan =
            Plan { is_cql: true, cassandra: 3, ingest: 2, join: 3, store_writer: 2, serving: 1 };
        let line = "cluster up --store cql --ingest 2 --join 3 --store-writer 2 --cassandra 3";
        assert_eq!(parsed(line), Ok(Request::Cluster(Action::Up(plan))));
        let plan = Plan { cassandra: 3, ..Plan::of_servers() };
        let line = "cluster servers --cassandra 3";
        assert_eq!(parsed(line), Ok(Request::Cluster(Action::Up(plan))));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, named) in [
            ("tset", "tset"),
            ("test --fast", "--fast"),
            ("test --cases", "--cases"),
            ("test --cases 0", "`0`"),
            ("test --kills many", "`many`"),
            ("test --only compile", "tools, format"),
            ("ci --cases 3", "--cases"),
            ("compose now", "`now`"),
            ("cluster", "up, servers, kill, start or down"),
            ("cluster servers --join 1", "--join"),
            ("cluster servers --cassandra 2", "`2`"),
            ("cluster kill", "name"),
            ("cluster up --store tape", "`tape`"),
            ("cluster up --join 0", "`0`"),
            ("cluster up --join 99", "at most"),
            ("cluster up --store-writer 2", "--store cql"),
            ("cluster up --store cql --cassandra 2", "`2`"),
            ("cluster up --cassandra 3", "--store cql"),
            ("cluster down now", "`now`"),
        ] {
            let message = parsed(line).expect_err(line);
            assert!(message.contains(named), "{line}: {message}");
        }
    }
}
