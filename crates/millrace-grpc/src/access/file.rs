//! The access file.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use serde::Deserialize;
use thiserror::Error;

use super::{Access, Roles, TokenHash, hash};

/// A shorter token could be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// What is wrong with an access file. Repeats names and roles, never what may be a token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AccessError {
    /// Not TOML, or not of this form.
    #[error(
        "line {line}: expected [[token]] with name, roles and token or sha256, or [[certificate]] \
         with name and roles"
    )]
    Form {
        /// Where, from 1.
        line: usize,
    },
    /// A role that is none.
    #[error(
        "{name:?}: {role:?} is no role; there are publish, publish:STREAM, read, read:VIEW, admin \
         and internal"
    )]
    Role {
        /// Of which entry.
        name: String,
        /// The role.
        role: String,
    },
    /// A token with neither, or both, of its forms.
    #[error("{name:?}: a token has either token or sha256")]
    TokenForm {
        /// Of which entry.
        name: String,
    },
    /// A token that is too short, or has bytes that no header carries.
    #[error("{name:?}: a token has at least 16 visible ASCII characters and no space")]
    Token {
        /// Of which entry.
        name: String,
    },
    /// A hash that is none.
    #[error("{name:?}: sha256 is 64 hexadecimal digits")]
    Sha256 {
        /// Of which entry.
        name: String,
    },
    /// Two entries with the same credential.
    #[error("{name:?}: another entry has the same credential")]
    Twice {
        /// Of which entry.
        name: String,
    },
}

// No Debug: they hold tokens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessFile {
    #[serde(default)]
    token: Vec<TokenEntry>,
    #[serde(default)]
    certificate: Vec<CertificateEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    name: String,
    token: Option<String>,
    sha256: Option<String>,
    roles: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateEntry {
    name: String,
    roles: Vec<String>,
}

pub(super) fn parse(text: &str) -> Result<Access, AccessError> {
    // The error's own text quotes the file.
    let file: AccessFile = toml::from_str(text).map_err(|error| {
        let before = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..before].iter().filter(|b| **b == b'\n').count() + 1;
        AccessError::Form { line }
    })?;
    let mut access = Access::default();
    for entry in file.token {
        let roles = roles(&entry.name, &entry.roles)?;
        let hash = token_hash(&entry)?;
        match access.tokens.entry(hash) {
            Entry::Vacant(free) => free.insert(roles),
            Entry::Occupied(_) => return Err(AccessError::Twice { name: entry.name }),
        };
    }
    for entry in file.certificate {
        let roles = roles(&entry.name, &entry.roles)?;
        match access.certificates.entry(entry.name) {
            Entry::Vacant(free) => free.insert(roles),
            Entry::Occupied(taken) => {
                return Err(AccessError::Twice { name: taken.key().clone() });
            }
        };
    }
    Ok(access)
}

fn roles(name: &str, of: &[String]) -> Result<Arc<Roles>, AccessError> {
    let mut roles = Roles::default();
    for role in of {
        if !roles.add(role) {
            return Err(AccessError::Role { name: name.to_owned(), role: role.clone() });
        }
    }
    Ok(Arc::new(roles))
}

fn token_hash(entry: &TokenEntry) -> Result<TokenHash, AccessError> {
    let name = || entry.name.clone();
    match (&entry.token, &entry.sha256) {
        (Some(token), None) => {
            let visible = token.bytes().all(|b| b.is_ascii_graphic());
            if token.len() < TOKEN_BYTES_MIN || !visible {
                return Err(AccessError::Token { name: name() });
            }
            Ok(hash(token.as_bytes()))
        }
        (None, Some(hex)) => from_hex(hex).ok_or_else(|| AccessError::Sha256 { name: name() }),
        (Some(_), Some(_)) | (None, None) => Err(AccessError::TokenForm { name: name() }),
    }
}

