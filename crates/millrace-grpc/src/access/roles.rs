//! What a credential allows.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Need, denied};
use crate::Fault;

/// Roles of a credential.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles {
    publish: Scope,
    read: Scope,
    admin: bool,
    internal: bool,
}

/// Streams or views.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    All,
    Named(BTreeSet<String>),
}

impl Default for Scope {
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

impl Scope {
    fn is_empty(&self) -> bool {
        match self {
            Self::All => false,
            Self::Named(names) => names.is_empty(),
        }
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(name),
        }
    }

    fn add(&mut self, name: Option<&str>) {
        match (name, self) {
            (None, scope) => *scope = Self::All,
            (Some(_), Self::All) => {}
            (Some(name), Self::Named(names)) => {
                names.insert(name.to_owned());
            }
        }
    }
}

impl Roles {
    /// Every role.
    #[must_use]
    pub fn all() -> Self {
        Self { publish: Scope::All, read: Scope::All, admin: true, internal: true }
    }

    /// Adds a role as an access file writes it. False for one that is none.
    pub(super) fn add(&mut self, role: &str) -> bool {
        let (kind, name) = match role.split_once(':') {
            Some((_, "")) => return false,
            Some((kind, name)) => (kind, Some(name)),
            None => (role, None),
        };
        match (kind, name) {
            ("publish", name) => self.publish.add(name),
            ("read", name) => self.read.add(name),
            ("admin", None) => self.admin = true,
            ("internal", None) => self.internal = true,
            _ => return false,
        }
        true
    }

    /// The role that is missing for a need, if one is.
    pub(super) fn lacks(&self, need: Need) -> Option<&'static str> {
        let (has, role) = match need {
            Need::Nothing | Need::Known => return None,
            Need::Publish => (!self.publish.is_empty(), "publish"),
            Need::Read => (!self.read.is_empty(), "read"),
            Need::Admin => (self.admin, "admin"),
            Need::Internal => (self.internal, "internal"),
        };
        (!has).then_some(role)
    }
}

/// On whose behalf a call runs; services ask it about each stream and view.
#[derive(Debug, Clone)]
pub struct Caller {
    /// `None`: access is not restricted.
    roles: Option<Arc<Roles>>,
}

impl Caller {
    /// A caller who may do everything: access is off, or the call does not come over a wire.
    #[must_use]
    pub fn unrestricted() -> Self {
        Self { roles: None }
    }

    pub(super) fn with(roles: Arc<Roles>) -> Self {
        Self { roles: Some(roles) }
    }

    /// The caller of a request. Every request that came through a server with restricted access has
    /// one.
    #[must_use]
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get().cloned().unwrap_or_else(Self::unrestricted)
    }

    /// Whether facts of a stream may be published.
    ///
    /// # Errors
    /// PERMISSION_DENIED, whether or not there is such a stream.
    pub fn may_publish(&self, stream: &str) -> Result<(), Fault> {
        self.may("publish", stream, |roles| roles.publish.has(stream))
    }

    /// Whether a view may be read.
    ///
    /// # Errors
    /// PERMISSION_DENIED, whether or not there is such a view.
    pub fn may_read(&self, view: &str) -> Result<(), Fault> {
        self.may("read", view, |roles| roles.read.has(view))
    }

    fn may(&self, kind: &str, name: &str, has: impl Fn(&Roles) -> bool) -> Result<(), Fault> {
        if self.roles.as_deref().is_none_or(has) {
            return Ok(());
        }
        let role = format!("{kind}:{name}");
        Err(denied(&format!("the call needs the role {role}")).with("role", role))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(of: &[&str]) -> Roles {
        let mut roles = Roles::default();
        assert!(of.iter().all(|role| roles.add(role)), "{of:?}");
        roles
    }

    #[test]
    fn a_role_allows_what_it_names_and_nothing_else() {
        let caller = Caller::with(Arc::new(roles(&["publish:a", "publish:b", "read"])));
        caller.may_publish("a").unwrap();
        caller.may_publish("b").unwrap();
        for stream in ["c", "", "A", "a:b"] {
            assert!(caller.may_publish(stream).is_err(), "{stream}");
        }
        caller.may_read("anything").unwrap();
        let nobody = Caller::with(Arc::default());
        assert!(nobody.may_read("a").is_err() && nobody.may_publish("a").is_err());
        let all = Caller::with(Arc::new(roles(&["publish:a", "publish", "publish:b"])));
        all.may_publish("c").unwrap();
    }

    #[test]
    fn a_need_is_met_by_its_own_role_alone() {
        let needs = [Need::Publish, Need::Read, Need::Admin, Need::Internal];
        for (role, met) in [
            ("publish:a", 0),
            ("publish", 0),
            ("read:v", 1),
            ("read", 1),
            ("admin", 2),
            ("internal", 3),
        ] {
            for (i, need) in needs.into_iter().enumerate() {
                assert_eq!(roles(&[role]).lacks(need).is_none(), i == met, "{role} {need:?}");
            }
            assert_eq!(roles(&[role]).lacks(Need::Known), None);
        }
        assert!(needs.iter().all(|need| Roles::all().lacks(*need).is_none()));
    }

    #[test]
    fn what_is_no_role_is_none() {
        for role in ["", "Publish", "publish:", "admin:x", "internal:x", "write", ":", "*"] {
            assert!(!Roles::default().add(role), "{role:?}");
        }
    }
}
