//! Who may do what: credentials, the roles they have, and the role each method needs.

#![expect(clippy::result_large_err, reason = "a refusal is rare, and becomes a status at once")]

mod file;
mod methods;
mod roles;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use ring::digest::{SHA256, digest};

pub use file::AccessError;
pub(crate) use methods::is_stream;
pub use methods::{Need, need};
pub use roles::{Caller, Roles};

use crate::{ErrorCode, Fault};

/// The SHA-256 of a token. Looking a hash up takes no time that tells of the token.
type TokenHash = [u8; 32];

/// The credentials a server knows and their roles. Debug shows counts alone.
#[derive(Clone, Default)]
pub struct Access {
    tokens: HashMap<TokenHash, Arc<Roles>>,
    /// By a name of the certificate: a URI or DNS name among its subject alternative names.
    certificates: HashMap<String, Arc<Roles>>,
    /// The roles of every certificate that is valid.
    any_certificate: Option<Arc<Roles>>,
}

impl Access {
    /// Every role for whoever shows a valid certificate, and none for others.
    #[must_use]
    pub fn any_certificate() -> Self {
        Self { any_certificate: Some(Arc::new(Roles::all())), ..Self::default() }
    }

    /// Reads an access file, TOML:
    ///
    /// ```toml
    /// [[token]]
    /// name = "checkout"              # for people
    /// sha256 = "9f86d081884c7d65…"   # of the token, or `token` itself, 16 bytes or more
    /// roles = ["publish:clicks", "read:clickprofile"]
    ///
    /// [[certificate]]
    /// name = "spiffe://shop/join"    # a URI or DNS name of the certificate
    /// roles = ["internal"]
    /// ```
    ///
    /// Roles are `publish` and `read`, of everything or `:` a stream or view, `admin` and
    /// `internal`.
    ///
    /// # Errors
    /// [`AccessError`], which repeats nothing that may be a token.
    pub fn parse(text: &str) -> Result<Self, AccessError> {
        file::parse(text)
    }

    /// Whether a call may begin, and as whom. `authorization` is the header, `names` are those of the client's certificate, if it
    /// showed a valid one. A token counts before a certificate.
    ///
    /// # Errors
    /// UNAUTHENTICATED or PERMISSION_DENIED.
    pub(crate) fn admit(
        &self,
        path: &str,
        authorization: Option<&HeaderValue>,
        names: Option<&[String]>,
    ) -> Result<Caller, Fault> {
        let need = need(path);
        if need == Some(Need::Nothing) {
            return Ok(Caller::with(Arc::default()));
        }
        let roles = self.roles(authorization, names)?;
        let Some(need) = need else {
            return Err(denied("no role allows this method").with("method", path));
        };
        match roles.lacks(need) {
            None => Ok(Caller::with(roles)),
            Some(role) => {
                Err(denied(&format!("the call needs the role {role}")).with("role", role))
            }
        }
    }

    fn roles(
        &self,
        authorization: Option<&HeaderValue>,
        names: Option<&[String]>,
    ) -> Result<Arc<Roles>, Fault> {
        if let Some(value) = authorization {
            let known = bearer(value.as_bytes()).and_then(|token| self.tokens.get(&hash(token)));
            return known.cloned().ok_or_else(|| unauthenticated("the token is not known here"));
        }
        let names = names.ok_or_else(|| {
            unauthenticated("the call needs a token, or a certificate of the client")
        })?;
        names
            .iter()
            .find_map(|name| self.certificates.get(name))
            .or(self.any_certificate.as_ref())
            .cloned()
            .ok_or_else(|| denied("the client's certificate has no role here"))
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("tokens", &self.tokens.len())
            .field("certificates", &self.certificates.len())
            .finish_non_exhaustive()
    }
}

fn hash(token: &[u8]) -> TokenHash {
    let mut hash = TokenHash::default();
    hash.copy_from_slice(digest(&SHA256, token).as_ref());
    hash
}

/// The token of `Bearer TOKEN`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token.trim_ascii())
}

fn unauthenticated(message: &str) -> Fault {
    Fault::new(ErrorCode::Unauthenticated, message)
}

fn denied(message: &str) -> Fault {
    Fault::new(ErrorCode::PermissionDenied, message)
}
