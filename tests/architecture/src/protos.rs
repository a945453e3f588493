//! Every message, field, service, call and enum value of the protocol is explained where it stands.

use crate::{SourceFile, Violation};

/// Finds declarations without a comment on the lines above them or at their end.
#[must_use]
pub fn check_proto(file: &SourceFile) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut explained = false;
    // A declaration that goes on over several lines is explained at its first.
    let mut continued = false;
    for (index, line) in file.text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("//") {
            explained = true;
            continue;
        }
        let (code, comment) =
            line.split_once("//").map_or((line, false), |(code, _)| (code.trim_end(), true));
        if !continued && is_declaration(code) && !explained && !comment {
            let place = format!("{}:{}", file.path, index + 1);
            violations.push(Violation::new(place, format!("`{code}` has no comment")));
        }
        continued = !code.is_empty() && !code.ends_with([';', '{', '}']);
        explained = false;
    }
    violations
}

/// Whether a line opens or states something that a reader of the protocol meets.
fn is_declaration(code: &str) -> bool {
    let first = code.split_whitespace().next().unwrap_or("");
    match first {
        "message" | "service" | "enum" | "oneof" | "rpc" => true,
        // File-level statements, options, and the ends of blocks.
        "" | "syntax" | "package" | "import" | "option" | "reserved" | "extensions" | "}"
        | "};" => false,
        // Fields and enum values: `name = 1;`, `type name = 1;`, `map<a, b> name = 1 [...];`.
        _ => code.contains('='),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::places;

    fn check(text: &str) -> Vec<String> {
        let violations = check_proto(&SourceFile::for_test("a.proto", text));
        places(&violations).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn explained_declarations_are_fine() {
        let text = "syntax = \"proto3\";\npackage a.v1;\nimport \"b.proto\";\n\n\
            // A thing.\nmessage Thing {\n  // Its name.\n  // At most 9 bytes.\n  string name = 1;\n\
            \n  reserved 3;\n  int64 size = 2; // In bytes.\n}\n\
            // Calls.\nservice Calls {\n  // One.\n  rpc One(Thing)\n      returns (Thing);\n}\n";
        assert_eq!(check(text), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_declaration_needs_a_comment() {
        let text = "message Thing {\n  string name = 1;\n  oneof kind {\n    int64 a = 2;\n  }\n\
            \x20 map<string, int64> m = 3;\n}\n\
            service Calls {\n  rpc One(Thing) returns (Thing);\n}\nenum E {\n  E_UNSPECIFIED = 0;\n}\n";
        let lines: Vec<_> = [1, 2, 3, 4, 6, 8, 9, 11, 12].map(|n| format!("a.proto:{n}")).into();
        assert_eq!(check(text), lines);
    }

    #[test]
    fn a_comment_explains_one_declaration_only() {
        let text = "// A thing.\nmessage Thing {\n  // Both.\n  int64 a = 1;\n  int64 b = 2;\n}\n";
        assert_eq!(check(text), ["a.proto:5"]);
        assert_eq!(check("// Far away.\n\nmessage Thing {\n}\n"), ["a.proto:3"]);
    }
}
