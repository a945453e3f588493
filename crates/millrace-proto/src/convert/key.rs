//! Entity keys.

use millrace_types::{EntityKey, KeyPart};

use super::error::{ConvertError, Rule};
use crate::v1::{self, key_part};

impl From<&EntityKey> for v1::EntityKey {
    fn from(from: &EntityKey) -> Self {
        Self { parts: from.parts().map(Into::into).collect() }
    }
}

impl From<KeyPart<'_>> for v1::KeyPart {
    fn from(from: KeyPart<'_>) -> Self {
        let kind = match from {
            KeyPart::Int64(v) => key_part::Kind::Int64(v),
            KeyPart::String(v) => key_part::Kind::String(v.to_owned()),
        };
        Self { kind: Some(kind) }
    }
}

/// Borrows the parts of a key, for a check of their types against the catalog.
///
/// # Errors
/// [`Rule::Required`] for a part in which nothing is set.
pub fn key_parts(key: &v1::EntityKey) -> Result<Vec<KeyPart<'_>>, ConvertError> {
    let read = |(i, part): (usize, &'_ v1::KeyPart)| match &part.kind {
        Some(_) => Ok(()),
        None => Err(ConvertError::new(Rule::Required).within(format_args!("parts[{i}]"))),
    };
    key.parts.iter().enumerate().try_for_each(read)?;
    Ok(key
        .parts
        .iter()
        .filter_map(|part| match part.kind.as_ref()? {
            key_part::Kind::Int64(v) => Some(KeyPart::Int64(*v)),
            key_part::Kind::String(v) => Some(KeyPart::String(v)),
        })
        .collect())
}

/// # Errors
/// [`Rule::Required`] for a part in which nothing is set, [`Rule::Key`] for a key without parts,
/// with an empty text or that is too long.
impl TryFrom<&v1::EntityKey> for EntityKey {
    type Error = ConvertError;

    fn try_from(from: &v1::EntityKey) -> Result<Self, ConvertError> {
        let parts = key_parts(from)?;
        Self::try_new(&parts).map_err(|e| ConvertError::new(Rule::Key(e)).within("parts"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_come_back(number: i64, text in ".{1,20}") {
            let key = EntityKey::try_new(&[KeyPart::Int64(number), KeyPart::String(&text)]).unwrap();
            prop_assert_eq!(EntityKey::try_from(&v1::EntityKey::from(&key)), Ok(key));
        }
    }

    #[test]
    fn what_is_no_key_says_where() {
        let error = |parts: Vec<v1::KeyPart>| {
            EntityKey::try_from(&v1::EntityKey { parts }).unwrap_err().to_string()
        };
        assert_eq!(error(vec![]), "parts: a part of the key is missing");
        let unset = v1::KeyPart { kind: None };
        assert_eq!(error(vec![KeyPart::Int64(1).into(), unset]), "parts[1]: must be set");
    }
}
