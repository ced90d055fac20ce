use super::*;

fn store() -> (tempfile::TempDir, Arc<Store>) {
    let folder = tempfile::tempdir().expect("folder");
    let store = Store::open(&folder.path().join("state.redb")).expect("opens");
    (folder, Arc::new(store))
}

fn nothing() -> Auth {
    crate::config::parse("", &crate::config::Env::new()).expect("valid").auth
}

fn configured(key: &str) -> Auth {
    let yaml = format!("auth: {{api_keys: [{{name: ci, tenant: acme, key: {key}}}]}}");
    crate::config::parse(&yaml, &crate::config::Env::new()).expect("valid").auth
}

fn new(name: &str) -> NewKey {
    NewKey {
        name: name.into(),
        tenant: "acme".into(),
        role: Role::Operator,
        expires_at: None,
        allowed_models: None,
    }
}

fn by() -> Actor {
    Actor::system("test")
}

fn who(keys: &Keys, credential: &str) -> Option<Identity> {
    keys.authenticate(credential, unix_ms()).map(|(identity, _)| identity)
}

#[test]
fn the_first_start_makes_one_admin_key_and_later_ones_know_it() {
    let (_folder, store) = store();
    let (keys, made) = Keys::start(store.clone(), &nothing(), None).expect("starts");
    let made = made.expect("a key");
    assert_eq!(who(&keys, &made).map(|i| i.role), Some(Role::Admin));
    let generation = keys.generation();
    let (again, second) = Keys::start(store, &nothing(), None).expect("starts");
    assert_eq!(second, None);
    assert!(who(&again, &made).is_some());
    assert_eq!(again.generation(), generation, "nothing changed, so no verdict is forgotten");
}

#[test]
fn an_admin_key_of_the_environment_or_the_file_is_enough() {
    let (_folder, store) = store();
    let digest = Digest::of("from-the-environment");
    let (keys, made) = Keys::start(store, &nothing(), Some(digest)).expect("starts");
    assert_eq!(made, None);
    assert_eq!(who(&keys, "from-the-environment").map(|i| i.role), Some(Role::Admin));
    assert_eq!(who(&keys, "from-the-environmen"), None);
    assert_eq!(who(&keys, ""), None);
    assert_eq!(who(&keys, &"x".repeat(100_000)), None);
}

#[test]
fn revoking_raises_the_generation_for_good_and_making_does_not() {
    let (_folder, store) = store();
    let (keys, _) = Keys::start(store.clone(), &nothing(), None).expect("starts");
    let before = keys.generation();
    let (record, key) = keys.create(new("a"), &by()).expect("made");
    let made = keys.generation();
    assert_eq!(made, before, "nobody can have been told that it is no key");
    assert_eq!(who(&keys, &key).and_then(|i| i.key), Some(record.id.clone()));
    keys.revoke(&record.id, &by()).expect("revoked");
    let revoked = keys.generation();
    assert!(revoked > made && who(&keys, &key).is_none());
    assert!(matches!(keys.revoke(&record.id, &by()), Err(KeyError::Unknown)));
    let (again, _) = Keys::start(store, &nothing(), None).expect("starts");
    assert!(again.generation() >= revoked && who(&again, &key).is_none());
}

#[test]
fn changes_one_by_one_come_to_what_a_restart_finds() {
    let (_folder, store) = store();
    let (keys, _) = Keys::start(store.clone(), &configured("first-key-of-ci-1"), None).expect("starts");
    let limited = NewKey { allowed_models: Some(vec!["m".to_owned()]), ..new("limited") };
    let made: Vec<_> = [new("a"), new("b"), limited.clone(), limited]
        .map(|new| keys.create(new, &by()).expect("made"))
        .into();
    keys.revoke(&made[0].0.id, &by()).expect("revoked");
    keys.revoke(&made[2].0.id, &by()).expect("revoked");
    let (rotated, second) = keys.rotate(&made[1].0.id, 60_000, &by()).expect("rotated");
    assert!(!keys.install(&configured("first-key-of-ci-1")).expect("installs"), "nothing is different");
    let (again, _) = Keys::start(store, &configured("first-key-of-ci-1"), None).expect("starts");
    assert_eq!(again.generation(), keys.generation());
    for keys in [&keys, &again] {
        assert_eq!(who(keys, &made[0].1), None);
        assert_eq!(who(keys, &made[2].1), None);
        let limited = who(keys, &made[3].1).expect("there");
        assert_eq!(keys.allowed_models(&limited).expect("a list").len(), 1, "another key had the same list");
        assert_eq!(who(keys, &made[1].1).and_then(|i| i.key), Some(rotated.id.clone()), "in its grace");
        assert_eq!(who(keys, &second).and_then(|i| i.key), Some(rotated.id.clone()));
        assert_eq!(keys.list().len(), 4, "admin, ci, the rotated one, the limited one");
    }
}

