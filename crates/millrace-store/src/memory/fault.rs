//! Which calls of a handle go wrong, and how: pure and repeatable, from a script or from a seed.

use std::collections::BTreeMap;

/// The calls a plan tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is the port method of the same name")]
pub enum Call {
    RenewNode,
    ReadNode,
    FenceNode,
    Confirm,
    LastEpoch,
    Epochs,
    InsertEpoch,
    ReleaseEpoch,
    Append,
    LastChunk,
    ReadLog,
    Put,
    Load,
    PutMark,
    LoadMark,
    PutMember,
    Members,
    PutSamples,
    Samples,
    ForgetSamples,
    PutCatalog,
    Catalogs,
    PutErasure,
    Erasures,
    PutReceipt,
    Receipts,
    Rewrite,
    Parts,
    Compact,
    Seen,
    MarkWindow,
}

impl Call {
    /// True when the call changes the store.
    #[must_use]
    pub fn writes(self) -> bool {
        match self {
            Self::RenewNode
            | Self::FenceNode
            | Self::InsertEpoch
            | Self::ReleaseEpoch
            | Self::Append
            | Self::Put
            | Self::PutMark
            | Self::PutMember
            | Self::PutSamples
            | Self::ForgetSamples
            | Self::PutCatalog
            | Self::PutErasure
            | Self::PutReceipt
            | Self::Rewrite
            | Self::Compact
            | Self::MarkWindow => true,
            Self::ReadNode
            | Self::Confirm
            | Self::LastEpoch
            | Self::Epochs
            | Self::LastChunk
            | Self::ReadLog
            | Self::Load
            | Self::LoadMark
            | Self::Members
            | Self::Samples
            | Self::Catalogs
            | Self::Erasures
            | Self::Receipts
            | Self::Parts
            | Self::Seen => false,
        }
    }
}

/// When a write that was held back is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landing {
    /// After so many further calls to the store, by any handle.
    AfterCalls(u64),
    /// When the test says so.
    OnDemand,
}

/// What goes wrong with a call. A read knows only `Delayed`, `Unavailable` and `Failed`; anything else
/// makes it `Unavailable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Never applied; the outcome reported is unknown.
    Lost,
    /// Applied at once; the outcome reported is unknown.
    AppliedUnknown,
    /// Of an append or a put, the first half of the items is applied; the outcome reported is
    /// unknown. Any other write is lost.
    Torn,
    /// Reported unknown at once and applied later. A conditional write is decided when it lands.
    Late(Landing),
    /// The caller waits; then it is applied and its outcome reported.
    Delayed(Landing),
    /// Not applied, and reported so.
    Unavailable,
    /// Not applied; this handle can write nothing any more, as on a full disk.
    Failed,
}

/// How often each fault strikes, in 1,000 calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// [`Fault::Lost`], of writes.
    pub lost: u32,
    /// [`Fault::AppliedUnknown`], of writes.
    pub applied_unknown: u32,
    /// [`Fault::Torn`], of writes.
    pub torn: u32,
    /// [`Fault::Late`], of writes; they land after 1 to `late_calls_max` further calls.
    pub late: u32,
    /// The greatest number of calls a late write waits for; 0 counts as 1.
    pub late_calls_max: u64,
    /// [`Fault::Delayed`], of writes, by 1 to `late_calls_max` further calls. Only where something
    /// else goes on meanwhile, or lets it land.
    pub delayed: u32,
    /// [`Fault::Unavailable`], of all calls.
    pub unavailable: u32,
}

impl Rates {
    /// Every fault often enough that a run of a hundred calls meets most of them.
    #[must_use]
    pub fn rough() -> Self {
        Self {
            lost: 40,
            applied_unknown: 40,
            torn: 20,
            late: 60,
            late_calls_max: 40,
            delayed: 0,
            unavailable: 40,
        }
    }
}

/// Which calls of one handle go wrong.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    script: Vec<(Call, u64, Fault)>,
    random: Option<(SplitMix64, Rates)>,
    counts: BTreeMap<Call, u64>,
}

impl FaultPlan {
    /// No faults.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Faults drawn from a seed.
    #[must_use]
    pub fn seeded(seed: u64, rates: Rates) -> Self {
        Self { random: Some((SplitMix64(seed), rates)), ..Self::default() }
    }

    /// Adds `fault` for the `nth` call (from 0) of one kind.
    #[must_use]
    pub fn on(mut self, call: Call, nth: u64, fault: Fault) -> Self {
        self.script.push((call, nth, fault));
        self
    }

    /// Adds `fault` for the first `n` calls of one kind.
    #[must_use]
    pub fn on_first(self, n: u64, call: Call, fault: Fault) -> Self {
        (0..n).fold(self, |plan, nth| plan.on(call, nth, fault))
    }

    /// How many calls of one kind were made under this plan.
    #[must_use]
    pub fn count(&self, call: Call) -> u64 {
        self.counts.get(&call).copied().unwrap_or(0)
    }

    /// The fate of the next call.
    pub fn next(&mut self, call: Call) -> Option<Fault> {
        let count = self.counts.entry(call).or_default();
        let nth = *count;
        *count += 1;
        let scripted =
            self.script.iter().find(|(on, at, _)| *on == call && *at == nth).map(|(.., f)| *f);
        scripted.or_else(|| {
            let (random, rates) = self.random.as_mut()?;
            draw(random, rates, call.writes())
        })
    }
}

fn draw(random: &mut SplitMix64, rates: &Rates, writes: bool) -> Option<Fault> {
    let mut ticket = u32::try_from(random.below(1_000)).unwrap_or(0); // below 1,000
    let after = 1 + random.below(rates.late_calls_max.max(1));
    let faults = [
        (rates.unavailable, Fault::Unavailable),
        (rates.lost, Fault::Lost),
        (rates.applied_unknown, Fault::AppliedUnknown),
        (rates.torn, Fault::Torn),
        (rates.late, Fault::Late(Landing::AfterCalls(after))),
        (rates.delayed, Fault::Delayed(Landing::AfterCalls(after))),
    ];
    for (rate, fault) in faults.into_iter().take(if writes { 6 } else { 1 }) {
        if ticket < rate {
            return Some(fault);
        }
        ticket -= rate;
    }
    None
}

/// Steele, Lea and Flood's SplitMix64: a seed in, the same numbers out, everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, nearly uniform; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}
