//! The native half of Tidegate: it knows who may call and how much, tells the filters in Envoy,
//! and answers what they pass on.
//!
//! A request enters in [`server::Entry`]; what is in force changes in [`control::Control`].

pub mod admin;
pub mod attempts;
pub mod audit;
pub mod body;
pub mod bus;
pub mod certificates;
pub mod cli;
pub mod clusters;
pub mod config;
pub mod control;
pub mod cpu;
pub mod dashboard;
pub mod demo;
pub mod embedding;
pub mod envoy_config;
pub mod gateway;
pub mod give_way;
mod headers;
pub mod health;
pub mod identity;
pub mod internal;
pub mod keys;
pub mod l2;
pub mod learn;
pub mod leases;
pub mod limits;
pub mod llm;
pub mod logging;
pub mod login;
pub mod metrics;
pub mod openapi;
pub mod policies;
pub mod provisioning;
pub mod ram;
pub mod redis;
pub mod refusal;
pub mod run;
pub mod secret;
pub mod server;
pub mod sessions;
pub mod snapshot;
pub mod source;
pub mod store;
pub mod tokens;
pub mod trace;
