//! Where one VM last found answers in the exact cache, so that a repeated hit reads one cell, not
//! two. Only a hint: the entry itself says whose it is.

/// Answers whose place one VM remembers.
const SLOTS: usize = 1024;

/// One VM's hints: the tag of a key, and its way.
#[derive(Debug)]
pub struct Ways {
    slots: Vec<(u64, u8)>,
}

impl Default for Ways {
    fn default() -> Self {
        Self { slots: vec![(0, 0); SLOTS] }
    }
}

impl Ways {
    /// The way in which the key of `tag` was last found.
    #[must_use]
    pub fn hint(&self, tag: u64) -> Option<usize> {
        self.slots
            .get((tag % SLOTS as u64) as usize)
            .filter(|(t, _)| *t == tag)
            .map(|(_, way)| usize::from(*way))
    }

    /// Remembers where it was found.
    pub fn remember(&mut self, tag: u64, way: usize) {
        if let (Some(slot), Ok(way)) = (self.slots.get_mut((tag % SLOTS as u64) as usize), u8::try_from(way))
        {
            *slot = (tag, way);
        }
    }
}
