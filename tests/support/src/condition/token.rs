//! The tokens of an expression.

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name or a word such as `in`, `true`, `null`.
    Word(String),
    /// Digits of an integer; the sign is an operator.
    Int(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// An operator or a bracket.
    Sign(&'static str),
}

/// Longer signs stand before their prefixes.
const SIGNS: [&str; 21] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "+", "-", "*", "/", "%", "(", ")", "[", "]",
    ",", ".", "?",
];

/// Splits a text into tokens.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let used = if first.is_ascii_digit() {
            number(rest, &mut out)?
        } else if matches!(first, '"' | '\'') {
            let (text, used) = quoted(rest)?;
            out.push(Token::Text(text));
            used
        } else if first == 'b' && rest[1..].starts_with(['"', '\'']) {
            let (text, used) = quoted(&rest[1..])?;
            out.push(Token::Bytes(text.into_bytes()));
            used + 1
        } else if first.is_ascii_alphabetic() || first == '_' {
            let used =
                rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            out.push(Token::Word(rest[..used].to_owned()));
            used
        } else if let Some(sign) = SIGNS.iter().find(|s| rest.starts_with(**s)) {
            out.push(Token::Sign(sign));
            sign.len()
        } else {
            return Err(format!("{first:?} is no part of an expression"));
        };
        rest = rest[used..].trim_start();
    }
    Ok(out)
}

/// Reads digits, with a fraction or an exponent for a double. Gives the bytes used.
fn number(text: &str, out: &mut Vec<Token>) -> Result<usize, String> {
    let digits = |from: usize| {
        text[from..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |n| from + n)
    };
    let mut end = digits(0);
    let mut double = false;
    if text[end..].starts_with('.') && text[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
        end = digits(end + 1);
        double = true;
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        end = digits(end + 1 + sign);
        double = true;
    }
    let bad = || format!("{:?} is no number", &text[..end]);
    out.push(if double {
        let value: f64 = text[..end].parse().map_err(|_| bad())?;
        Token::Double(Some(value).filter(|v| v.is_finite()).ok_or_else(bad)?)
    } else {
        Token::Int(text[..end].parse().map_err(|_| bad())?)
    });
    Ok(end)
}

/// Reads a quoted text with backslash escapes. Gives it and the bytes used, quotes included.
fn quoted(text: &str) -> Result<(String, usize), String> {
    let mut chars = text.char_indices();
    let quote = chars.next().map(|(_, c)| c);
    let mut out = String::new();
    while let Some((i, c)) = chars.next() {
        if Some(c) == quote {
            return Ok((out, i + c.len_utf8()));
        }
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next().map(|(_, c)| c) {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some(same @ ('\\' | '"' | '\'')) => out.push(same),
            other => return Err(format!("the escape \\{} is unknown", other.unwrap_or(' '))),
        }
    }
    Err("a text has no closing quote".to_owned())
}
