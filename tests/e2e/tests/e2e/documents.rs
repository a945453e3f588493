//! The README, followed word by word in an empty folder.

use std::fs;

use millrace_e2e_tests::{BlockKind, Walk, blocks, repository_root};

#[test]
fn the_readme_can_be_followed_word_by_word() {
    let text = fs::read_to_string(repository_root().join("README.md")).expect("a README");
    let blocks = blocks(&text).expect("a README whose blocks can be followed");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let mut walk = Walk::start(folder.path(), scratch.path()).expect("a shell");
    let mut typed = 0;
    for block in blocks {
        match block.kind {
            BlockKind::File { name, text } => {
                let path = folder.path().join(name);
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).expect("a folder can be made");
                }
                fs::write(path, text).expect("a file can be written");
            }
            BlockKind::Console(commands) => {
                for command in commands {
                    let followed = walk.follow(&command);
                    followed.unwrap_or_else(|error| {
                        panic!("README.md, line {}: {error}", command.line)
                    });
                    typed += 1;
                }
            }
            BlockKind::Skipped(reason) => assert!(!reason.is_empty(), "line {}", block.line),
        }
    }
    assert!(typed >= 3, "the README shows how to start: only {typed} commands");
}

/// Without this, a walk that never compares anything would look the same.
#[test]
fn a_walk_notices_what_a_document_gets_wrong() {
    let document = "```console\n\
        $ printf 'one\\ntwo\\n'\none\ntwo\n\
        $ sh -c 'read line < fifo; echo heard $line' &\nheard …\n\
        $ cat > made.txt <<'END'\n$ three\nEND\n\
        $ cat made.txt\n$ three\n\
        $ echo one\ntwo\n\
        $ false\n\
        $ export NAME=kept\n\
        $ echo $NAME\nkept\n```\n";
    // The fourth command's output starts like a command and so is one, which is not there.
    let expected = [true, true, true, true, false, false, false, true, true];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let scratch = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("fifo"), "a word\n").expect("a file can be written");
    let mut walk = Walk::start(folder.path(), scratch.path()).expect("a shell");
    let blocks = blocks(document).expect("in order");
    let BlockKind::Console(commands) = &blocks[0].kind else { panic!("{blocks:?}") };
    let followed: Vec<bool> = commands.iter().map(|c| walk.follow(c).is_ok()).collect();
    let texts: Vec<&str> = commands.iter().map(|command| command.text.as_str()).collect();
    assert_eq!(followed, expected, "{texts:?}");
}
