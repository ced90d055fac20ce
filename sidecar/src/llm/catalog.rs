//! The models of one provider.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use http::HeaderValue;

/// Names, each with the `x-gateway-model` value that goes with it.
type Names = HashMap<Box<str>, HeaderValue>;

/// Models as configured, or as last read from the provider. Before a first list could be read
/// any name is taken: many compatible servers list nothing, and they know best what they have.
#[derive(Debug)]
pub struct Catalog {
    names: RwLock<Option<Arc<Names>>>,
}

impl Catalog {
    /// The operator's list; an empty one leaves it to [`Catalog::learn`].
    #[must_use]
    pub fn new(configured: &[String]) -> Self {
        let catalog = Self { names: RwLock::new(None) };
        if !configured.is_empty() {
            catalog.learn(configured.to_vec());
        }
        catalog
    }

    /// Replaces the list. Names that cannot be a header are left out: nothing could ask for
    /// them by header, and no known model has one.
    pub fn learn(&self, models: Vec<String>) {
        let names = models
            .into_iter()
            .filter_map(|name| HeaderValue::from_str(&name).ok().map(|value| (name.into_boxed_str(), value)));
        let names = Arc::new(names.collect::<Names>());
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = Some(names);
    }

    /// The header value of `model`, if this provider has it.
    #[must_use]
    pub fn find(&self, model: &str) -> Option<HeaderValue> {
        match &*self.names.read().unwrap_or_else(PoisonError::into_inner) {
            Some(names) => names.get(model).cloned(),
            None => HeaderValue::from_str(model).ok(),
        }
    }

    /// Whether a list, the operator's or the provider's, has it.
    #[must_use]
    pub fn lists(&self, model: &str) -> bool {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.as_ref().is_some_and(|names| names.contains_key(model))
    }

    /// The names known, sorted.
    #[must_use]
    pub fn list(&self) -> Vec<Box<str>> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut list: Vec<_> = names.iter().flat_map(|names| names.keys().cloned()).collect();
        list.sort_unstable();
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_list_is_exact() {
        let catalog = Catalog::new(&["b".to_owned(), "a".to_owned()]);
        assert_eq!(catalog.find("a").expect("listed"), "a");
        assert!(catalog.find("c").is_none());
        assert_eq!(catalog.list(), ["a", "b"].map(Box::<str>::from));
    }

    #[test]
    fn without_a_list_any_name_is_taken_until_one_is_read() {
        let catalog = Catalog::new(&[]);
        assert!(catalog.find("anything").is_some() && !catalog.lists("anything"));
        assert!(catalog.find("no\nheader").is_none());
        assert!(catalog.list().is_empty());
        catalog.learn(vec!["a".to_owned()]);
        assert!(catalog.find("anything").is_none());
        assert!(catalog.find("a").is_some());
    }
}
