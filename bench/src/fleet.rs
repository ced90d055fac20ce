//! Three gateways that share one limit through a real Redis, and five times as many requests.
//!
//! Twice: with Redis there all the time, and with Redis killed after a third of the time and back,
//! empty, after two thirds.

use std::fmt::Write;
use std::time::Duration;

use tidegate_e2e::harness::{Fleet, RedisServer, Tally};
use tokio::time::Instant;

use crate::error::BenchError;

const GATEWAYS: usize = 3;
/// Requests a second that are shared, and as many at once.
const RATE: u32 = 200;
/// How many times the limit is asked for.
const TIMES: u32 = 5;

/// Runs both and returns the table.
pub(crate) async fn run(length: Duration) -> Result<String, BenchError> {
    let mut text = String::from(
        "\n| Redis | seconds | admitted | R·t + B | off | failed | Redis commands a second, each gateway |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for is_killed in [false, true] {
        eprintln!("fleet: {}", title(is_killed));
        let mut redis = RedisServer::start().await?;
        let fleet = Fleet::start(GATEWAYS, RATE, &redis.url()).await?;
        let before = redis.info("total_commands_processed").await?;
        let start = Instant::now();
        let tally = if is_killed {
            interrupted(&fleet, &mut redis, length).await?
        } else {
            fleet.overload(TIMES, length).await
        };
        let seconds = start.elapsed().as_secs_f64();
        // A Redis that was killed counts anew, so what it says is of the other run alone.
        let commands = redis.info("total_commands_processed").await?.checked_sub(before);
        let commands = commands.filter(|_| !is_killed).map(|commands| per_second(commands, seconds));
        row(&mut text, is_killed, seconds, tally, &commands.unwrap_or_default());
    }
    Ok(text)
}

/// The load goes on while Redis is killed and started again.
async fn interrupted(fleet: &Fleet, redis: &mut RedisServer, length: Duration) -> Result<Tally, BenchError> {
    let third = length / 3;
    let trouble = async {
        tokio::time::sleep(third).await;
        redis.kill()?;
        tokio::time::sleep(third).await;
        redis.restart().await
    };
    let (tally, trouble) = tokio::join!(fleet.overload(TIMES, length), trouble);
    trouble?;
    Ok(tally)
}

const fn title(is_killed: bool) -> &'static str {
    if is_killed { "killed at 1/3, back at 2/3" } else { "there" }
}

fn per_second(commands: u64, seconds: f64) -> String {
    format!("{:.1}", commands as f64 / seconds / GATEWAYS as f64)
}

fn row(text: &mut String, is_killed: bool, seconds: f64, tally: Tally, commands: &str) {
    let expected = f64::from(RATE) * (seconds + 1.0);
    let off = (tally.admitted as f64 / expected - 1.0) * 100.0;
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "| {} | {seconds:.1} | {} | {expected:.0} | {off:+.1} % | {} | {commands} |",
        title(is_killed),
        tally.admitted,
        tally.failed,
    );
}
