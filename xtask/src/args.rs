//! The command line of `cargo xtask`.

use crate::stage::Stage;

/// What `cargo xtask help` prints.
pub(crate) const USAGE: &str = "\
The developer's commands of Millrace.

  cargo xtask test [--real-data] [--cases N] [--only STAGE]
      Runs every check, in this order, and ends with a table of them:
        tools    fetches crates, grpcurl and the Python client's packages
        format   cargo fmt --check
        lint     cargo clippy, warnings denied
        build    everything, the `millrace` binary included
        test     unit, property, conformance, architecture and end-to-end tests
        doctest  the examples in the docs
        doc      cargo doc, warnings denied
      --real-data  the real data sets must be there (found through MILLRACE_DATA,
                   default ../shared/data); without it their tests say that they are left out
      --cases N    cases of each property test (default: what each test sets)
      --only STAGE this stage and what it needs

  cargo xtask ci
      The same as `cargo xtask test --real-data`.

  cargo xtask help";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Print [`USAGE`].
    Help,
    /// Run the checks.
    Test(TestOptions),
}

/// How to run the checks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TestOptions {
    /// Fail where a real data set is missing.
    pub(crate) real_data: bool,
    /// Cases of each property test.
    pub(crate) cases: Option<u64>,
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
        Some(other) => Err(format!("there is no command `{other}`")),
    }
}

fn test_options(mut args: impl Iterator<Item = String>) -> Result<Request, String> {
    let mut options = TestOptions::default();
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--real-data" => options.real_data = true,
            "--cases" => {
                let text = value()?;
                let cases = text.replace('_', "").parse().ok().filter(|n| *n > 0);
                let rule = || format!("--cases takes a positive number, got `{text}`");
                options.cases = Some(cases.ok_or_else(rule)?);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_are_read() {
        let options =
            TestOptions { real_data: true, cases: Some(1_000_000), only: Some(Stage::Lint) };
        assert_eq!(
            parsed("test --cases 1_000_000 --real-data --only lint"),
            Ok(Request::Test(options))
        );
        assert_eq!(parsed("ci"), parsed("test --real-data"));
        assert_eq!(parsed(""), Ok(Request::Help));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, named) in [
            ("tset", "tset"),
            ("test --fast", "--fast"),
            ("test --cases", "--cases"),
            ("test --cases 0", "`0`"),
            ("test --only compile", "tools, format"),
            ("ci --cases 3", "--cases"),
        ] {
            let message = parsed(line).expect_err(line);
            assert!(message.contains(named), "{line}: {message}");
        }
    }
}
