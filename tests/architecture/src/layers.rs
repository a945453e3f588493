//! The arrows of the layout: which crate may depend on which.

use crate::{Dependency, DependencyKind, Graph, Package, Violation};

/// The crates that know no runtime, no wire, no driver and no clock.
pub const PURE_CRATES: [&str; 4] =
    ["millrace-types", "millrace-catalog", "millrace-kernel", "millrace-placement"];

/// What a pure crate must not reach, by the start of the package's name.
const IMPURE: [&str; 9] =
    ["tokio", "tonic", "hyper", "redis", "scylla", "opentelemetry", "prometheus", "fjall", "mio"];

/// The only crate that may name a store's driver, or an exporter.
const ADAPTERS: [(&str, &str); 7] = [
    ("opentelemetry_sdk", "millrace-telemetry"),
    ("opentelemetry-otlp", "millrace-telemetry"),
    ("opentelemetry-prometheus", "millrace-telemetry"),
    ("prometheus", "millrace-telemetry"),
    ("fjall", "millrace-store-fjall"),
    ("scylla", "millrace-store-scylla"),
    ("redis", "millrace-store-redis"),
];

/// The layers from the bottom up. A crate depends on layers below its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Types,
    Pure,
    Interfaces,
    Adapters,
    Services,
    Composition,
    Tests,
}

impl Layer {
    /// `None` for a crate that nobody has given a place yet.
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "millrace-types" => Self::Types,
            "millrace-catalog" | "millrace-kernel" | "millrace-placement" => Self::Pure,
            "millrace-arrow" | "millrace-proto" | "millrace-store" => Self::Interfaces,
            "millrace-store-fjall"
            | "millrace-store-scylla"
            | "millrace-store-redis"
            | "millrace-grpc"
            | "millrace-telemetry"
            | "millrace-config"
            | "millrace-client" => Self::Adapters,
            "millrace-ingest"
            | "millrace-join"
            | "millrace-store-writer"
            | "millrace-feature-serving" => Self::Services,
            "millrace" => Self::Composition,
            "millrace-test-servers"
            | "millrace-test-support"
            | "millrace-architecture-tests"
            | "millrace-parity-tests"
            | "millrace-property-tests"
            | "millrace-fuzz-tests"
            | "millrace-model-tests"
            | "millrace-e2e-tests"
            | "xtask" => Self::Tests,
            _ => return None,
        })
    }

    /// Whether crates of one layer may know each other. Services never do; the interface crates
    /// have nothing to say to each other; the others are kept free of cycles by cargo.
    fn may_know_its_own(self) -> bool {
        match self {
            Self::Pure | Self::Adapters | Self::Tests => true,
            Self::Types | Self::Interfaces | Self::Services | Self::Composition => false,
        }
    }
}

/// Normal and build dependencies point down, and no service knows another one.
#[must_use]
pub fn check_arrows(graph: &Graph) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in graph.members() {
        let Some(layer) = Layer::of(&package.name) else {
            let problem = "has no layer yet: give it one in tests/architecture/src/layers.rs";
            violations.push(Violation::new(&package.name, problem));
            continue;
        };
        for dependency in shipped(package) {
            let name = graph.name_of(dependency);
            // Packages of the registry have no layer; what of them is banned stands below.
            let Some(below) = Layer::of(name).filter(|_| is_member(graph, dependency)) else {
                continue;
            };
            if below > layer || (below == layer && !layer.may_know_its_own()) {
                let problem = format!("depends on {name}: {layer:?} must not know {below:?}");
                violations.push(Violation::new(&package.name, problem));
            }
        }
    }
    violations
}

/// Pure crates reach nothing impure, directly or through others.
#[must_use]
pub fn check_pure_crates(graph: &Graph) -> Vec<Violation> {
    let impure = |name: &str| IMPURE.iter().any(|banned| is_of_family(name, banned));
    let mut violations = Vec::new();
    for name in PURE_CRATES {
        match graph.members().find(|package| package.name == name) {
            None => violations.push(Violation::new(name, "is not in the workspace")),
            Some(package) => {
                if let Some(path) = graph.path_to(package, impure) {
                    let problem = format!("is pure but reaches {}", path.join(" -> "));
                    violations.push(Violation::new(name, problem));
                }
            }
        }
    }
    violations
}

/// A store's driver or an exporter is named by its adapter alone, in tests too.
#[must_use]
pub fn check_adapters(graph: &Graph) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in graph.members() {
        for dependency in &package.dependencies {
            for (driver, adapter) in ADAPTERS {
                if graph.name_of(dependency) == driver && package.name != adapter {
                    let problem = format!("names {driver}, which only {adapter} may");
                    violations.push(Violation::new(&package.name, problem));
                }
            }
        }
    }
    violations
}

