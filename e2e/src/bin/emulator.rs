//! The provider emulators on one port of 127.0.0.1, for demos, checks and the benchmark.

use std::process::ExitCode;

use tidegate_e2e::emulator::{Emulator, Options};

const USAGE: &str = "\
usage: emulator [--port N] [--no-request-log]

  --port N           listen on 127.0.0.1:N (default 9101; 0 takes a free port)
  --no-request-log   keep no log of requests (for benchmarks)

It prints the base URL of each emulated provider; arm faults with POST /__faults.
";
const PORT_DEFAULT: u16 = 9101;

#[tokio::main]
async fn main() -> ExitCode {
    match options(std::env::args().skip(1)) {
        Ok(Some(options)) => serve(options).await,
        Ok(None) => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("emulator: {why}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// The options, or `None` when help was asked for.
fn options(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options { port: PORT_DEFAULT, keep_requests: true };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--port" => {
                let value = arguments.next().ok_or("--port: needs a number")?;
                options.port =
                    value.parse().map_err(|_| format!("--port: `{value}` is not a port from 0 to 65535"))?;
            }
            "--no-request-log" => options.keep_requests = false,
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("unknown option `{other}`")),
        }
    }
    Ok(Some(options))
}

async fn serve(options: Options) -> ExitCode {
    let emulator = match Emulator::start_with(options).await {
        Ok(emulator) => emulator,
        Err(error) => {
            eprintln!("emulator: cannot listen on 127.0.0.1:{}: {error}", options.port);
            return ExitCode::FAILURE;
        }
    };
    for (name, url) in emulator.base_urls() {
        println!("{name:<14} {url}");
    }
    println!("faults         http://{}/__faults", emulator.address());
    match tokio::signal::ctrl_c().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("emulator: cannot wait for a signal: {error}");
            ExitCode::FAILURE
        }
    }
}
