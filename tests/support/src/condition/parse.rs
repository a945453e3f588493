//! Tokens to a tree, by recursive descent; from the weakest binding to the strongest:
//! `||`, `&&`, comparisons and `in`, `+ -`, `* / %`, `! -`, `.method()`.

use millrace_catalog::FieldRef;
use millrace_types::{Micros, Value};
use regex::Regex;

use super::token::{Token, tokens};
use super::{Comparison, Expr, Operation, Scope, TextTest};

/// Parses a whole text.
pub(super) fn parse(text: &str, scope: &Scope<'_>) -> Result<Expr, String> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, scope };
    let expr = parser.or()?;
    match parser.tokens.first() {
        None => Ok(expr),
        Some(token) => Err(format!("{token:?} is not expected here")),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    scope: &'a Scope<'a>,
}

impl Parser<'_> {
    /// Takes the next token if it is this sign.
    fn sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.tokens.first(), Some(Token::Sign(s)) if *s == sign);
        if found {
            self.tokens = &self.tokens[1..];
        }
        found
    }

    /// Takes the next token if it is one of these signs, and gives what stands beside it.
    fn one_of<T: Copy>(&mut self, signs: &[(&str, T)]) -> Option<T> {
        signs.iter().find(|(sign, _)| self.sign(sign)).map(|(_, meaning)| *meaning)
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.sign(sign) { Ok(()) } else { Err(format!("`{sign}` is missing")) }
    }

    fn word(&mut self) -> Result<String, String> {
        match self.tokens.split_first() {
            Some((Token::Word(word), rest)) => {
                self.tokens = rest;
                Ok(word.clone())
            }
            other => Err(format!("a name is missing before {:?}", other.map(|(t, _)| t))),
        }
    }

    fn or(&mut self) -> Result<Expr, String> {
        let mut left = self.and()?;
        while self.sign("||") {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr, String> {
        let mut left = self.relation()?;
        while self.sign("&&") {
            left = Expr::And(Box::new(left), Box::new(self.relation()?));
        }
        Ok(left)
    }

    fn relation(&mut self) -> Result<Expr, String> {
        let mut left = self.sum()?;
        loop {
            if matches!(self.tokens.first(), Some(Token::Word(w)) if w == "in") {
                self.tokens = &self.tokens[1..];
                left = Expr::In(Box::new(left), self.list()?);
                continue;
            }
            let Some(comparison) = self.one_of(&[
                ("==", Comparison::Equal),
                ("!=", Comparison::NotEqual),
                ("<=", Comparison::LessOrEqual),
                (">=", Comparison::GreaterOrEqual),
                ("<", Comparison::Less),
                (">", Comparison::Greater),
            ]) else {
                return Ok(left);
            };
            left = compare(comparison, left, self.sum()?);
        }
    }

    fn list(&mut self) -> Result<Vec<Expr>, String> {
        self.expect("[")?;
        let mut items = Vec::new();
        while !self.sign("]") {
            if !items.is_empty() {
                self.expect(",")?;
            }
            items.push(self.or()?);
        }
        Ok(items)
    }

    fn sum(&mut self) -> Result<Expr, String> {
        let mut left = self.product()?;
        while let Some(op) = self.one_of(&[("+", Operation::Add), ("-", Operation::Subtract)]) {
            left = Expr::Arithmetic(op, Box::new(left), Box::new(self.product()?));
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Expr, String> {
        let signs =
            [("*", Operation::Multiply), ("/", Operation::Divide), ("%", Operation::Remainder)];
        let mut left = self.unary()?;
        while let Some(op) = self.one_of(&signs) {
            left = Expr::Arithmetic(op, Box::new(left), Box::new(self.unary()?));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, String> {
        if self.sign("!") {
            return Ok(Expr::Not(Box::new(self.unary()?)));
        }
        if !self.sign("-") {
            return self.member();
        }
        // A minus before digits belongs to the literal: only so the least int64 can be written.
        if let Some((Token::Int(digits), rest)) = self.tokens.split_first() {
            self.tokens = rest;
            let value = 0i64.checked_sub_unsigned(*digits).ok_or("an integer is too small")?;
            return Ok(Expr::Literal(Value::Int64(value)));
        }
        Ok(Expr::Negate(Box::new(self.unary()?)))
    }

    fn member(&mut self) -> Result<Expr, String> {
        let mut left = self.primary()?;
        while self.sign(".") {
            let method = self.word()?;
            self.expect("(")?;
            let argument = self.or()?;
            self.expect(")")?;
            let test = match method.as_str() {
                "startsWith" => TextTest::StartsWith,
                "endsWith" => TextTest::EndsWith,
                "contains" => TextTest::Contains,
                "matches" => {
                    left = Expr::Matches(Box::new(left), pattern(argument)?);
                    continue;
                }
                other => return Err(format!("the method {other} is not supported")),
            };
            left = Expr::Text(test, Box::new(left), Box::new(argument));
        }
        Ok(left)
    }

    fn primary(&mut self) -> Result<Expr, String> {
        if self.sign("(") {
            let inner = self.or()?;
            self.expect(")")?;
            return Ok(inner);
        }
        let (token, rest) = self.tokens.split_first().ok_or("the expression ends too early")?;
        let literal = match token {
            Token::Int(digits) => {
                Value::Int64(i64::try_from(*digits).map_err(|_| "an integer is too large")?)
            }
            Token::Double(value) => Value::Double(*value),
            Token::Text(text) => Value::String(text.as_str().into()),
            Token::Bytes(bytes) => Value::Bytes(bytes.as_slice().into()),
            Token::Sign(sign) => return Err(format!("`{sign}` is not expected here")),
            Token::Word(_) => return self.named(),
        };
        self.tokens = rest;
        Ok(Expr::Literal(literal))
    }

    /// `true`, `false`, `null`, `has(…)`, `timestamp("…")` or a field.
    fn named(&mut self) -> Result<Expr, String> {
        let word = self.word()?;
        match word.as_str() {
            "true" => Ok(Expr::Literal(Value::Bool(true))),
            "false" => Ok(Expr::Literal(Value::Bool(false))),
            "null" => Ok(Expr::Literal(Value::Null)),
            "has" if self.sign("(") => {
                let stream = self.word()?;
                let field = self.field(&stream)?;
                self.expect(")")?;
                Ok(Expr::HasValue(field))
            }
            "timestamp" if self.sign("(") => {
                let Expr::Literal(Value::String(text)) = self.primary()? else {
                    return Err("timestamp() takes a text".to_owned());
                };
                self.expect(")")?;
                let instant = Micros::parse_rfc3339(&text).map_err(|e| e.to_string())?;
                Ok(Expr::Literal(Value::Timestamp(instant)))
            }
            stream => self.field(stream).map(Expr::Field),
        }
    }

    fn field(&mut self, stream: &str) -> Result<FieldRef, String> {
        self.expect(".")?;
        let field = self.word()?;
        self.scope
            .resolve(stream, &field)
            .ok_or_else(|| format!("there is no field {stream}.{field} here"))
    }
}

/// A comparison; with `null` it is the test for NULL.
fn compare(comparison: Comparison, left: Expr, right: Expr) -> Expr {
    match (&left, &right, comparison) {
        (Expr::Field(f), Expr::Literal(Value::Null), Comparison::Equal)
        | (Expr::Literal(Value::Null), Expr::Field(f), Comparison::Equal) => Expr::IsNull(*f),
        (Expr::Field(f), Expr::Literal(Value::Null), Comparison::NotEqual)
        | (Expr::Literal(Value::Null), Expr::Field(f), Comparison::NotEqual) => Expr::HasValue(*f),
        _ => Expr::Compare(comparison, Box::new(left), Box::new(right)),
    }
}

fn pattern(argument: Expr) -> Result<Regex, String> {
    let Expr::Literal(Value::String(text)) = argument else {
        return Err("matches() takes a literal text".to_owned());
    };
    Regex::new(&text).map_err(|e| e.to_string())
}
