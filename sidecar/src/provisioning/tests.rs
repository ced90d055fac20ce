use std::path::Path;

use super::*;
use crate::config::parse;

const FILE: &str = "\
providers:
  - {name: main, type: openai, base_url: 'http://127.0.0.1:9/v1', api_key: '${MAIN_KEY}', models: [m], weight: 2}
  - {name: spare, type: openai, base_url: 'http://127.0.0.1:9/v1', api_keys: [sk-a, sk-b], models: [m]}
routing: {strategy: random}
";

fn env() -> Env {
    Env::from([("MAIN_KEY".to_owned(), "sk-main".to_owned())])
}

fn config(yaml: &str) -> Config {
    parse(yaml, &env()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn start(folder: &Path, yaml: &str) -> Provisioning {
    let store = Arc::new(Store::open(&folder.join("state.redb")).expect("opens"));
    let seal = Seal::open(folder, &Env::default()).expect("a key");
    Provisioning::start(&config(yaml), store, seal, env(), &mut Registry::default()).expect("starts")
}

fn document(value: Value) -> Document {
    match value {
        Value::Object(fields) => Document::sent(fields).expect("no variables"),
        other => panic!("{other}"),
    }
}

fn new_one(name: &str) -> Document {
    document(json!({
        "name": name, "type": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "sk-new-secret", "models": ["n"]
    }))
}

fn names(provisioning: &Provisioning) -> Vec<String> {
    provisioning.providers().table().list.iter().map(|p| p.name.to_string()).collect()
}

fn weight(provisioning: &Provisioning, name: &str) -> u32 {
    provisioning.providers().table().find(name).expect("there").weight()
}

fn by() -> Actor {
    Actor::system("test")
}

#[tokio::test]
async fn what_is_set_at_run_time_survives_a_restart_and_is_sealed() {
    let folder = tempfile::tempdir().expect("folder");
    let provisioning = start(folder.path(), FILE);
    provisioning.set("new", &new_one("new"), true, &by()).expect("added");
    provisioning.set("main", &document(json!({"weight": 9})), false, &by()).expect("changed");
    provisioning.remove("spare", &by()).expect("removed");
    let fields = json!({"strategy": "least_latency"});
    provisioning.set_routing(fields.as_object().cloned(), &by()).expect("changed");
    drop(provisioning);

    let stored = std::fs::read(folder.path().join("state.redb")).expect("the store");
    assert!(!stored.windows(13).any(|w| w == b"sk-new-secret"), "a secret lies open");

    let provisioning = start(folder.path(), FILE);
    assert_eq!(names(&provisioning), ["main", "new"]);
    assert_eq!(weight(&provisioning, "main"), 9);
    let table = provisioning.providers().table();
    assert_eq!(table.settings.strategy.as_str(), "least_latency");
    let kind = &table.find("main").expect("there").settings.kind;
    let ProviderKind::Remote(remote) = kind else { panic!("{kind:?}") };
    assert_eq!(remote.api_keys[0].expose(), "sk-main", "the file's variables go on to count");
    let origins = ["main", "new"].map(|name| provisioning.origin(name));
    assert_eq!(origins, [Origin::FileChanged, Origin::Runtime]);
    provisioning
        .set("spare", &document(json!({"enabled": false})), false, &by())
        .expect_err("no type is known");
    provisioning.set_routing(None, &by()).expect("back to the file");
    assert_eq!(provisioning.providers().table().settings.strategy.as_str(), "random");
}

#[tokio::test]
async fn another_file_keeps_what_was_set_at_run_time() {
    let folder = tempfile::tempdir().expect("folder");
    let provisioning = start(folder.path(), FILE);
    provisioning.set("main", &document(json!({"weight": 9})), false, &by()).expect("changed");
    provisioning.set("new", &new_one("new"), true, &by()).expect("added");
    let unchanged = provisioning.providers().table().find("new").cloned().expect("there");
    provisioning.reload(&config(&FILE.replace("models: [m], weight: 2", "models: [x]"))).expect("reloaded");
    assert_eq!((names(&provisioning).len(), weight(&provisioning, "main")), (3, 9));
    let table = provisioning.providers().table();
    assert!(table.find("main").expect("there").catalog.find("x").is_some(), "the file's other fields count");
    assert!(Arc::ptr_eq(&unchanged, table.find("new").expect("there")), "what did not change goes on");
}

#[tokio::test]
async fn a_bad_change_changes_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let provisioning = start(folder.path(), FILE);
    let refused = |result: Result<(), ProvisionError>| result.expect_err("refused").to_string();
    let set = |name, value, new| refused(provisioning.set(name, &document(value), new, &by()));
    assert!(set("main", json!({"weight": 0}), false).contains("weight: is 0; must be 1 to 1000"));
    assert!(set("main", json!({"wheight": 1}), false).contains("wheight"));
    assert!(
        set("main", json!({"name": "main", "type": "openai", "base_url": "http://h/v1"}), true)
            .contains("exists")
    );
    let stolen = set("spare", json!({"base_url": "http://evil.example/v1"}), false);
    assert!(stolen.starts_with("api_key: must be sent again"), "{stolen}");
    let stolen = set("spare", json!({"base_url": "http://evil.example/v1", "models": ["x"]}), false);
    assert!(stolen.starts_with("api_key"), "{stolen}");
    assert!(refused(provisioning.remove("nobody", &by())).contains("no provider"));
    let fields = json!({"strategy": "fastest"});
    assert!(refused(provisioning.set_routing(fields.as_object().cloned(), &by())).contains("strategy: "));
    assert_eq!((names(&provisioning).len(), weight(&provisioning, "main")), (2, 2));
}

#[tokio::test]
async fn another_key_or_file_does_not_keep_the_gateway_from_starting() {
    let folder = tempfile::tempdir().expect("folder");
    let provisioning = start(folder.path(), FILE);
    provisioning.set("new", &new_one("new"), true, &by()).expect("added");
    provisioning.set("main", &document(json!({"weight": 9})), false, &by()).expect("changed");
    drop(provisioning);
    // Without `main` in the file, what was set of it is no provider.
    let provisioning = start(folder.path(), "{}");
    assert_eq!(names(&provisioning), ["new"]);
    drop(provisioning);
    std::fs::remove_file(folder.path().join("secret_key")).expect("removed");
    assert_eq!(names(&start(folder.path(), FILE)), ["main", "spare"]);
}

#[tokio::test]
async fn every_change_is_in_the_audit_log_without_secrets() {
    let folder = tempfile::tempdir().expect("folder");
    let provisioning = start(folder.path(), FILE);
    provisioning.set("new", &new_one("new"), true, &by()).expect("added");
    provisioning.set("new", &document(json!({"weight": 5})), false, &by()).expect("changed");
    provisioning.remove("new", &by()).expect("removed");
    provisioning.set_routing(Some(Map::new()), &by()).expect("changed");
    let entries = audit::page(&provisioning.store, 10, None).expect("reads");
    let text = serde_json::to_string(&entries).expect("JSON");
    for word in ["provider_added", "provider_changed", "provider_removed", "routing_changed", "\"weight\":5"]
    {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("sk-"), "{text}");
}

#[tokio::test]
async fn the_number_of_providers_is_bounded() {
    let folder = tempfile::tempdir().expect("folder");
    let provisioning = start(folder.path(), "{}");
    for i in 0..PROVIDERS_MAX {
        let name = format!("p{i}");
        provisioning.set(&name, &new_one(&name), true, &by()).expect("room");
    }
    assert!(matches!(provisioning.set("more", &new_one("more"), true, &by()), Err(ProvisionError::Full)));
}