/// xtask compiles before anything is fetched, so it has no dependencies.
#[must_use]
pub fn check_xtask(graph: &Graph) -> Vec<Violation> {
    let xtask = graph.members().filter(|package| package.name == "xtask");
    xtask
        .flat_map(shipped)
        .map(|dependency| {
            Violation::new("xtask", format!("depends on {}", graph.name_of(dependency)))
        })
        .collect()
}

/// What a crate is built of: not what only its tests need.
fn shipped(package: &Package) -> impl Iterator<Item = &Dependency> {
    package.dependencies.iter().filter(|dependency| match dependency.kind {
        DependencyKind::Normal | DependencyKind::Build => true,
        DependencyKind::Dev => false,
    })
}

fn is_member(graph: &Graph, dependency: &Dependency) -> bool {
    graph.packages.get(&dependency.on).is_some_and(|package| package.member)
}

/// `tokio` and `tokio-util` are of the family `tokio`; `miow` is not of the family `mio`.
fn is_of_family(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::places;

    /// A graph of edges `a -> b`, or `a -dev> b`; packages named millrace… or xtask are members.
    fn graph(edges: &str) -> Graph {
        let mut graph = Graph::default();
        let mut add = |name: &str| {
            graph.packages.entry(name.to_owned()).or_insert_with(|| Package {
                name: name.to_owned(),
                member: name.starts_with("millrace") || name == "xtask",
                dependencies: Vec::new(),
            });
        };
        let edges: Vec<_> = edges.lines().map(|l| l.split_whitespace().collect()).collect();
        for edge in edges.iter().filter(|edge: &&Vec<_>| !edge.is_empty()) {
            add(edge[0]);
            add(edge[2]);
        }
        for edge in edges.iter().filter(|edge| !edge.is_empty()) {
            let kind = match edge[1] {
                "->" => DependencyKind::Normal,
                "-dev>" => DependencyKind::Dev,
                "-build>" => DependencyKind::Build,
                other => panic!("{other} is no arrow"),
            };
            let from = graph.packages.get_mut(edge[0]).expect("added above");
            from.dependencies.push(Dependency { on: edge[2].to_owned(), kind });
        }
        graph
    }

    #[test]
    fn arrows_that_point_down_are_fine() {
        let graph = graph(
            "millrace -> millrace-ingest
             millrace -> millrace-join
             millrace-ingest -> millrace-client
             millrace-client -> millrace-grpc
             millrace-kernel -> millrace-catalog
             millrace-kernel -dev> millrace-test-support
             millrace-e2e-tests -> millrace",
        );
        assert_eq!(check_arrows(&graph), []);
    }

    #[test]
    fn arrows_that_point_up_or_between_services_are_found() {
        let graph = graph(
            "millrace-types -> millrace-kernel
             millrace-ingest -> millrace-join
             millrace-join -> millrace
             millrace-store -> millrace-proto
             millrace-proto -build> millrace-client
             millrace-client -> millrace-test-support
             millrace-novelty -> millrace-types",
        );
        let violations = check_arrows(&graph);
        assert_eq!(
            places(&violations),
            [
                "millrace-client",
                "millrace-ingest",
                "millrace-join",
                "millrace-novelty",
                "millrace-proto",
                "millrace-store",
                "millrace-types"
            ]
        );
    }

    #[test]
    fn impurity_is_found_at_any_distance_and_dev_dependencies_do_not_count() {
        let pure = "millrace-types -> xxhash-rust
             millrace-catalog -> millrace-types
             millrace-placement -> millrace-types
             millrace-kernel -dev> tokio
             xxhash-rust -> miow
             xxhash-rust -dev> tokio";
        assert_eq!(check_pure_crates(&graph(pure)), []);

        let impure = format!("{pure}\nmillrace-catalog -> cel\ncel -> tokio-util");
        let violations = check_pure_crates(&graph(&impure));
        assert_eq!(places(&violations), ["millrace-catalog"]);
        assert!(violations[0].problem.ends_with("millrace-catalog -> cel -> tokio-util"));
    }

    #[test]
    fn a_pure_crate_that_is_gone_is_reported() {
        let violations = check_pure_crates(&graph("millrace-types -> xxhash-rust"));
        assert_eq!(
            places(&violations),
            ["millrace-catalog", "millrace-kernel", "millrace-placement"]
        );
    }

    #[test]
    fn drivers_are_named_by_their_adapters_only() {
        let graph = graph(
            "millrace-store-fjall -> fjall
             millrace-join -dev> fjall
             millrace-ingest -> redis",
        );
        assert_eq!(places(&check_adapters(&graph)), ["millrace-ingest", "millrace-join"]);
    }

    #[test]
    fn xtask_has_no_dependencies() {
        assert_eq!(check_xtask(&graph("xtask -dev> tempfile")), []);
        assert_eq!(places(&check_xtask(&graph("xtask -> clap"))), ["xtask"]);
    }
}
