//! Limits that the fleet shares, as the workers of one Envoy see them.
//!
//! What is leased lies in shared cells, beside what all workers asked for since the last exchange;
//! one VM leases for all of them (see `sync/leases.rs`). Nothing here waits for anybody.

use std::collections::BTreeMap;

use tidegate_core::limit::fair::Supply;
use tidegate_core::limit::lease::{Holding, HoldingSet, Mode, OnLoss, View};
use tidegate_core::limit::{Bucket, Look, Rate};
use tidegate_core::wire::leases::ASKS_MAX;

use crate::cells::{self, Table, Updated};
use crate::place::Place;
use crate::ports::SharedCells;

/// How long the last exchange may lie back before this gateway counts as alone, in nanoseconds:
/// longer than a slow exchange and the pause before it.
const HEARD_NS: u64 = 2_500_000_000;
/// Bytes of one pool in the cell of what was asked for.
const ASKED_BYTES: usize = 32;

/// A bucket, and tokens beyond those asked for; or the bucket, and nanoseconds to wait.
pub type Outcome = Result<(Bucket, u64), (Bucket, u64)>;

/// What was asked of one pool since the last exchange, refused or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The pool's rate.
    pub rate: Rate,
    /// Tokens.
    pub tokens: u64,
}

/// What is known of the fleet, in the cell that all workers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Number of this Envoy.
    pub gateway: u64,
    /// When the pools were last reached; 0 while they are not.
    pub at_ns: u64,
    /// Gateways of the fleet, as last known.
    pub gateways: u32,
}

impl Heard {
    /// Reads the cell; nothing was heard before the first exchange.
    pub fn read(shared: &impl SharedCells) -> Self {
        let bytes = shared.read(cells::FLEET).bytes;
        let parts = bytes.split_first_chunk::<8>().and_then(|(gateway, rest)| {
            let (at, rest) = rest.split_first_chunk::<8>()?;
            Some((u64::from_le_bytes(*gateway), u64::from_le_bytes(*at), rest.try_into().ok()?))
        });
        let (gateway, at_ns, gateways) = parts.unwrap_or((0, 0, [1, 0, 0, 0]));
        Self { gateway, at_ns, gateways: u32::from_le_bytes(gateways).max(1) }
    }

    /// Writes the cell.
    pub fn write(&self, shared: &impl SharedCells) {
        let Self { gateway, at_ns, gateways } = self;
        let mut bytes = [gateway.to_le_bytes(), at_ns.to_le_bytes()].concat();
        bytes.extend_from_slice(&gateways.to_le_bytes());
        shared.write(cells::FLEET, &bytes, 0);
    }

    /// How this gateway stands to the fleet.
    pub fn view(&self, now_ns: u64, on_loss: OnLoss) -> View {
        let is_leased = self.at_ns > 0 && now_ns.abs_diff(self.at_ns) < HEARD_NS;
        let mode = if is_leased { Mode::Leased } else { Mode::Alone(on_loss) };
        View { mode, gateways: self.gateways }
    }
}

/// One VM's part.
#[derive(Debug)]
pub struct Fleet {
    view: View,
    now_ns: u64,
    asked: BTreeMap<u64, Asked>,
}

impl Default for Fleet {
    fn default() -> Self {
        let view = View { mode: Mode::Alone(OnLoss::Share), gateways: 1 };
        Self { view, now_ns: 0, asked: BTreeMap::new() }
    }
}

impl Fleet {
    /// Tokens of a pool: as many as are worth taking `at_once`, else just `tokens`, else the wait.
    pub fn take(
        &mut self,
        shared: &impl SharedCells,
        pool: u64,
        tokens: u64,
        at_once: u64,
        now_ns: u64,
        rate: Rate,
    ) -> Updated<Outcome> {
        self.now_ns = now_ns;
        let view = self.view;
        let outcome = update(shared, pool, |set| {
            for amount in [at_once, tokens] {
                if let Ok(holding) = set.take(pool, amount, now_ns, rate, view) {
                    return (true, Ok((shadow(&holding, now_ns, rate, view), amount - tokens)));
                }
            }
            let mut holding = set.get(pool);
            let bucket = shadow(&holding, now_ns, rate, view);
            (false, Err((bucket, holding.take(tokens, now_ns, rate, view).err().unwrap_or(0))))
        });
        let extra = match &outcome {
            Updated::Written(Ok((_, extra))) | Updated::Kept(Ok((_, extra))) => *extra,
            _ => 0,
        };
        self.note(pool, tokens.saturating_add(extra), rate);
        outcome
    }

    /// What this gateway can spend of a pool; `None` while it does not count.
    pub fn supply(&self, shared: &impl SharedCells, pool: u64, now_ns: u64, rate: Rate) -> Option<Supply> {
        held(shared, pool).supply(now_ns, rate, self.view)
    }

    /// What the pool would say, as far as this gateway knows; nothing is taken.
    pub fn look(&self, shared: &impl SharedCells, pool: u64, tokens: u64, now_ns: u64, rate: Rate) -> Look {
        let mut holding = held(shared, pool);
        Look {
            remaining: holding.remaining(now_ns, rate, self.view),
            reset_ns: shadow(&holding, now_ns, rate, self.view).reset_ns(now_ns, rate),
            wait_ns: holding.take(tokens, now_ns, rate, self.view).err().unwrap_or(0),
            share: None,
        }
    }

    /// What was asked for and refused is to be leased too.
    pub fn note_refused(&mut self, place: Place, tokens: u64, rate: Rate) {
        if let Some(pool) = place.pool() {
            self.note(pool, tokens, rate);
        }
    }

