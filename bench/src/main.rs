//! Benchmarks side by side with a bare Envoy, on the same machine in the same run: what each part
//! of the gateway costs, as ratios that mean something on another machine too.

mod beds;
mod cases;
mod envoy_config;
mod error;
mod events;
mod fairness;
mod fleet;
mod histogram;
mod http;
mod keys;
mod load;
mod machine;
mod memory;
mod options;
mod peers;
mod provider;
mod providers;
mod scenarios;
mod semantic;
mod settlement;
mod speed;
mod stats;
mod table;
mod understanding;

use std::process::ExitCode;

use crate::error::BenchError;
use crate::options::{Mode, Options, USAGE};

/// One thread: the load generator must leave the other core to what it measures.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("tidegate-bench: {why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options).await {
        Ok(report) => {
            println!("{}\n{report}", machine::describe());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tidegate-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<String, BenchError> {
    match &options.mode {
        Mode::Speed { rounds, length } => {
            let (series, memory) = speed::run(&options.cases, *rounds, *length).await?;
            Ok(table::speed(&series, &memory))
        }
        Mode::Understanding { data } => understanding::run(data.as_deref()).await,
        Mode::Events => events::run().await,
        Mode::Memory { requests } => memory::run(&options.cases, *requests).await,
        Mode::Fleet { length } => fleet::run(*length).await,
        Mode::Settlement { requests } => settlement::run(*requests).await,
        Mode::Keys => keys::run().await,
        Mode::Fairness { length } => fairness::run(*length).await,
        Mode::Scenarios(play) => scenarios::run(play).await,
        Mode::Failover { length } => providers::failover::run(*length).await,
        Mode::Streams { length } => providers::streams::run(*length).await,
        Mode::Leaving => providers::leaving::run().await,
        Mode::Translation => providers::translation::run(),
        Mode::Semantic(wanted) => semantic::run(wanted).await,
    }
}
