//! Why a slot judges nothing for a while. Whoever held it lets go of its own reason alone.

/// The reasons there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Held {
    /// Entities of the next batches are being loaded.
    pub(super) loading: bool,
    /// A rebuild catches up with the last chunks, is put, or its marker is in flight.
    pub(super) rebuilding: bool,
    /// An erasure catches up with the last chunks, or its entry is in flight.
    pub(super) erasing: bool,
    given_up: bool,
}

impl Held {
    pub(super) fn any(self) -> bool {
        self.loading || self.rebuilding || self.erasing || self.given_up
    }

    /// Nothing is judged here any more.
    pub(super) fn for_good(&mut self) {
        self.given_up = true;
    }
}

#[cfg(test)]
mod tests {
    use super::Held;

    /// A load that ends in the middle of a rebuild let the slot judge once: the marker then stood one
    /// chunk later than the states that it names, and took the place of a chunk in flight.
    #[test]
    fn a_load_that_ends_does_not_let_a_rebuild_go() {
        let mut held = Held { loading: true, rebuilding: true, ..Held::default() };
        held.loading = false;
        assert!(held.any());
        held.rebuilding = false;
        assert!(!held.any());
        held.for_good();
        held.erasing = false;
        assert!(held.any());
    }
}
