use super::*;

fn store() -> (tempfile::TempDir, Arc<Store>) {
    let folder = tempfile::tempdir().expect("folder");
    let store = Store::open(&folder.path().join("state.redb")).expect("opens");
    (folder, Arc::new(store))
}

fn configured(key: &str) -> ApiKey {
    ApiKey { name: "ci".into(), digest: Digest::of(key), tenant: "acme".into(), role: Role::User }
}

fn new(name: &str) -> NewKey {
    NewKey { name: name.into(), tenant: "acme".into(), role: Role::Operator }
}

#[test]
fn the_first_start_makes_one_admin_key_and_later_ones_know_it() {
    let (_folder, store) = store();
    let (keys, made) = Keys::start(store.clone(), &[], None).expect("starts");
    let made = made.expect("a key");
    assert_eq!(keys.authenticate(&made).map(|i| i.role), Some(Role::Admin));
    let generation = keys.generation();
    let (again, second) = Keys::start(store, &[], None).expect("starts");
    assert_eq!(second, None);
    assert!(again.authenticate(&made).is_some());
    assert_eq!(again.generation(), generation, "nothing changed, so no verdict is forgotten");
}

#[test]
fn an_admin_key_of_the_environment_or_the_file_is_enough() {
    let (_folder, store) = store();
    let digest = Digest::of("from-the-environment");
    let (keys, made) = Keys::start(store, &[], Some(digest)).expect("starts");
    assert_eq!(made, None);
    assert_eq!(keys.authenticate("from-the-environment").map(|i| i.role), Some(Role::Admin));
    assert_eq!(keys.authenticate("from-the-environmen"), None);
    assert_eq!(keys.authenticate(""), None);
    assert_eq!(keys.authenticate(&"x".repeat(100_000)), None);
}

#[test]
fn making_and_revoking_raise_the_generation_for_good() {
    let (_folder, store) = store();
    let (keys, _) = Keys::start(store.clone(), &[], None).expect("starts");
    let before = keys.generation();
    let (record, key) = keys.create(&[], new("a")).expect("made");
    let made = keys.generation();
    assert!(made > before);
    assert_eq!(keys.authenticate(&key).and_then(|i| i.key), Some(record.id.clone()));
    keys.revoke(&[], &record.id).expect("revoked");
    let revoked = keys.generation();
    assert!(revoked > made && keys.authenticate(&key).is_none());
    assert!(matches!(keys.revoke(&[], &record.id), Err(KeyError::Unknown)));
    let (again, _) = Keys::start(store, &[], None).expect("starts");
    assert!(again.generation() >= revoked && again.authenticate(&key).is_none());
}

#[test]
fn a_changed_file_changes_the_keys_and_raises_the_generation() {
    let (_folder, store) = store();
    let (keys, _) = Keys::start(store, &[configured("first-key-of-ci-1")], None).expect("starts");
    assert!(!keys.install(&[configured("first-key-of-ci-1")]).expect("same"));
    assert!(keys.install(&[configured("second-key-of-ci")]).expect("changed"));
    assert!(keys.authenticate("first-key-of-ci-1").is_none());
    assert_eq!(keys.authenticate("second-key-of-ci").map(|i| i.tenant).as_deref(), Some("acme"));
    assert!(matches!(keys.revoke(&[], "ci"), Err(KeyError::NotStored(Source::Config))));
}

#[test]
fn neither_listing_nor_debugging_shows_a_key_or_its_digest() {
    let (_folder, store) = store();
    let (keys, _) = Keys::start(store, &[], None).expect("starts");
    let (_, key) = keys.create(&[], new("a")).expect("made");
    let shown = format!("{:?}", keys.list());
    assert!(!shown.contains(&key) && !shown.contains(&Digest::of(&key).to_string()));
}
