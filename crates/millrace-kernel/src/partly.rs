//! Reads of an entity from its head and those of its pages that they need.
//!
//! A head tells of each page which instants it spans and which of its facts are live, and has partials of
//! whole pages. A read then needs the pages that its windows' ends cut, those without a partial, and
//! those that hold the versions its rows meet. What it computes is what the whole state would give: the
//! same function runs, and it stops where a page that it needs is not there.

use millrace_types::{DecodeError, KnownAt, Micros, Position, RowTypes};

use crate::entity::EntityState;
use crate::evaluate::Evaluation;
use crate::facts::StreamFacts;
use crate::page::{MissingPage, Page, PageName};
use crate::retention::TooEarly;

mod needed;

/// A page as the store holds it, decoded. It never changes, so that it may be kept and shared.
#[derive(Debug, Clone)]
pub struct StoredPage {
    page: Page,
    types: RowTypes,
}

impl StoredPage {
    /// Decodes a page.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are no page.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Page::decode(bytes, None).map(|(page, types)| Self { page, types })
    }

    /// Memory held, in bytes, about.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.page.heap_bytes() + self.types.heap_bytes()
    }
}

/// The pages of a stream of which the head gives the names alone: they are needed all together.
#[derive(Debug, Clone)]
pub(crate) struct NamedPages {
    stream: usize,
    pages: Vec<(PageName, Option<Page>)>,
}

impl NamedPages {
    pub(crate) fn new(stream: usize, names: Vec<PageName>) -> Self {
        Self { stream, pages: names.into_iter().map(|name| (name, None)).collect() }
    }

    fn missing(&self) -> impl Iterator<Item = PageName> {
        self.pages.iter().filter(|(_, page)| page.is_none()).map(|(name, _)| *name)
    }
}

/// Pages that stand in a head, by names that none of the stored ones has.
#[derive(Debug, Clone, Default)]
pub(crate) struct InlinePages(Vec<Option<Box<[u8]>>>);

impl InlinePages {
    /// Snapshots are of later versions.
    const VERSION: KnownAt = KnownAt(i64::MIN);

    pub(crate) fn add(&mut self, bytes: Box<[u8]>) -> PageName {
        self.0.push(Some(bytes));
        (Self::VERSION, self.0.len() as u32 - 1)
    }

    /// Takes one out, if the name is of one of these.
    fn take(&mut self, name: PageName) -> Option<Box<[u8]>> {
        if name.0 != Self::VERSION {
            return None;
        }
        self.0.get_mut(name.1 as usize)?.take()
    }

    fn names(&self) -> impl Iterator<Item = PageName> {
        (0..self.0.len()).map(|number| (Self::VERSION, number as u32))
    }
}

/// An entity as its head has it, opened for one view's features, with the pages read so far.
#[derive(Debug, Clone)]
pub struct PartlyLoaded {
    state: EntityState,
    view: usize,
    features: Vec<usize>,
    named: Vec<NamedPages>,
    inline: InlinePages,
}

impl PartlyLoaded {
    pub(crate) fn new(
        state: EntityState,
        view: usize,
        features: &[usize],
        named: Vec<NamedPages>,
        inline: InlinePages,
    ) -> Self {
        Self { state, view, features: features.to_vec(), named, inline }
    }

    /// The last chunk whose facts are in effect.
    #[must_use]
    pub fn applied(&self) -> Position {
        self.state.applied()
    }

    /// The known_at of that chunk.
    #[must_use]
    pub fn known_at(&self) -> KnownAt {
        self.state.known_at()
    }

    /// Why the features cannot be read at this instant, if they cannot: their stream's retention let go of
    /// what they need.
    #[must_use]
    pub fn too_early(&self, at: Micros) -> Option<TooEarly> {
        self.state.too_early(self.view, &self.features, at)
    }

    /// The pages that a read at this instant needs and that were not read yet. A few more than it
    /// turns out to need may be among them, but none is missing. None when the head does not cover the
    /// read anyway. Those that stand in the head are decoded now.
    ///
    /// # Errors
    /// [`DecodeError`] when one that stands in the head is no page, or not the one of which it tells.
    pub fn needed(&mut self, at: Micros) -> Result<Vec<PageName>, DecodeError> {
        let mut needed = if self.named.is_empty() {
            needed::pages(&self.state, self.view, &self.features, at)
        } else {
            // Which facts are live is known once all pages are there.
            self.named.iter().flat_map(NamedPages::missing).chain(self.inline.names()).collect()
        };
        for name in needed.extract_if(.., |name| name.0 == InlinePages::VERSION) {
            if let Some(bytes) = self.inline.take(name) {
                insert(&mut self.state, name, &StoredPage::decode(&bytes)?)?;
            }
        }
        Ok(needed)
    }

    /// Takes in a page.
    ///
    /// # Errors
    /// [`DecodeError`] when the page is not the one of which the head tells.
    pub fn insert(&mut self, name: PageName, page: &StoredPage) -> Result<(), DecodeError> {
        if insert(&mut self.state, name, page)? {
            return Ok(());
        }
        let plan = self.state.plan.clone();
        for index in 0..self.named.len() {
            let named = &mut self.named[index];
            let Some(found) = named.pages.iter_mut().find(|(have, _)| *have == name) else {
                continue;
            };
            page.types.check(&plan.streams[named.stream].types)?;
            found.1 = Some(page.page.clone());
            if named.missing().next().is_none() {
                let named = self.named.swap_remove(index);
                let pages = named.pages.into_iter().filter_map(|(_, page)| page).collect();
                self.state.streams[named.stream] = StreamFacts::from_pages(pages);
            }
            return Ok(());
        }
        Ok(())
    }

    /// Computes the features at this instant; `None` when the head does not cover the read
    /// ([`EntityState::evaluate`]).
    ///
    /// # Errors
    /// [`MissingPage`] when a page is needed that was not read: see [`PartlyLoaded::needed`].
    pub fn evaluate(&mut self, at: Micros) -> Result<Option<Evaluation>, MissingPage> {
        if let Some(name) = self.named.iter().find_map(|named| named.missing().next()) {
            return Err(MissingPage(name));
        }
        self.state.try_evaluate(self.view, &self.features, at)
    }
}

/// Takes in a page of which the head tells more than the name; false when it is none of them.
fn insert(state: &mut EntityState, name: PageName, page: &StoredPage) -> Result<bool, DecodeError> {
    for (stream, of_stream) in state.streams.iter_mut().zip(&state.plan.streams) {
        if let Some(found) = stream.pages_mut().iter_mut().find(|p| p.stored == Some(name)) {
            page.types.check(&of_stream.types)?;
            found.arrive(&page.page)?;
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
