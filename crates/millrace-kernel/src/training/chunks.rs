//! The chunks that facts stand in.

use millrace_types::codec::Reader;
use millrace_types::{DecodeError, FactView, KnownAt};

/// Where a fact's body stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) chunk: u32,
    pub(super) offset: u32,
}

/// Chunks that hold facts that are referred to.
#[derive(Debug)]
pub(super) struct Chunks<B>(Vec<Kept<B>>);

#[derive(Debug)]
struct Kept<B> {
    bytes: KeptBytes<B>,
    known_at: KnownAt,
}

/// The whole chunk, or, where most of it is not wanted, what is.
#[derive(Debug)]
enum KeptBytes<B> {
    Whole(B),
    Wanted(Vec<u8>),
}

impl<B: AsRef<[u8]>> KeptBytes<B> {
    #[inline]
    fn get(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes.as_ref(),
            Self::Wanted(bytes) => bytes,
        }
    }
}

impl<B: AsRef<[u8]>> Chunks<B> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// The number of the chunk that is kept next.
    pub(super) fn next(&self) -> u32 {
        self.0.len() as u32
    }

    /// Keeps a chunk, and gives the memory it takes, in bytes. Where the facts that are wanted, whose
    /// bodies take so many bytes, are less than half of it, only they are kept, and stand elsewhere from
    /// then on. Where entities take turns, each turn would keep all chunks otherwise.
    pub(super) fn keep<'p>(
        &mut self,
        bytes: B,
        known_at: KnownAt,
        wanted: usize,
        places: impl Iterator<Item = &'p mut Place>,
    ) -> Result<usize, DecodeError> {
        let all = bytes.as_ref();
        let bytes = if wanted < all.len() / 2 {
            KeptBytes::Wanted(copied(all, wanted, places)?)
        } else {
            KeptBytes::Whole(bytes)
        };
        let size = bytes.get().len();
        self.0.push(Kept { bytes, known_at });
        Ok(size)
    }

    /// The fact at a place.
    #[inline]
    pub(super) fn fact(&self, place: Place) -> FactView<'_> {
        let bytes = self.0[place.chunk as usize].bytes.get();
        FactView::read(&mut Reader::new(&bytes[place.offset as usize..]))
            .expect("only facts that decoded are referred to")
    }

    /// When the fact at a place became known.
    pub(super) fn known_at(&self, place: Place) -> KnownAt {
        self.fact(place).known_in(self.0[place.chunk as usize].known_at)
    }
}

/// The facts that are referred to, copied out of their chunk.
fn copied<'p>(
    chunk: &[u8],
    bytes: usize,
    places: impl Iterator<Item = &'p mut Place>,
) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::with_capacity(bytes);
    for place in places {
        let fact = FactView::read(&mut Reader::new(&chunk[place.offset as usize..]))?;
        place.offset = out.len() as u32;
        out.extend_from_slice(fact.bytes);
    }
    Ok(out)
}