#[test]
fn a_changed_file_changes_the_keys_and_raises_the_generation() {
    let (_folder, store) = store();
    let (keys, _) = Keys::start(store, &configured("first-key-of-ci-1"), None).expect("starts");
    assert!(!keys.install(&configured("first-key-of-ci-1")).expect("same"));
    assert!(keys.install(&configured("second-key-of-ci")).expect("changed"));
    assert!(who(&keys, "first-key-of-ci-1").is_none());
    assert_eq!(who(&keys, "second-key-of-ci").map(|i| i.tenant).as_deref(), Some("acme"));
    assert!(matches!(keys.revoke("ci", &by()), Err(KeyError::NotStored(Source::Config))));
}

#[test]
fn neither_listing_nor_debugging_shows_a_key_or_its_digest() {
    let (_folder, store) = store();
    let (keys, _) = Keys::start(store, &nothing(), None).expect("starts");
    let (_, key) = keys.create(new("a"), &by()).expect("made");
    let shown = format!("{:?}", keys.list());
    assert!(!shown.contains(&key) && !shown.contains(&Digest::of(&key).to_string()));
}

#[test]
fn a_rotated_key_has_a_new_secret_and_the_old_one_for_its_grace_only() {
    let (_folder, store) = store();
    let (keys, _) = Keys::start(store.clone(), &nothing(), None).expect("starts");
    let (record, first) = keys.create(new("a"), &by()).expect("made");
    let (rotated, second) = keys.rotate(&record.id, 60_000, &by()).expect("rotated");
    assert_eq!((rotated.id.as_str(), first == second), (record.id.as_str(), false));
    let until_ms = rotated.previous.expect("grace").until_ms;
    let (identity, left_ms) = keys.authenticate(&first, until_ms - 5).expect("in its grace");
    assert_eq!((identity.key.as_ref(), left_ms), (Some(&record.id), 5));
    assert_eq!(keys.authenticate(&first, until_ms), None);
    assert!(keys.authenticate(&second, until_ms).is_some_and(|(_, left)| left > 1 << 40));
    let (_, third) = keys.rotate(&record.id, 0, &by()).expect("rotated");
    assert!(who(&keys, &first).is_none() && who(&keys, &second).is_none(), "no grace");
    assert!(who(&keys, &third).is_some());
    keys.revoke(&record.id, &by()).expect("revoked");
    assert!(matches!(keys.rotate(&record.id, 0, &by()), Err(KeyError::Unknown)));
    let log = serde_json::to_string(&audit::page(&store, 9, None).expect("reads")).expect("JSON");
    assert!(log.contains("key_created") && log.contains("key_rotated") && log.contains("key_revoked"));
    for secret in [&first, &second, &third] {
        assert!(!log.contains(secret.as_str()) && !log.contains(&Digest::of(secret).to_string()));
    }
}

#[test]
fn a_key_ends_when_it_says() {
    let (_folder, store) = store();
    let (keys, _) = Keys::start(store, &nothing(), None).expect("starts");
    let ends = unix_ms() / 1000 + 100;
    let new = NewKey { expires_at: Some(ends), ..new("a") };
    let (_, key) = keys.create(new, &by()).expect("made");
    assert_eq!(keys.authenticate(&key, ends * 1000 - 7).map(|(_, left)| left), Some(7));
    assert_eq!(keys.authenticate(&key, ends * 1000), None);
}

#[test]
fn an_allow_list_goes_by_its_models_and_fails_closed() {
    let (_folder, store) = store();
    let (keys, _) = Keys::start(store, &nothing(), None).expect("starts");
    let mut scopes = Vec::new();
    for models in [["a", "b"], ["b", "a"], ["a", "c"]] {
        let models = Some(models.map(str::to_owned).to_vec());
        let new = NewKey { allowed_models: models, ..new("a") };
        let (record, _) = keys.create(new, &by()).expect("made");
        let identity = record.identity();
        assert_eq!(keys.allowed_models(&identity).expect("a list").len(), 2);
        scopes.push((identity.scope.clone(), identity, record.id));
    }
    assert!(scopes[0].0 == scopes[1].0 && scopes[0].0 != scopes[2].0);
    keys.revoke(&scopes[2].2, &by()).expect("revoked");
    assert!(keys.allowed_models(&scopes[2].1).expect("a list").is_empty(), "unknown lists allow nothing");
    assert_eq!(keys.allowed_models(&Identity::anonymous("demo")), None);
}

#[test]
fn use_is_noted_and_survives_changes_of_other_keys() {
    let (_folder, store) = store();
    let (keys, _) = Keys::start(store, &nothing(), None).expect("starts");
    let (record, _) = keys.create(new("a"), &by()).expect("made");
    keys.used(&record.identity(), 70);
    keys.used(&record.identity(), 60);
    keys.create(new("b"), &by()).expect("made");
    let last_used = |id: &str| keys.list().into_iter().find(|(r, _)| r.id == id).expect("listed").1;
    assert_eq!((last_used(&record.id), last_used(ADMIN_ID)), (Some(70), None));
}
