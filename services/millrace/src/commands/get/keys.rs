//! Keys of entities as arguments: a plain key is its text, the parts of a composite key are joined
//! by commas.

use millrace_catalog::Kind;
use millrace_types::entity::KeyError;
use millrace_types::{EntityKey, KeyPart, KeyType};
use thiserror::Error;

/// Why an argument is no key of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyArgumentError {
    /// Fewer parts than the kind has.
    #[error(
        "{text:?} is no key of {kind}, which has {} parts: give them joined by commas, as {}", .parts.len(), shape(.parts)
    )]
    Parts {
        /// The argument.
        text: String,
        /// The entity kind.
        kind: String,
        /// The types of its parts.
        parts: Vec<KeyType>,
    },
    /// A part that should be an integer is none.
    #[error("{part:?} in the key {text:?} is no int64, which {kind} wants there")]
    NotInteger {
        /// The part.
        part: String,
        /// The argument.
        text: String,
        /// The entity kind.
        kind: String,
    },
    /// A part is empty, or the key is too long.
    #[error("{text:?} is no key of {kind}: {source}")]
    Key {
        /// The argument.
        text: String,
        /// The entity kind.
        kind: String,
        /// What is wrong.
        source: KeyError,
    },
}

/// Reads a key of `kind`. The last part of a composite key may hold commas.
///
/// # Errors
/// [`KeyArgumentError`] when the text is none.
pub(crate) fn parse(text: &str, kind: &Kind) -> Result<EntityKey, KeyArgumentError> {
    let texts: Vec<&str> = text.splitn(kind.parts.len(), ',').collect();
    if texts.len() != kind.parts.len() {
        return Err(KeyArgumentError::Parts {
            text: text.to_owned(),
            kind: kind.name.clone(),
            parts: kind.parts.clone(),
        });
    }
    let part = |(part, ty): (&&'_ str, &KeyType)| match ty {
        KeyType::String => Ok(PartText::String((*part).to_owned())),
        KeyType::Int64 => {
            part.parse().map(PartText::Int64).map_err(|_| KeyArgumentError::NotInteger {
                part: (*part).to_owned(),
                text: text.to_owned(),
                kind: kind.name.clone(),
            })
        }
    };
    let parts: Vec<PartText> = texts.iter().zip(&kind.parts).map(part).collect::<Result<_, _>>()?;
    let parts: Vec<KeyPart<'_>> = parts.iter().map(PartText::as_part).collect();
    EntityKey::try_new(&parts).map_err(|source| KeyArgumentError::Key {
        text: text.to_owned(),
        kind: kind.name.clone(),
        source,
    })
}

enum PartText {
    Int64(i64),
    String(String),
}

impl PartText {
    fn as_part(&self) -> KeyPart<'_> {
        match self {
            Self::Int64(value) => KeyPart::Int64(*value),
            Self::String(value) => KeyPart::String(value),
        }
    }
}

fn shape(parts: &[KeyType]) -> String {
    let names = parts.iter().map(|part| match part {
        KeyType::Int64 => "INT64",
        KeyType::String => "STRING",
    });
    names.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use millrace_types::KindId;

    use super::*;

    fn read(text: &str, parts: &[KeyType]) -> Result<String, String> {
        let kind = Kind { id: KindId(0), name: "user".into(), parts: parts.to_vec() };
        parse(text, &kind).map(|key| key.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn keys_are_read_by_the_types_of_their_kind() {
        use KeyType::{Int64, String};
        assert_eq!(read("-42", &[Int64]), Ok("-42".into()));
        assert_eq!(read("a,b", &[String]), Ok("a,b".into()));
        assert_eq!(read("7,a,b", &[Int64, String]), Ok("7,a,b".into()));
        assert_eq!(
            read("7", &[Int64, String]),
            Err("\"7\" is no key of user, which has 2 parts: give them joined by commas, as \
                 INT64,STRING"
                .into())
        );
        assert_eq!(
            read("x,a", &[Int64, String]),
            Err("\"x\" in the key \"x,a\" is no int64, which user wants there".into())
        );
        assert_eq!(
            read("", &[String]),
            Err("\"\" is no key of user: a part of the key is missing".into())
        );
    }
}
