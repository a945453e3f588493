//! Every check on this workspace. The checks' own tests show that each can fail.

use millrace_architecture_tests::{
    Graph, SourceFile, Violation, check_adapters, check_arrows, check_machine_paths,
    check_manifest, check_proto, check_pure_crates, check_rust_file, check_size, check_xtask,
    read_sources, workspace_root,
};

#[track_caller]
fn assert_none(violations: impl IntoIterator<Item = Violation>) {
    let lines: Vec<_> = violations.into_iter().map(|violation| violation.to_string()).collect();
    assert!(lines.is_empty(), "{} broken rules:\n{}", lines.len(), lines.join("\n"));
}

fn sources() -> Vec<SourceFile> {
    read_sources(&workspace_root()).expect("the workspace can be read")
}

/// Fails instead of passing when there was nothing to look at.
#[track_caller]
fn sources_with(extension: &str) -> Vec<SourceFile> {
    let files: Vec<_> = sources().into_iter().filter(|f| f.has_extension(extension)).collect();
    assert!(!files.is_empty(), "no .{extension} file in {}", workspace_root().display());
    files
}

fn graph() -> Graph {
    let graph = Graph::of_workspace(&workspace_root()).expect("cargo tells the graph");
    assert!(graph.members().count() > 10, "cargo named hardly any member");
    graph
}

#[test]
fn arrows_point_down_and_services_do_not_know_each_other() {
    assert_none(check_arrows(&graph()));
}

#[test]
fn pure_crates_reach_no_runtime_wire_or_driver() {
    assert_none(check_pure_crates(&graph()));
}

#[test]
fn only_adapters_name_drivers() {
    assert_none(check_adapters(&graph()));
}

#[test]
fn xtask_depends_on_nothing() {
    assert_none(check_xtask(&graph()));
}

#[test]
fn members_take_their_lints_from_the_workspace() {
    let manifests = sources_with("toml").into_iter().filter(|f| f.path.ends_with("Cargo.toml"));
    assert_none(manifests.filter_map(|manifest| check_manifest(&manifest)));
}

#[test]
fn files_of_code_have_at_most_600_lines() {
    assert_none(sources().iter().filter_map(check_size));
}

#[test]
fn rust_files_keep_the_rules() {
    assert_none(sources_with("rs").iter().flat_map(check_rust_file));
}

#[test]
fn the_protocol_is_explained() {
    assert_none(sources_with("proto").iter().flat_map(check_proto));
}

#[test]
fn no_file_holds_a_path_of_a_machine() {
    assert_none(sources().iter().flat_map(check_machine_paths));
}
