//! What can happen next.

use std::fmt::Arguments;

use super::state::{Epoch, Mark, NODES, Node, Owner, Phase, RUNS, Row, State, UnderWay, Write};
use super::{Bounds, Without};

fn node_of(run: u8) -> usize {
    usize::from(run) % NODES
}

impl State {
    /// What the state is an example of: see [`super::Found::met`].
    pub(super) fn meets(&self, bounds: &Bounds) -> [bool; 4] {
        let last = self.last_epoch();
        let owns = |run: u8| matches!(self.runs[usize::from(run)], Phase::Owner(_));
        let sealed = || (1..last).filter_map(|epoch| Some((epoch, self.epoch(epoch)?)));
        let beyond = |epoch: u8, end: u8| {
            (end + 1..=bounds.chunks).any(|sequence| self.row(epoch, sequence) != Row::Absent)
        };
        [
            self.acknowledged.iter().flatten().any(Option::is_some),
            sealed().any(|(_, row)| owns(row.run)),
            sealed().any(|(epoch, _)| self.end_of(epoch).is_some_and(|end| beyond(epoch, end))),
            self.epochs.iter().flatten().any(|row| row.released.is_some()),
        ]
    }

    /// What can happen next: the states after it, each with what happened where that is asked for.
    pub(super) fn steps(
        &self,
        bounds: &Bounds,
        without: Without,
        named: bool,
    ) -> Vec<(String, Self)> {
        let mut stepper = Stepper { state: self, bounds, without, named, steps: Vec::new() };
        stepper.landings();
        for run in 0..RUNS.min(usize::from(bounds.runs)) as u8 {
            stepper.steps_of(run);
        }
        stepper.steps
    }

    fn land(&mut self, write: Write) {
        match write {
            Write::Append { epoch, sequence, run } => {
                let row = self.row_mut(epoch, sequence);
                *row = match *row {
                    // The rest of its replicas come later, or never.
                    Row::Absent => Row::Partial(run),
                    Row::Partial(_) | Row::Full(_) => Row::Full(run),
                };
                if matches!(row, Row::Partial(_)) {
                    self.send(write);
                }
            }
            Write::Mark { version, place, run } => {
                if version > self.mark.version {
                    self.mark = Mark { version, place };
                }
                if let Phase::Owner(owner) = &mut self.runs[usize::from(run)] {
                    owner.marking = false;
                    self.known_mark = self.known_mark.max(place);
                }
            }
            Write::Fence { run } => {
                let node = &mut self.nodes[node_of(run)];
                if node.run == Some(run) {
                    node.fenced = true;
                }
            }
            Write::Open { epoch, run, previous_end } => {
                if self.last_epoch() + 1 == epoch {
                    *self.epoch_mut(epoch) = Some(Epoch { run, previous_end, released: None });
                }
            }
            Write::Release { epoch, run, end } => {
                // An epoch that was sealed has another one after it, which its condition finds.
                if self.last_epoch() == epoch
                    && let Some(row) = self.epoch_mut(epoch)
                    && row.run == run
                    && row.released.is_none()
                {
                    row.released = Some(end);
                }
            }
        }
    }
}

/// Collects the steps out of a state.
struct Stepper<'s> {
    state: &'s State,
    bounds: &'s Bounds,
    without: Without,
    named: bool,
    steps: Vec<(String, State)>,
}

