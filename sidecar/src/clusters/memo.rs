//! Which cluster a signature is in: what makes a storm of one error cost one judgement.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_core::incident::Signature;
use tidegate_core::incident::cluster::ClusterId;

/// Signatures of one generation; two are kept, so at most twice as many.
const GENERATION_MAX: usize = 32_768;

/// What is known of a signature.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) cluster: ClusterId,
    pub(super) template: Arc<str>,
}

/// Two generations: when the young one is full it becomes the old one, and what was not asked for
/// since is forgotten.
#[derive(Debug, Default)]
pub(super) struct Memo {
    young: HashMap<Signature, Known>,
    old: HashMap<Signature, Known>,
}

impl Memo {
    pub(super) fn get(&mut self, signature: Signature) -> Option<&Known> {
        if !self.young.contains_key(&signature) {
            let known = self.old.remove(&signature)?;
            self.put(signature, known);
        }
        self.young.get(&signature)
    }

    pub(super) fn put(&mut self, signature: Signature, known: Known) {
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(signature, known);
    }

    /// What is known of up to `most` signatures, of those asked for lately first.
    pub(super) fn iter(&self, most: usize) -> impl Iterator<Item = (Signature, &Known)> {
        self.young.iter().chain(&self.old).take(most).map(|(signature, known)| (*signature, known))
    }

    pub(super) fn rename(&mut self, from: &ClusterId, into: &ClusterId) {
        self.move_templates(from, into, |_| true);
    }

    pub(super) fn move_templates(
        &mut self,
        from: &ClusterId,
        into: &ClusterId,
        moved: impl Fn(&str) -> bool,
    ) {
        for known in self.young.values_mut().chain(self.old.values_mut()) {
            if known.cluster == *from && moved(&known.template) {
                known.cluster = into.clone();
            }
        }
    }

    pub(super) fn forget(&mut self, cluster: &ClusterId) {
        self.young.retain(|_, known| known.cluster != *cluster);
        self.old.retain(|_, known| known.cluster != *cluster);
    }
}
