//! Rust source without its comments and texts, so that a rule about code does not trip over prose.

/// Replaces comments and the contents of text and character literals by spaces. Lines stay where
/// they are.
#[must_use]
pub fn without_comments_and_text(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = end_of_comment(&chars, at).or_else(|| end_of_literal(&chars, at));
        match end {
            Some(end) => {
                out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
                at = end;
            }
            None => {
                out.push(chars[at]);
                at += 1;
            }
        }
    }
    out
}

/// Where the comment that starts at `at` ends, if one does.
fn end_of_comment(chars: &[char], at: usize) -> Option<usize> {
    match chars.get(at..at + 2)? {
        ['/', '/'] => {
            Some(chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |n| at + n))
        }
        ['/', '*'] => {
            // Block comments nest.
            let mut depth = 0_usize;
            let mut here = at;
            while here < chars.len() {
                match chars.get(here..here + 2) {
                    Some(['/', '*']) => depth += 1,
                    Some(['*', '/']) => depth -= 1,
                    _ => {
                        here += 1;
                        continue;
                    }
                }
                here += 2;
                if depth == 0 {
                    return Some(here);
                }
            }
            Some(chars.len())
        }
        _ => None,
    }
}

/// Where the text or character literal that starts at `at` ends, if one does.
fn end_of_literal(chars: &[char], at: usize) -> Option<usize> {
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match chars[at] {
        '"' => Some(end_of_escaped(chars, at + 1, '"')),
        // A lifetime has no quote behind its first character.
        '\'' if chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\'') => {
            Some(end_of_escaped(chars, at + 1, '\''))
        }
        'r' if !in_word || (chars[at - 1] == 'b' || chars[at - 1] == 'c') => {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            let open = at + 1 + hashes;
            (chars.get(open) == Some(&'"')).then(|| {
                let closing: Vec<char> =
                    std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                chars[open + 1..]
                    .windows(closing.len())
                    .position(|window| window == closing)
                    .map_or(chars.len(), |n| open + 1 + n + closing.len())
            })
        }
        _ => None,
    }
}

/// One past the closing quote, from one past the opening one.
fn end_of_escaped(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

#[cfg(test)]
mod tests {
    use super::without_comments_and_text;

    /// The words that are left.
    fn words(source: &str) -> Vec<String> {
        without_comments_and_text(source).split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn comments_and_texts_go_and_code_stays() {
        assert_eq!(words("a // b\nc /* d /* e */ f */ g"), ["a", "c", "g"]);
        assert_eq!(words(r#"a "b \" c" d"#), ["a", "d"]);
        assert_eq!(words(r##"a r#"b " c"# d br"e" f"##), ["a", "d", "b", "f"]);
        assert_eq!(words(r"a '\'' b '/' c"), ["a", "b", "c"]);
        assert_eq!(words("fn f<'a>(x: &'a str) {}"), ["fn", "f<'a>(x:", "&'a", "str)", "{}"]);
    }

    #[test]
    fn lines_stay_where_they_are() {
        let source = "a\n/* b\nc */ d\n\"e\nf\" g\n";
        assert_eq!(without_comments_and_text(source).lines().count(), source.lines().count());
        assert_eq!(without_comments_and_text("/* never ends\n").lines().count(), 1);
    }
}
