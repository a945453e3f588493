//! Finds the place in the file of a character inside a scalar, e.g. of an error inside `where`.

use super::{Scalar, Style};
use crate::diagnostic::Pos;

/// The place of the character `offset` (counted in characters of the scalar's value) of the scalar
/// that starts at `at` in `source`. Where quoting or folding is too intricate to follow, the place
/// of the scalar itself.
pub(crate) fn locate(source: &str, scalar: &Scalar, at: Pos, offset: usize) -> Pos {
    let mut raw = Raw::new(source, at);
    let found = match scalar.style {
        Style::Block => block(&mut raw, scalar, at, offset),
        Style::Plain | Style::SingleQuoted | Style::DoubleQuoted => flow(&mut raw, scalar, offset),
    };
    found.unwrap_or(at)
}

/// The characters of the file from a place on, with their places.
struct Raw<'t> {
    rest: std::iter::Peekable<std::str::Chars<'t>>,
    at: Pos,
}

impl<'t> Raw<'t> {
    fn new(source: &'t str, at: Pos) -> Self {
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        let line = source.split_inclusive('\n').take(at.line as usize - 1).map(str::len).sum();
        let text = source.get(line..).unwrap_or_default();
        let skip = text.char_indices().nth(at.column as usize - 1).map_or(text.len(), |(i, _)| i);
        Self { rest: text[skip..].chars().peekable(), at }
    }

    fn peek(&mut self) -> Option<char> {
        self.rest.peek().copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.at = Pos { line: self.at.line + 1, column: 1 };
        } else {
            self.at.column += 1;
        }
        Some(c)
    }
}

/// Literal and simply folded blocks: each line stands on a line of its own, behind one indentation.
fn block(raw: &mut Raw<'_>, scalar: &Scalar, at: Pos, offset: usize) -> Option<Pos> {
    for (i, expected) in scalar.text.chars().enumerate() {
        while raw.at.column < at.column && raw.peek() == Some(' ') {
            raw.next();
        }
        if i == offset {
            return Some(raw.at);
        }
        let found = raw.next()?;
        // A fold writes the end of a line as a blank; any other difference cannot be followed.
        if found != expected && !(found == '\n' && expected == ' ') {
            return None;
        }
    }
    Some(raw.at)
}

/// Plain and quoted scalars.
fn flow(raw: &mut Raw<'_>, scalar: &Scalar, offset: usize) -> Option<Pos> {
    if scalar.style != Style::Plain {
        raw.next()?;
    }
    let mut expected = scalar.text.chars();
    let mut i = 0;
    while i < offset {
        let wanted = expected.next()?;
        match (scalar.style, raw.peek()?) {
            (_, ' ' | '\t' | '\n' | '\r') => i += blanks(raw, &mut expected, wanted, offset - i)?,
            (Style::SingleQuoted, '\'') => {
                raw.next();
                raw.next();
                i += 1;
            }
            (Style::DoubleQuoted, '\\') => {
                escape(raw)?;
                i += 1;
            }
            (Style::Plain | Style::SingleQuoted | Style::DoubleQuoted | Style::Block, c) => {
                if c != wanted {
                    return None;
                }
                raw.next();
                i += 1;
            }
        }
    }
    Some(raw.at)
}

/// One blank, or a run with line ends in it that folds to one blank (or to line ends). Gives how
/// many characters of the value were passed.
fn blanks(
    raw: &mut Raw<'_>,
    expected: &mut std::str::Chars<'_>,
    wanted: char,
    left: usize,
) -> Option<usize> {
    let mut look = raw.rest.clone();
    let folds = loop {
        match look.next() {
            Some(' ' | '\t' | '\r') => {}
            other => break other == Some('\n'),
        }
    };
    if !folds {
        return (raw.next()? == wanted).then_some(1);
    }
    let mut lines = 0;
    while let Some(' ' | '\t' | '\r' | '\n') = raw.peek() {
        if raw.next() == Some('\n') {
            lines += 1;
        }
    }
    if lines == 1 {
        return (wanted == ' ').then_some(1);
    }
    // n line ends fold to n − 1.
    let mut passed = 1;
    for _ in 0..lines - 2 {
        if passed < left {
            passed += 1;
            expected.next()?;
        }
    }
    (wanted == '\n').then_some(passed)
}

/// Passes one escape of a double-quoted scalar. An escaped line end is not followed.
fn escape(raw: &mut Raw<'_>) -> Option<()> {
    raw.next();
    let digits = match raw.next()? {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        '\n' | '\r' => return None,
        _ => 0,
    };
    for _ in 0..digits {
        raw.next()?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::{Node, NodeValue, parse};
    use super::*;
    use crate::diagnostic::Sink;

    /// Locates the `@` in the value of `w` and looks whether one stands there in the file.
    fn finds(yaml: &str) -> bool {
        let mut sink = Sink::default();
        let root = parse(yaml, &mut sink).unwrap();
        let NodeValue::Map(top) = root.value else { panic!("a mapping") };
        let Node { at, value: NodeValue::Scalar(scalar) } = &top[0].value else {
            panic!("a scalar")
        };
        let offset = scalar.text.chars().position(|c| c == '@').unwrap();
        let pos = locate(yaml, scalar, *at, offset);
        let line = yaml.lines().nth(pos.line as usize - 1).unwrap();
        line.chars().nth(pos.column as usize - 1) == Some('@')
    }

    #[test]
    fn characters_are_found_in_every_style() {
        for yaml in [
            "w: a == @b",
            "w: 'é == ''x'' && @b'",
            r#"w: "é == \"x\" \u00e9 \x41 && @b""#,
            "w: a ==\n   b   &&\n     @c",
            "w: 'a ==\n\n\n   b && @c'",
            "w: \"a ==\n   @c\"",
            "w: |\n    a == b &&\n      c == @d\n",
            "w: >-\n    a == b &&\n    c == @d\n",
        ] {
            assert!(finds(yaml), "{yaml}");
        }
    }

    #[test]
    fn what_cannot_be_followed_gives_the_scalar() {
        let yaml = "w: \"a \\\n  b @\"";
        let mut sink = Sink::default();
        let root = parse(yaml, &mut sink).unwrap();
        let NodeValue::Map(top) = root.value else { panic!("a mapping") };
        let NodeValue::Scalar(scalar) = &top[0].value.value else { panic!("a scalar") };
        assert_eq!(locate(yaml, scalar, top[0].value.at, 4), Pos { line: 1, column: 4 });
    }
}
