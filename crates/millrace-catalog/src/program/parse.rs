//! From text to program: CEL's syntax by the crate `cel`, its errors in our words.

use std::sync::Arc;

use cel::parser::{ParseError, Parser};

use super::check::Checker;
use super::{Program, Scope};
use crate::diagnostic::Rule;
use crate::limits::WHERE_BYTES_MAX;

/// What is wrong with an expression.
#[derive(Debug)]
pub(crate) struct Problem {
    /// Where, in characters from the start of the expression.
    pub(crate) at: usize,
    pub(crate) rule: Rule,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

/// Parses, checks and lowers an expression. `patterns_left` is how many `matches` the catalog may
/// still hold. `Ok(None)` when something it refers to was reported elsewhere.
pub(crate) fn compile(
    text: &str,
    scope: &Scope<'_>,
    patterns_left: &mut usize,
) -> Result<Option<Program>, Vec<Problem>> {
    if text.len() > WHERE_BYTES_MAX {
        let message = format!(
            "the expression takes {} bytes; at most {WHERE_BYTES_MAX} are allowed",
            text.len()
        );
        return Err(vec![Problem { at: 0, rule: Rule::Limit, message, help: None }]);
    }
    // The parser cancels two minus signs out, but −(−x) is U for the least int64.
    if let Some(at) = doubled_minus(text) {
        return Err(vec![Problem {
            at,
            rule: Rule::WhereUnsupported,
            message: "two minus signs in a row are not supported".to_owned(),
            help: Some("write one of them in parentheses, as in `-(-x)`".to_owned()),
        }]);
    }
    let (ast, info) = Parser::new().parse_with_source_info(text).map_err(|errors| {
        // The parser goes on after an error, but what it finds then is mostly an echo.
        errors.errors.first().map(|e| syntax_problem(text, e)).into_iter().collect::<Vec<_>>()
    })?;
    let mut checker = Checker::new(scope, text, &info, patterns_left);
    let root = checker.condition(&ast);
    let (problems, reads) = checker.finish();
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(root.map(|root| Program { root, reads, source: Arc::from(text) }))
}

fn syntax_problem(text: &str, error: &ParseError) -> Problem {
    let (line, column) = (error.pos.0.max(1) as usize, error.pos.1.max(1) as usize);
    let before: usize = text.split_inclusive('\n').take(line - 1).map(|l| l.chars().count()).sum();
    let at = before + column - 1;
    if error.msg.contains("Recursion limit") {
        let message = "the expression nests too deep".to_owned();
        return Problem { at: 0, rule: Rule::Limit, message, help: None };
    }
    let message = reworded(error.msg.trim_start_matches("Syntax error: "));
    // CEL's operators are not those of SQL; these are the slips one makes.
    let word: String = text.chars().skip(at).take_while(|c| !c.is_whitespace()).collect();
    let help = match word.to_ascii_lowercase().as_str() {
        "=" => Some("write `==` to compare"),
        "<>" => Some("write `!=`"),
        "and" | "&" => Some("write `&&`"),
        "or" | "|" => Some("write `||`"),
        "not" | "is" | "like" | "between" => Some("conditions are CEL, not SQL"),
        _ => None,
    };
    Problem { at, rule: Rule::WhereSyntax, message, help: help.map(str::to_owned) }
}

/// The parser's message without its jargon and its list of all that could have come instead.
fn reworded(message: &str) -> String {
    let message = message.split(" expecting ").next().unwrap_or(message);
    let unexpected = [
        "token recognition error at: ",
        "extraneous input ",
        "mismatched input ",
        "no viable alternative at input ",
    ]
    .iter()
    .find_map(|prefix| message.strip_prefix(prefix));
    match unexpected {
        Some(_) if message.contains("<EOF>") => "the expression ends too early".to_owned(),
        Some(found) if found.starts_with("''") || found.starts_with("'\"") => {
            "a text is not closed, or holds an unknown escape".to_owned()
        }
        Some(found) => format!("unexpected {found}"),
        None => message.to_owned(),
    }
}

/// The place, in characters, of the second of two unary minus signs in a row.
fn doubled_minus(text: &str) -> Option<usize> {
    let chars: Vec<char> = text.chars().collect();
    let (mut operand, mut unary) = (false, false);
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        if c == '-' && !operand && unary {
            return Some(i);
        }
        if c.is_whitespace() {
            i += 1;
        } else if c == '/' && chars.get(i + 1) == Some(&'/') {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if c == '\'' || c == '"' {
            let raw = i > 0 && matches!(chars[i - 1], 'r' | 'R');
            i = string_end(&chars, i, raw);
            (operand, unary) = (true, false);
        } else if c.is_alphanumeric() || c == '_' {
            let start = i;
            while i < chars.len() && (chars[i].is_alphanumeric() || chars[i] == '_') {
                i += 1;
            }
            (operand, unary) = (chars[start..i] != ['i', 'n'], false);
        } else {
            unary = c == '-' && !operand;
            operand = matches!(c, ')' | ']' | '}');
            i += 1;
        }
    }
    None
}

/// The index behind the string that starts with the quote at `start`.
fn string_end(chars: &[char], start: usize, raw: bool) -> usize {
    let quote = chars[start];
    let triple = chars[start..].starts_with(&[quote; 3]);
    let width = if triple { 3 } else { 1 };
    let mut i = start + width;
    while i < chars.len() {
        if chars[i] == '\\' && !raw {
            i += 2;
        } else if chars[i] == quote && (!triple || chars[i..].starts_with(&[quote; 3])) {
            return i + width;
        } else {
            i += 1;
        }
    }
    chars.len()
}

#[cfg(test)]
mod tests {
    use super::doubled_minus;

    #[test]
    fn doubled_minus_signs_are_found_outside_strings() {
        for text in
            ["--a", "1 + - -a", "a == - // x\n -b", "a - - - b", "x in [--1]", "'-' == - -a"]
        {
            assert!(doubled_minus(text).is_some(), "{text}");
        }
        for text in [
            "a - -b",
            "a--b",
            "-(-a)",
            "'--' == a",
            "a // --\n",
            "r'\\' == a - -1",
            "''' ' --''' == a",
            "f(a) - -b",
        ] {
            assert_eq!(doubled_minus(text), None, "{text}");
        }
    }
}
