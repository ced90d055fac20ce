//! Which batches have been taken: the bus delivers at least once, and not always in order.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// VMs whose last batches are remembered.
const VMS_MAX: usize = 1024;
/// How far behind its VM's last batch one may be; an earlier one counts as taken.
const LATE_MAX: u64 = 64;

/// The batches of one VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Vm {
    name: String,
    /// The highest number taken.
    last: u64,
    /// Bit `i` is set if number `last - 1 - i` was taken.
    before: u64,
}

/// The batches taken, by VM; the VM heard of longest ago comes first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seen {
    vms: VecDeque<Vm>,
}

impl Seen {
    /// Takes a batch; false if it was taken before.
    pub fn take(&mut self, vm: &str, number: u64) -> bool {
        let known = self.vms.iter().position(|known| known.name == vm);
        let known = known.and_then(|at| self.vms.remove(at));
        if known.is_none() && self.vms.len() >= VMS_MAX {
            self.vms.pop_front();
        }
        let mut entry = known.unwrap_or_else(|| Vm { name: vm.to_owned(), last: 0, before: 0 });
        let is_new = entry.take(number);
        self.vms.push_back(entry);
        is_new
    }
}

impl Vm {
    fn take(&mut self, number: u64) -> bool {
        if self.last == 0 {
            // The first that is heard of a VM; those before it may still come.
            (self.last, self.before) = (number, 0);
            return true;
        }
        if let Some(ahead) = number.checked_sub(self.last).filter(|ahead| *ahead > 0) {
            let left = |bits: u64, by: u64| u32::try_from(by).ok().and_then(|by| bits.checked_shl(by));
            self.before = left(self.before, ahead).unwrap_or(0) | left(1, ahead - 1).unwrap_or(0);
            self.last = number;
            return true;
        }
        let behind = self.last - number;
        if behind == 0 || behind > LATE_MAX {
            return false;
        }
        let bit = 1_u64 << (behind - 1);
        let is_new = self.before & bit == 0;
        self.before |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_batch_counts_once_in_whatever_order_it_comes() {
        let mut seen = Seen::default();
        let taken = [1, 1, 3, 2, 2, 3, 200, 137, 135, 3].map(|number| seen.take("v", number));
        assert_eq!(taken, [true, false, true, true, false, false, true, true, false, false]);
        assert!(seen.take("w", 1) && seen.take("w", 2) && !seen.take("w", 1));
    }

    #[test]
    fn vms_are_bounded_and_what_is_kept_is_what_it_was() {
        let mut seen = Seen::default();
        for vm in 0..2 * VMS_MAX {
            seen.take(&format!("vm{vm}"), 7);
        }
        assert_eq!(seen.vms.len(), VMS_MAX);
        let kept: Seen = serde_json::from_str(&serde_json::to_string(&seen).expect("text")).expect("kept");
        assert_eq!(kept, seen);
    }

    proptest! {
        #[test]
        fn no_batch_within_the_window_is_lost_or_counted_twice(numbers in prop::collection::vec(1_u64..60, 0..200)) {
            let (mut seen, mut taken) = (Seen::default(), BTreeSet::new());
            for number in numbers {
                prop_assert_eq!(seen.take("v", number), taken.insert(number));
            }
        }
    }
}
