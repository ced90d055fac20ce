//! Telling the others, and hearing them, through Redis.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ::redis::Script;
use tidegate_core::usage::Month;
use tokio::sync::watch;

use super::super::{Ledger, Totals};
use super::View;
use super::month::{Answer, Batch, FleetMonth, ROWS_A_BATCH, Row, RowId};
use crate::keys::unix_ms;
use crate::redis::{self, CallError, Redis};

/// Time between two exchanges.
const INTERVAL: Duration = Duration::from_secs(1);
/// Most calls in a row, as after a start, when there is much to hear.
const CALLS_IN_A_ROW_MAX: usize = 400;
/// How long a month is kept in Redis after its end.
const KEPT: Duration = Duration::from_secs(400 * 86_400);
/// Before every key; the braces keep all of them in one slot of a cluster.
const KEY_PREFIX: &str = "{tidegate:usage}";
/// Between the gateway and the tenant of a row; in neither.
const BETWEEN: char = '\t';

static SCRIPT: LazyLock<Script> = LazyLock::new(|| redis::script("usage"));

/// Shares the ledger with the other gateways once a second, until `draining`. What comes after
/// that is told by [`tell`].
pub async fn share(ledger: Arc<Ledger>, redis: Redis, mut draining: watch::Receiver<bool>) {
    loop {
        tell(&ledger, &redis).await;
        tokio::select! {
            _ = draining.wait_for(|draining| *draining) => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// Tells the others what they do not know yet, and hears what they say, as far as Redis is there.
pub async fn tell(ledger: &Ledger, redis: &Redis) {
    let outcome = exchange_all(ledger, redis).await;
    if !ledger.fleet_is_heard(outcome.is_ok()) {
        return;
    }
    match outcome {
        Ok(()) => tracing::info!("usage of all gateways is known"),
        Err(error) => tracing::warn!(
            %error,
            "usage of the other gateways cannot be heard; budgets are held against what is known"
        ),
    }
}

async fn exchange_all(ledger: &Ledger, redis: &Redis) -> Result<(), CallError> {
    for _ in 0..CALLS_IN_A_ROW_MAX {
        let mut is_done = true;
        for (month, batch) in ledger.fleet_batches(Month::of_ms(unix_ms())) {
            let answer = exchange(redis, month, &batch).await?;
            // After another epoch, all that is remembered goes out again.
            is_done &=
                answer.epoch == batch.epoch && answer.next == answer.last && batch.rows.len() < ROWS_A_BATCH;
            ledger.fleet_answered(month, &batch, answer);
        }
        if is_done {
            break;
        }
    }
    Ok(())
}

/// What all gateways have used in a month that is over.
///
/// # Errors
/// Redis did not answer.
pub async fn fetch(redis: &Redis, month: Month) -> Result<View, CallError> {
    let mut of = FleetMonth::default();
    for _ in 0..CALLS_IN_A_ROW_MAX {
        let question = Batch { rows: Vec::new(), ..of.batch() };
        let answer = exchange(redis, month, &question).await?;
        let is_done = answer.next == answer.last;
        of.heard(&question, answer, "");
        if is_done {
            break;
        }
    }
    Ok(View::of(&of))
}

pub(super) async fn exchange(redis: &Redis, month: Month, batch: &Batch) -> Result<Answer, CallError> {
    let mut call = SCRIPT.prepare_invoke();
    call.key(format!("{KEY_PREFIX}:{month}")).key(format!("{KEY_PREFIX}:{month}:changes"));
    // No two memories of a month begin in the same moment, with the same first row.
    let first = batch.rows.first().map_or("", |(id, _)| id.gateway.as_str());
    call.arg(format!("{first}-{}", unix_ms())).arg(&batch.epoch).arg(batch.since).arg(ROWS_A_BATCH);
    call.arg(month.end_ms() / 1000 + KEPT.as_secs());
    for (RowId { tenant, gateway }, totals) in &batch.rows {
        call.arg(format!("{gateway}{BETWEEN}{tenant}")).arg(value(totals));
    }
    let words: Vec<String> = redis.run(|mut link| async move { call.invoke_async(&mut link).await }).await?;
    Ok(read(&words))
}

fn value(totals: &Totals) -> String {
    totals.numbers().map(|number| number.to_string()).join(" ")
}

/// What another version wrote is passed over.
fn read(words: &[String]) -> Answer {
    let (head, rows) =
        words.split_first_chunk::<3>().map_or((None, &[][..]), |(head, rows)| (Some(head), rows));
    let number = |text: &String| text.parse().unwrap_or(0);
    let (epoch, next, last) =
        head.map_or_else(Default::default, |[epoch, next, last]| (epoch.clone(), number(next), number(last)));
    let (pairs, _) = rows.as_chunks::<2>();
    Answer { epoch, next, last, rows: pairs.iter().filter_map(|[name, value]| row(name, value)).collect() }
}

fn row(name: &str, value: &str) -> Option<Row> {
    let (gateway, tenant) = name.split_once(BETWEEN)?;
    let mut numbers = [0; 6];
    let mut words = value.split(' ');
    for number in &mut numbers {
        *number = words.next()?.parse().ok()?;
    }
    Some((RowId { tenant: tenant.to_owned(), gateway: gateway.to_owned() }, Totals::of_numbers(numbers)))
}