impl Stepper<'_> {
    /// A step that changes a copy of the state.
    fn step(&mut self, name: Arguments<'_>, change: impl FnOnce(&mut State)) {
        let mut next = self.state.clone();
        change(&mut next);
        let name = if self.named { name.to_string() } else { String::new() };
        self.steps.push((name, next));
    }

    fn goes(&mut self, run: u8, what: &str, phase: Phase) {
        let run_of = usize::from(run);
        self.step(format_args!("run {run} {what}"), |next| next.runs[run_of] = phase);
    }

    /// Writes that are on their way land.
    fn landings(&mut self) {
        for (index, write) in self.state.writes.iter().enumerate() {
            self.step(format_args!("lands: {write:?}"), |next| {
                next.writes.remove(index);
                next.land(*write);
            });
        }
    }

    /// A conditional write: it executes now, or its sender never learns what becomes of it. Either way
    /// the sender goes on in `phase`.
    fn conditional(&mut self, run: u8, write: Write, phase: Phase) {
        let run_of = usize::from(run);
        self.step(format_args!("run {run} writes: {write:?}"), |next| {
            next.runs[run_of] = phase;
            next.land(write);
        });
        if self.state.unknown < self.bounds.unknown && !self.state.writes.contains(&write) {
            self.step(format_args!("run {run} writes, outcome unknown: {write:?}"), |next| {
                next.runs[run_of] = phase;
                next.unknown += 1;
                next.send(write);
            });
        }
    }

    fn steps_of(&mut self, run: u8) {
        match self.state.runs[usize::from(run)] {
            Phase::Unborn => {
                // In order of their numbers, so that equal histories are met once.
                if run == 0 || self.state.runs[usize::from(run) - 1] != Phase::Unborn {
                    self.step(format_args!("run {run} starts"), |next| {
                        next.nodes[node_of(run)] = Node { run: Some(run), fenced: false };
                        next.runs[usize::from(run)] = Phase::Idle;
                    });
                }
            }
            Phase::Idle => {
                let last = self.state.last_epoch();
                let phase = match self.state.epoch(last) {
                    _ if last >= self.bounds.epochs => return,
                    None => Phase::Fenced { epoch: 0 },
                    Some(row) if row.run == run => owner(last, row.previous_end),
                    Some(row) if row.released.is_some() => Phase::Fenced { epoch: last },
                    Some(_) if self.without == Without::Fence => Phase::Fenced { epoch: last },
                    Some(_) => Phase::Fencing { epoch: last },
                };
                self.goes(run, "looks for the last epoch", phase);
            }
            Phase::Fencing { epoch } => self.fence(run, epoch),
            Phase::Fenced { epoch } => self.read_end(run, epoch),
            Phase::Sealing { epoch, end } => self.seal(run, epoch, end),
            Phase::Owner(owner) => {
                self.append(run, owner);
                self.put_mark(run, owner);
                self.release(run, owner);
            }
            Phase::Gone => {}
        }
    }

    fn fence(&mut self, run: u8, epoch: u8) {
        let Some(old) = self.state.epoch(epoch).map(|row| row.run) else { return };
        let node = self.state.nodes[node_of(old)];
        if node.run == Some(old) && !node.fenced {
            self.conditional(run, Write::Fence { run: old }, Phase::Fencing { epoch });
        } else {
            self.goes(run, "reads that the owner is fenced", Phase::Fenced { epoch });
        }
    }

    /// Reads the old epoch's rows. A row that is on no quorum is seen by some reads.
    fn read_end(&mut self, run: u8, epoch: u8) {
        let state = self.state;
        let Some(row) = state.epoch(epoch) else { return self.found(run, epoch, 0) };
        if let Some(end) = row.released {
            return self.found(run, epoch, end);
        }
        let is_full = |sequence: &u8| matches!(state.row(epoch, *sequence), Row::Full(_));
        let end = (1..=self.bounds.chunks).take_while(is_full).count() as u8;
        self.found(run, epoch, end);
        if end < self.bounds.chunks && matches!(state.row(epoch, end + 1), Row::Partial(_)) {
            self.found(run, epoch, end + 1);
        }
    }

    fn found(&mut self, run: u8, epoch: u8, end: u8) {
        let rewrites = self.without != Without::RewriteOfLast && end > 0;
        self.step(format_args!("run {run} finds the end {end} of epoch {epoch}"), |next| {
            if rewrites && let Row::Partial(by) = next.row(epoch, end) {
                *next.row_mut(epoch, end) = Row::Full(by);
            }
            next.runs[usize::from(run)] = Phase::Sealing { epoch, end };
        });
    }

    fn seal(&mut self, run: u8, epoch: u8, end: u8) {
        let Some(row) = self.state.epoch(epoch + 1) else {
            let write = Write::Open { epoch: epoch + 1, run, previous_end: end };
            self.conditional(run, write, Phase::Sealing { epoch, end });
            let is_mine =
                |write: &Write| matches!(write, Write::Open { run: by, .. } if *by == run);
            if self.state.writes.iter().any(is_mine) {
                // It does not know what became of its write, and begins anew.
                self.goes(run, "looks for the end once more", Phase::Fenced { epoch });
            }
            return;
        };
        let replayed = if self.without == Without::EndOfRow { end } else { row.previous_end };
        let phase = if row.run == run { owner(epoch + 1, replayed) } else { Phase::Idle };
        self.goes(run, "reads who opened the next epoch", phase);
    }

    fn append(&mut self, run: u8, owner: Owner) {
        let (epoch, sequence) = (owner.epoch, owner.confirmed + 1);
        let to = |under_way| Phase::Owner(Owner { under_way, ..owner });
        let node = self.state.nodes[node_of(run)];
        let unfenced =
            !node.fenced && (node.run == Some(run) || self.without == Without::Incarnation);
        let is_silent = owner.released && self.without != Without::SilenceAfterRelease;
        match owner.under_way {
            UnderWay::Nothing if is_silent || sequence > self.bounds.chunks => {}
            UnderWay::Nothing => self.step(format_args!("run {run} appends"), |next| {
                next.runs[usize::from(run)] = to(UnderWay::Sent { looked: false });
                next.send(Write::Append { epoch, sequence, run });
            }),
            UnderWay::Sent { looked } => {
                if self.state.row(epoch, sequence) == Row::Full(run) {
                    self.goes(run, "knows its append", to(UnderWay::Known { looked }));
                }
                if self.without == Without::ConfirmationAfterAppend && !looked && unfenced {
                    self.goes(run, "looks for a fence", to(UnderWay::Sent { looked: true }));
                }
            }
            UnderWay::Known { looked } => {
                if !unfenced && !looked && self.without != Without::Confirmation {
                    return self.goes(run, "finds itself fenced", Phase::Gone);
                }
                let (under_way, confirmed) = (UnderWay::Nothing, sequence);
                self.step(format_args!("run {run} confirms and acknowledges"), |next| {
                    let after = Owner { under_way, confirmed, ..owner };
                    next.runs[usize::from(run)] = Phase::Owner(after);
                    next.acknowledge(epoch, sequence, run);
                });
            }
        }
    }

    fn put_mark(&mut self, run: u8, owner: Owner) {
        if owner.marks >= self.bounds.marks || owner.marking || owner.released {
            return;
        }
        let marks = owner.marks + 1;
        // The clock of the first node is ahead: without a floor its versions are the greater ones.
        let count = marks + if node_of(run) == 0 { 100 } else { 0 };
        let version = (if self.without == Without::Floor { 0 } else { owner.epoch }, count);
        let is_ahead =
            self.without == Without::ConfirmedMarks && owner.under_way != UnderWay::Nothing;
        let place = (owner.epoch, owner.confirmed + u8::from(is_ahead));
        self.step(format_args!("run {run} puts a mark at {place:?}"), |next| {
            let after = Owner { marks, marking: true, ..owner };
            next.runs[usize::from(run)] = Phase::Owner(after);
            next.send(Write::Mark { version, place, run });
        });
    }

    /// Only when no append and no mark is on its way.
    fn release(&mut self, run: u8, owner: Owner) {
        let is_quiet =
            owner.under_way == UnderWay::Nothing || self.without == Without::QuietRelease;
        if !self.bounds.releases || owner.released || owner.marking || !is_quiet {
            return;
        }
        let write = Write::Release { epoch: owner.epoch, run, end: owner.confirmed };
        self.conditional(run, write, Phase::Owner(Owner { released: true, ..owner }));
    }
}

fn owner(epoch: u8, replayed_to: u8) -> Phase {
    Phase::Owner(Owner {
        epoch,
        replayed_to,
        confirmed: 0,
        under_way: UnderWay::Nothing,
        marks: 0,
        marking: false,
        released: false,
    })
}
