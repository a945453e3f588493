//! The stages of `cargo xtask test` and what each needs.

/// A stage. They run in the order in which they stand here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Crates, grpcurl and the Python client's packages.
    Tools,
    /// `cargo fmt --check`.
    Format,
    /// Clippy with warnings denied.
    Lint,
    /// Everything, tests included, in the profile the tests use.
    Build,
    /// Every test but the doc tests.
    Test,
    /// Doc tests.
    DocTest,
    /// `cargo xtask cluster`, on the embedded store, and on Cassandra and Redis.
    Cluster,
    /// The compose files, read by docker-compose; running them is `cargo xtask compose`.
    Compose,
    /// Documentation with warnings denied.
    Doc,
    /// Every fuzz target under libFuzzer for a while.
    Fuzz,
}

impl Stage {
    /// Every stage in order.
    pub(crate) const ALL: [Self; 10] = [
        Self::Tools,
        Self::Format,
        Self::Lint,
        Self::Build,
        Self::Test,
        Self::DocTest,
        Self::Cluster,
        Self::Compose,
        Self::Doc,
        Self::Fuzz,
    ];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Format => "format",
            Self::Lint => "lint",
            Self::Build => "build",
            Self::Test => "test",
            Self::DocTest => "doctest",
            Self::Cluster => "cluster",
            Self::Compose => "compose",
            Self::Doc => "doc",
            Self::Fuzz => "fuzz",
        }
    }

    /// The stage with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }

    /// Every name, for messages.
    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// The stages without which it cannot run. A stage that only reports (format, lint, doc) is
    /// needed by nothing: its failure does not keep the tests from running.
    pub(crate) fn needs(self) -> &'static [Self] {
        match self {
            Self::Tools
            | Self::Format
            | Self::Lint
            | Self::Build
            | Self::Compose
            | Self::Doc
            | Self::Fuzz => &[],
            Self::Test | Self::Cluster => &[Self::Tools, Self::Build],
            Self::DocTest => &[Self::Build],
        }
    }
}