    /// Puts back what was taken and not needed.
    pub fn put_back(&self, shared: &impl SharedCells, pool: u64, tokens: u64, rate: Rate) -> Option<Supply> {
        let (now_ns, view) = (self.now_ns, self.view);
        change(shared, pool, now_ns, |holding| {
            holding.refund(tokens, now_ns, rate, view);
            holding.supply(now_ns, rate, view)
        })?
    }

    /// Takes what was used already.
    pub fn charge(
        &mut self,
        shared: &impl SharedCells,
        pool: u64,
        tokens: u64,
        now_ns: u64,
        rate: Rate,
    ) -> Option<Supply> {
        self.now_ns = now_ns;
        let view = self.view;
        self.note(pool, tokens, rate);
        change(shared, pool, now_ns, |holding| {
            holding.charge(tokens, now_ns, rate, view);
            holding.supply(now_ns, rate, view)
        })?
    }

    /// Tells the VM that leases what was asked for here, and learns how the gateway stands.
    pub fn on_tick(&mut self, shared: &impl SharedCells, now_ns: u64, on_loss: OnLoss) {
        self.now_ns = now_ns;
        self.view = Heard::read(shared).view(now_ns, on_loss);
        if self.asked.is_empty() {
            return;
        }
        let outcome = cells::update(shared, cells::ASKED, |bytes| {
            let mut all = decode(bytes);
            for (pool, asked) in &self.asked {
                add(&mut all, *pool, *asked);
            }
            (Some(encode(&all)), ())
        });
        if matches!(outcome, Updated::Written(())) {
            self.asked.clear();
        }
    }

    /// How the gateway stands to the fleet.
    pub const fn view(&self) -> View {
        self.view
    }

    /// Beyond the bound a pool is not leased for in this round.
    fn note(&mut self, pool: u64, tokens: u64, rate: Rate) {
        add(&mut self.asked, pool, Asked { rate, tokens });
    }
}

/// Takes what all workers asked for since the last time.
pub fn collect(shared: &impl SharedCells) -> BTreeMap<u64, Asked> {
    let outcome = cells::update(shared, cells::ASKED, |bytes| match bytes {
        [] => (None, BTreeMap::new()),
        bytes => (Some(Vec::new()), decode(bytes)),
    });
    match outcome {
        Updated::Written(all) | Updated::Kept(all) => all,
        // The next round takes it.
        Updated::Contended => BTreeMap::new(),
    }
}

/// Changes the holding of a pool. Contended past the bound, nothing changes: what was to be put
/// back is lost until the pool refills, and what was to be charged is forgiven.
pub fn change<T>(
    shared: &impl SharedCells,
    pool: u64,
    now_ns: u64,
    mut change: impl FnMut(&mut Holding) -> T,
) -> Option<T> {
    let outcome = update(shared, pool, |set| {
        let mut holding = set.get(pool);
        let outcome = change(&mut holding);
        set.put(pool, holding, now_ns);
        (true, outcome)
    });
    match outcome {
        Updated::Written(outcome) | Updated::Kept(outcome) => Some(outcome),
        Updated::Contended => None,
    }
}

fn update<T>(
    shared: &impl SharedCells,
    pool: u64,
    mut change: impl FnMut(&mut HoldingSet) -> (bool, T),
) -> Updated<T> {
    cells::update(shared, &name(pool), |bytes| {
        let mut set = HoldingSet::decode(bytes);
        let (is_changed, outcome) = change(&mut set);
        (is_changed.then(|| set.encode()), outcome)
    })
}

fn held(shared: &impl SharedCells, pool: u64) -> Holding {
    HoldingSet::decode(&shared.read(&name(pool)).bytes).get(pool)
}

fn name(pool: u64) -> cells::Name {
    cells::name(Table::Fleet, (pool % u64::from(cells::FLEET_SETS)) as u32)
}

/// A bucket in which there is as much as in the holding, to describe it by.
fn shadow(holding: &Holding, now_ns: u64, rate: Rate, view: View) -> Bucket {
    let missing = rate.burst().saturating_sub(holding.remaining(now_ns, rate, view));
    Bucket::default().charge(missing, now_ns, rate)
}

fn add(all: &mut BTreeMap<u64, Asked>, pool: u64, asked: Asked) {
    let is_full = all.len() >= ASKS_MAX;
    match all.entry(pool) {
        std::collections::btree_map::Entry::Occupied(mut entry) => {
            let tokens = entry.get().tokens.saturating_add(asked.tokens);
            entry.insert(Asked { tokens, ..asked });
        }
        std::collections::btree_map::Entry::Vacant(entry) if !is_full => {
            entry.insert(asked);
        }
        std::collections::btree_map::Entry::Vacant(_) => {}
    }
}

fn encode(all: &BTreeMap<u64, Asked>) -> Vec<u8> {
    let words = all
        .iter()
        .flat_map(|(pool, asked)| [*pool, asked.rate.interval_ns(), asked.rate.burst(), asked.tokens]);
    words.flat_map(u64::to_le_bytes).collect()
}

fn decode(bytes: &[u8]) -> BTreeMap<u64, Asked> {
    let (entries, _) = bytes.as_chunks::<ASKED_BYTES>();
    let mut all = BTreeMap::new();
    for entry in entries {
        let (words, _) = entry.as_chunks::<8>();
        let [pool, interval_ns, burst, tokens] = words else { continue };
        let number = |word: &[u8; 8]| u64::from_le_bytes(*word);
        let rate = Rate::from_parts(number(interval_ns), number(burst));
        add(&mut all, number(pool), Asked { rate, tokens: number(tokens) });
    }
    all
}
