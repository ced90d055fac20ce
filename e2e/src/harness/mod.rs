//! A whole gateway for a test: an emulated provider, the sidecar and a real Envoy, each on free
//! ports, torn down when the test ends, also when it panics.
//!
//! ```no_run
//! # async fn example() -> Result<(), tidegate_e2e::harness::HarnessError> {
//! use tidegate_e2e::harness::{Client, Gateway};
//!
//! let gateway = Gateway::builder().workers(4).start().await?;
//! let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}"#;
//! let answer = Client::new().post_json(&gateway.url("/v1/chat/completions"), body).await?;
//! assert_eq!(answer.status, 200);
//! # Ok(())
//! # }
//! ```
//!
//! What it needs from outside: the sidecar (`TIDEGATE_BIN`, else `tidegate` beside the test's own
//! profile directory), Envoy (`ENVOY`, else `.tools/bin/envoy`) and the filter (`TIDEGATE_FILTER`,
//! else `dist/tidegate_filter.wasm`).

mod builder;
mod certificates;
mod client;
mod crowd;
mod delay;
mod envoy;
mod error;
mod etcd;
mod expect;
mod fleet;
mod gateway;
mod kafka;
mod llm;
mod official;
mod patch;
mod paths;
mod ports;
mod process;
mod providers;
mod raw;
mod redis;
mod tls;
mod wait;

pub use builder::GatewayBuilder;
pub use certificates::Certificates;
pub use client::{Answer, Client, StreamingAnswer};
pub use crowd::{Caller, crowd};
pub use delay::DelayedLink;
pub use envoy::Envoy;
pub use error::HarnessError;
pub use etcd::EtcdCluster;
pub use expect::expect_error;
pub use fleet::{Fleet, Tally};
pub use gateway::{ADMIN_KEY, Gateway};
pub use kafka::KafkaBroker;
pub use llm::{chat, chat_with, content, stream, stream_of, streamed_content};
pub use official::run_official_client;
pub use patch::{prepend_item, replace_once};
pub use paths::{
    EmbeddingFiles, chat_model, embedding_files, envoy_binary, fault_filter, filter, peer_file,
    sibling_binary, sidecar_binary, workspace_root,
};
pub use ports::Port;
pub use process::{ManagedProcess, Spec};
pub use providers::{EMULATED, EmulatedProvider};
pub use raw::RawConnection;
pub use redis::{RedisCluster, RedisServer};
pub use tls::{TlsAnswer, TlsClient, TlsEnd};
pub use wait::eventually;
