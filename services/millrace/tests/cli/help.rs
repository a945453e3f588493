use crate::process::{millrace, run};

/// The page is written down: what changes in it is seen in review.
#[tokio::test]
async fn help_is_the_written_page() {
    let ran = run(millrace(&["--help"])).await;
    assert_eq!(ran.code, 0);
    let page = include_str!("help.txt");
    assert!(ran.stdout == page, "tests/cli/help.txt is not what is printed:\n{}", ran.stdout);
}

#[tokio::test]
async fn wrong_usage_ends_with_2_and_says_so_on_standard_error() {
    for arguments in [&["git"][..], &[], &["get"], &["publish", "clicks"], &["-o", "xml", "status"]]
    {
        let ran = run(millrace(arguments)).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(ran.stderr.contains("--help") || ran.stderr.contains("Usage:"), "{}", ran.stderr);
    }
}

#[tokio::test]
async fn shells_get_their_completions() {
    for (shell, mark) in
        [("bash", "complete -F"), ("zsh", "#compdef millrace"), ("fish", "complete -c millrace")]
    {
        let ran = run(millrace(&["completions", shell])).await;
        assert_eq!(ran.code, 0);
        assert!(ran.stdout.contains(mark), "{shell}");
    }
    let version = run(millrace(&["--version"])).await;
    assert_eq!(version.stdout, format!("millrace {}\n", env!("CARGO_PKG_VERSION")));
}
