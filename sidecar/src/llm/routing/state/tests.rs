//! Who is set aside, and who comes back.

use super::*;

const MODEL: u64 = 1;
const SISTER: u64 = 2;
const POLICY: BreakerPolicy = BreakerPolicy {
    failure_threshold: 2,
    window_ms: 10_000,
    recovery_timeout_ms: 1_000,
    recovery_increment: 1.0,
};

fn state() -> Arc<ProviderState> {
    Arc::new(ProviderState::new(
        Clock::start(),
        1,
        &RoutingSettings { outlier: POLICY, ..RoutingSettings::default() },
    ))
}

async fn pass(ms: u64) {
    tokio::time::advance(std::time::Duration::from_millis(ms)).await;
}

#[tokio::test(start_paused = true)]
async fn failures_set_it_aside_until_probes_succeed() {
    let state = state();
    for _ in 0..2 {
        assert_eq!(state.standing(MODEL), Standing::Well);
        state.begin(MODEL, false, false).ended(Outcome::Unreachable, false);
    }
    assert_eq!(state.standing(MODEL), Standing::PassedBy);
    pass(1_000).await;
    for _ in 0..2 {
        assert_eq!(state.standing(MODEL), Standing::Probe);
        state.begin(MODEL, false, true).ended(Outcome::Ok, false);
    }
    assert_eq!(state.standing(MODEL), Standing::Well);
    assert_eq!(state.age_ms(SISTER), 0, "it is back: its share grows slowly");
}

#[tokio::test(start_paused = true)]
async fn what_callers_do_wrong_is_not_held_against_it() {
    let state = state();
    for outcome in [Outcome::ClientError, Outcome::RateLimited, Outcome::Cancelled] {
        (0..20).for_each(|_| state.begin(MODEL, false, false).ended(outcome, false));
    }
    assert_eq!(state.standing(MODEL), Standing::Well);
    let counts = state.view(false).counts;
    assert_eq!((counts.requests, counts.rate_limited, counts.cancelled, counts.failed), (60, 20, 20, 0));
}

#[tokio::test(start_paused = true)]
async fn a_model_in_trouble_does_not_take_its_sisters_along() {
    let said = [Outcome::ServerError, Outcome::ClientError].map(|outcome| (outcome, true));
    let unsaid = [Outcome::ServerError, Outcome::Timeout].map(|outcome| (outcome, false));
    for (outcome, of_model) in said.into_iter().chain(unsaid) {
        let state = state();
        (0..2).for_each(|_| state.begin(MODEL, false, false).ended(outcome, of_model));
        assert_eq!((state.standing(MODEL), state.standing(SISTER)), (Standing::PassedBy, Standing::Well));
        assert_eq!((state.phase_of(MODEL), state.phase_of(SISTER)), (Phase::Open, Phase::Closed));
        pass(1_000).await;
        assert_eq!(state.standing(MODEL), Standing::Probe);
        (0..2).for_each(|_| state.begin(MODEL, false, true).ended(Outcome::Ok, false));
        assert_eq!(state.standing(MODEL), Standing::Well);
        assert_eq!((state.age_ms(MODEL), state.age_ms(SISTER)), (0, 1_000), "its share grows slowly");
    }
}

#[tokio::test(start_paused = true)]
async fn errors_of_two_models_are_the_providers_unless_a_third_is_well() {
    const THIRD: u64 = 3;
    let fails = |state: &Arc<ProviderState>, model| {
        state.begin(model, false, false).ended(Outcome::ServerError, false);
    };
    for third_is_well in [false, true] {
        let state = state();
        fails(&state, MODEL);
        if third_is_well {
            state.begin(THIRD, false, false).ended(Outcome::Ok, false);
        }
        (0..2).for_each(|_| fails(&state, SISTER));
        let third = if third_is_well { Standing::Well } else { Standing::PassedBy };
        assert_eq!((state.standing(SISTER), state.standing(THIRD)), (Standing::PassedBy, third));
    }
    let state = state();
    fails(&state, MODEL);
    pass(POLICY.window_ms).await;
    (0..2).for_each(|_| fails(&state, SISTER));
    assert_eq!(state.standing(THIRD), Standing::Well, "one failed long ago");
}

#[tokio::test(start_paused = true)]
async fn a_provider_on_trial_is_judged_by_whatever_it_answers() {
    let state = state();
    (0..2).for_each(|_| state.begin(MODEL, false, false).ended(Outcome::Unreachable, false));
    pass(1_000).await;
    assert_eq!(state.standing(SISTER), Standing::Probe);
    state.begin(SISTER, false, true).ended(Outcome::ServerError, false);
    assert_eq!(state.standing(MODEL), Standing::PassedBy);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_gone_takes_all_of_its_models_along() {
    for outcome in [Outcome::Unreachable, Outcome::Interrupted] {
        let state = state();
        (0..2).for_each(|_| state.begin(MODEL, false, false).ended(outcome, false));
        assert_eq!((state.standing(MODEL), state.standing(SISTER)), (Standing::PassedBy, Standing::PassedBy));
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_at_its_limit_leaves_room_for_its_sisters() {
    let state = state();
    let busy: Vec<_> = (0..20).map(|_| state.begin(MODEL, false, false)).collect();
    busy[0].ended(Outcome::RateLimited, false);
    assert_eq!((state.standing(MODEL), state.standing(SISTER)), (Standing::PassedBy, Standing::Well));
    drop(busy);
    assert_eq!(state.standing(MODEL), Standing::Well);
}

#[tokio::test(start_paused = true)]
async fn invented_models_give_way_to_each_other_and_not_to_one_that_is_ill() {
    let state = state();
    (0..2).for_each(|_| state.begin(MODEL, false, false).ended(Outcome::Timeout, false));
    for model in 100..100 + 2 * MODELS_MAX as u64 {
        state.begin(model, false, false).ended(Outcome::Ok, false);
    }
    assert_eq!(state.lock().models.len(), MODELS_MAX);
    assert_eq!((state.standing(MODEL), state.standing(SISTER)), (Standing::PassedBy, Standing::Well));
}

#[tokio::test(start_paused = true)]
async fn streams_are_timed_to_their_first_token_and_answers_to_their_end() {
    let state = state();
    let (stream, whole) = (state.begin(MODEL, true, false), state.begin(MODEL, false, false));
    assert_eq!(state.view(true).in_flight, 2);
    pass(100).await;
    stream.first_token();
    pass(900).await;
    stream.ended(Outcome::Ok, false);
    whole.ended(Outcome::Ok, false);
    drop((stream, whole));
    assert_eq!(state.view(true).in_flight, 0);
    assert_eq!(state.view(false).latency_ms, Some(1_000.0));
    assert!(state.view(true).latency_ms.is_some_and(|ms| ms < 100.0), "and sinks with time");
}

#[tokio::test(start_paused = true)]
async fn a_key_without_room_rests_before_the_limit_is_hit() {
    let state = state();
    let headers = [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "2s")];
    state.heard(0, 7, RateSignals::read(headers, "", 0), 1);
    assert_eq!((state.wait_ms(7), state.wait_ms(8)), (2_000, 0));
    pass(2_000).await;
    assert_eq!(state.wait_ms(7), 0);
}