fn from_hex(hex: &str) -> Option<TokenHash> {
    let mut hash = TokenHash::default();
    if hex.len() != 2 * hash.len() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::ErrorCode;

    const FILE: &str = r#"
        [[token]]
        name = "plain"
        token = "correct-horse-battery"
        roles = ["publish:clicks"]
        [[token]]
        name = "hashed"
        # printf %s another-token-here | sha256sum
        sha256 = "HASH"
        roles = ["read", "admin"]
        [[certificate]]
        name = "spiffe://shop/join"
        roles = ["internal"]
    "#;

    fn access() -> Access {
        let hash: String = hash(b"another-token-here").iter().map(|b| format!("{b:02x}")).collect();
        Access::parse(&FILE.replace("HASH", &hash)).unwrap()
    }

    fn admit(path: &str, token: Option<&str>, names: Option<&[&str]>) -> Result<(), ErrorCode> {
        let token = token.map(|token| HeaderValue::from_str(token).unwrap());
        let names: Option<Vec<String>> =
            names.map(|names| names.iter().map(|n| (*n).to_owned()).collect());
        let admitted = access().admit(path, token.as_ref(), names.as_deref());
        admitted.map(|_| ()).map_err(|fault| fault.code())
    }

    #[test]
    fn credentials_have_the_roles_of_the_file() {
        let publish = "/millrace.v1.IngestService/Publish";
        let apply = "/millrace.v1.CatalogService/ApplyCatalog";
        let append = "/millrace.v1.StoreService/Append";
        let health = "/grpc.health.v1.Health/Check";
        let plain = Some("Bearer correct-horse-battery");
        assert_eq!(admit(publish, plain, None), Ok(()));
        assert_eq!(admit(publish, Some("bearer  correct-horse-battery"), None), Ok(()));
        assert_eq!(admit(apply, plain, None), Err(ErrorCode::PermissionDenied));
        assert_eq!(admit(apply, Some("Bearer another-token-here"), None), Ok(()));
        assert_eq!(admit("/a.B/C", plain, None), Err(ErrorCode::PermissionDenied));
        assert_eq!(admit(append, None, Some(&["x", "spiffe://shop/join"])), Ok(()));
        assert_eq!(admit(append, None, Some(&["x"])), Err(ErrorCode::PermissionDenied));
        // A token that is shown counts, also beside a certificate.
        let wrong = Some("Bearer correct-horse-batterz");
        let names: Option<&[&str]> = Some(&["spiffe://shop/join"]);
        assert_eq!(admit(append, wrong, names), Err(ErrorCode::Unauthenticated));
        for token in [None, wrong, Some("correct-horse-battery"), Some("Bearer"), Some("")] {
            assert_eq!(admit(publish, token, None), Err(ErrorCode::Unauthenticated), "{token:?}");
            assert_eq!(admit(health, token, None), Ok(()));
        }
    }

    #[test]
    fn no_token_is_ever_repeated() {
        let token = "s3cret-s3cret-s3cret";
        for text in [
            format!("token = {token:?}"),
            format!("[[token]]\nname = \"n\"\ntoken = [{token:?}]\nroles = []"),
            format!("[[token]]\nname = \"n\"\ntoken = {token:?}\nrole = []"),
            format!("[[token]]\nname = \"n\"\ntoken = {token:?}\n"),
            format!("[[token]]\nname = \"n\"\ntoken = \"{token}\nroles = []"),
            "[[token]]\nname = \"n\"\ntoken = \"s3cret \"\nroles = []".to_owned(),
            format!("[[token]]\nname = \"n\"\ntoken = {token:?}\nsha256 = {token:?}\nroles = []"),
            format!("[[token]]\nname = \"n\"\nsha256 = {token:?}\nroles = []"),
        ] {
            let error = Access::parse(&text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
        assert!(!format!("{:?}", access()).contains("horse"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, expected: &str| {
            let error = Access::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("\n\nx = 1", "line 3");
        check("[[certificate]]\nname = \"c\"\nroles = [\"write\"]", "\"write\" is no role");
        let twice = "[[certificate]]\nname = \"c\"\nroles = []\n";
        check(&twice.repeat(2), "\"c\": another entry");
        check("[[token]]\nname = \"t\"\ntoken = \"short\"\nroles = []", "at least 16");
        check("[[token]]\nname = \"t\"\nroles = []", "either token or sha256");
    }
}
