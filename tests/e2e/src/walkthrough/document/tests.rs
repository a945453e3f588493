use super::*;

fn console(document: &str) -> Vec<Command> {
    match blocks(document).expect("in order").remove(0).kind {
        BlockKind::Console(commands) => commands,
        BlockKind::File { .. } | BlockKind::Skipped(_) => panic!("not a console block"),
    }
}

fn texts(document: &str) -> Vec<String> {
    console(document).into_iter().map(|command| command.text).collect()
}

#[test]
fn commands_and_what_they_print_are_told_apart() {
    let commands = console("Text.\n\n```console\n$ a b\none\ntwo\n$ c\n```\n");
    assert_eq!(commands[0].line, 4);
    assert_eq!(commands[0].text, "a b");
    assert_eq!(commands[0].shown, ["one", "two"]);
    assert_eq!((commands[1].text.as_str(), commands[1].shown.len()), ("c", 0));
}

#[test]
fn commands_of_several_lines_stay_together() {
    assert_eq!(
        texts("```console\n$ a \\\n    b\n$ c\n```"),
        ["a \\\n    b".to_owned(), "c".to_owned()]
    );
    assert_eq!(
        texts("```console\n$ cat > f <<'END'\n$ not a command\n> quoted\nEND\n$ c\n```"),
        ["cat > f <<'END'\n$ not a command\nquoted\nEND".to_owned(), "c".to_owned()]
    );
    assert_eq!(
        texts("```console\n$ a '{\n  b: \"it\"}' c # isn't\nout\n$ d\n```"),
        ["a '{\n  b: \"it\"}' c # isn't".to_owned(), "d".to_owned()]
    );
    assert_eq!(
        texts("```console\n$ for i in 1; do\n> a\n> done\nout\n```"),
        ["for i in 1; do\na\ndone".to_owned()]
    );
}

#[test]
fn directives_hold_for_the_next_block_only() {
    let document = "<!-- file: c.yaml -->\n```yaml\na: 1\n```\n\n<!-- walk: exit 3 -->\n\
        ```console\n$ a\nout\n```\n<!-- walk: output varies -->\n```console\n$ b\nout\n```\n\
        <!-- walk: skip, it needs a cluster -->\n```sh\nc\n```\n<!-- walk: exit 3 -->\nProse.\n\
        ```console\n$ d\n```\n```yaml\nb: 2\n```\n";
    let blocks = blocks(document).expect("in order");
    let command = |line, text: &str, shown: &[&str], code| {
        BlockKind::Console(vec![Command {
            line,
            text: text.to_owned(),
            shown: shown.iter().map(|line| (*line).to_owned()).collect(),
            code,
        }])
    };
    let kinds: Vec<_> = blocks.into_iter().map(|block| block.kind).collect();
    assert_eq!(
        kinds,
        [
            BlockKind::File { name: "c.yaml".to_owned(), text: "a: 1\n".to_owned() },
            command(8, "a", &["out"], 3),
            command(13, "b", &[], 0),
            BlockKind::Skipped("it needs a cluster".to_owned()),
            command(23, "d", &[], 0),
        ]
    );
}

#[test]
fn what_would_silently_not_be_followed_is_an_error() {
    for document in [
        "```bash\nmillrace demo\n```",
        "```console\n$ a\n",
        "```console\nout\n$ a\n```",
        "<!-- walk: exit x -->\n```console\n$ a\n```",
        "<!-- walk: sometimes -->\n```console\n$ a\n```",
    ] {
        assert!(blocks(document).is_err(), "{document}");
    }
}

#[test]
fn shown_lines_must_be_printed_in_order() {
    let output = "view  user_activity\nkey | clicks\n42  |      3\ndone in 1.25 s\n";
    let shown = |lines: &[&str]| lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
    for lines in [
        &["view user_activity", "42 | 3"][..],
        &["done in … s"],
        &["done in ... s"],
        &["…", "42 | …"],
        &["v…_…y"],
        &[],
    ] {
        assert_eq!(mentions(output, &shown(lines)), Ok(()), "{lines:?}");
    }
    for lines in [
        &["42 | 4"][..],
        &["42 | 3", "view user_activity"],
        &["user_activity"],
        &["done in … ms"],
        &["view … view"],
    ] {
        assert!(mentions(output, &shown(lines)).is_err(), "{lines:?}");
    }
}
