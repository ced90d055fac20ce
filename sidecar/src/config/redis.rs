//! `redis`: the server or cluster that gateways share.

use std::time::Duration;

use redis::IntoConnectionInfo as _;
use serde::Deserialize;

use super::Check;
use super::value::Span;
use crate::secret::Secret;

/// Most addresses of one cluster; its other nodes are found from them.
const NODES_MAX: usize = 64;
/// How long a call may take unless said otherwise.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long connecting may take unless said otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Least and most of both, in milliseconds.
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 10..=60_000;

/// The section as it may be written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    url: Option<Urls>,
    timeout: Option<Span>,
    connect_timeout: Option<Span>,
}

/// One URL, or those of several nodes of a cluster.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a redis:// URL, or a list of them")]
enum Urls {
    One(Secret),
    Many(Vec<Secret>),
}

/// The validated section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// URLs with scheme `redis` or `rediss`; they may hold a password.
    pub nodes: Vec<Secret>,
    /// Whether the nodes are those of a Redis Cluster.
    pub is_cluster: bool,
    /// Longest that one call may take.
    pub timeout: Duration,
    /// Longest that connecting may take.
    pub connect_timeout: Duration,
}

/// Checks the section; without it there is no Redis.
pub fn validate(document: Option<Document>, check: &mut Check<'_>) -> Option<RedisSettings> {
    let Document { url, timeout, connect_timeout } = document?;
    let url = check.problems.required("redis.url", url, "`url: redis://127.0.0.1:6379`")?;
    let mut span = |path, span: Option<Span>, default: Duration| {
        let Some(Span(span)) = span else { return default };
        let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(check.problems.within(path, ms, TIMEOUT_MS, " milliseconds"))
    };
    let timeout = span("redis.timeout", timeout, TIMEOUT);
    let connect_timeout = span("redis.connect_timeout", connect_timeout, CONNECT_TIMEOUT);
    let (nodes, is_cluster) = match url {
        Urls::One(url) => nodes("redis.url", &url, check),
        Urls::Many(urls) => {
            let of_each = |(index, url)| nodes(&format!("redis.url[{index}]"), url, check).0;
            let nodes: Vec<_> = urls.iter().take(NODES_MAX + 1).enumerate().flat_map(of_each).collect();
            (nodes, true)
        }
    };
    if !(1..=NODES_MAX).contains(&nodes.len()) {
        check.problems.add("redis.url", format!("must name 1 to {NODES_MAX} nodes"));
    }
    Some(RedisSettings { nodes, is_cluster, timeout, connect_timeout })
}

/// The nodes of one URL, and whether it says that they are a cluster's. A problem never shows the
/// URL, which may hold a password.
fn nodes(path: &str, url: &Secret, check: &mut Check<'_>) -> (Vec<Secret>, bool) {
    let url = check.expanded(path, url.expose());
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let (scheme, is_cluster) = scheme.strip_suffix("+cluster").map_or((scheme, false), |s| (s, true));
    let (user, hosts) = rest.rsplit_once('@').unwrap_or(("", rest));
    let at = if user.is_empty() { "" } else { "@" };
    let hosts: Vec<&str> = if is_cluster { hosts.split(',').collect() } else { vec![hosts] };
    let nodes: Vec<String> = hosts.into_iter().map(|host| format!("{scheme}://{user}{at}{host}")).collect();
    let is_usable = |node: &String| {
        let node = node.as_str();
        matches!(scheme, "redis" | "rediss") && !node.ends_with("://") && node.into_connection_info().is_ok()
    };
    if !nodes.iter().all(is_usable) {
        let what = "must be redis://[user:password@]host:port[/db], rediss:// for TLS, or \
                    redis+cluster://host:port,host:port for a cluster";
        check.problems.add(path, what);
    }
    (nodes.into_iter().map(Secret::new).collect(), is_cluster)
}

#[cfg(test)]
mod tests {
    use super::super::{Env, parse};
    use super::*;

    fn settings(yaml: &str) -> Result<RedisSettings, String> {
        let env = Env::from([("REDIS_PASSWORD".to_owned(), "hunter2".to_owned())]);
        let config = parse(&format!("redis: {yaml}"), &env).map_err(|problems| problems.to_string())?;
        config.redis.ok_or_else(|| "no section".to_owned())
    }

    fn nodes_of(settings: &RedisSettings) -> Vec<&str> {
        settings.nodes.iter().map(Secret::expose).collect()
    }

    #[test]
    fn one_server_or_a_cluster_in_either_way_of_writing() {
        let one = settings("{url: 'rediss://u:${REDIS_PASSWORD}@r.example:6380/2', timeout: 200ms}").unwrap();
        assert_eq!(nodes_of(&one), ["rediss://u:hunter2@r.example:6380/2"]);
        assert!(!one.is_cluster && one.timeout == Duration::from_millis(200));
        assert!(!format!("{one:?}").contains("hunter2"));
        let cluster = ["redis://:pw@a:1", "redis://:pw@b:2"];
        let in_one = settings("{url: 'redis+cluster://:pw@a:1,b:2'}").unwrap();
        assert!(in_one.is_cluster && nodes_of(&in_one) == cluster);
        let listed = settings("{url: ['redis://:pw@a:1', 'redis://:pw@b:2']}").unwrap();
        assert!(listed.is_cluster && nodes_of(&listed) == cluster);
        assert_eq!(parse("", &Env::new()).unwrap().redis, None);
    }

    #[test]
    fn what_cannot_be_used_is_named_without_the_password() {
        for (yaml, path) in [
            ("{}", "redis.url: is missing"),
            ("{url: 'http://:hunter2@a'}", "redis.url: must be redis://"),
            ("{url: 'redis://'}", "redis.url: must be redis://"),
            ("{url: ':hunter2@a:1'}", "redis.url: must be redis://"),
            ("{url: 'redis+cluster://:hunter2@a:1,:x'}", "redis.url: must be redis://"),
            ("{url: ['redis://a:1', 'redis://:hunter2@b:port']}", "redis.url[1]: must be redis://"),
            ("{url: []}", "redis.url: must name 1 to 64"),
            ("{url: 7}", "redis.url: "),
            ("{url: 'redis://a:1', timeout: 0s}", "redis.timeout: is 0; must be 10 to 60000"),
            ("{url: 'redis://a:1', connect_timeout: 5}", "redis.connect_timeout: "),
            ("{url: 'redis://a:1', pool: 5}", "redis.pool: "),
        ] {
            let problem = settings(yaml).expect_err(yaml);
            assert!(problem.starts_with(path) && !problem.contains("hunter2"), "{yaml}: {problem}");
        }
    }
}
