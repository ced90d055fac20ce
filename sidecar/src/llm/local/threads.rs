//! How many threads a local model computes on.

/// Sets the size of candle's own pool of threads, which reads it once, from here.
const CANDLE_THREADS: &str = "CANDLE_NUM_THREADS";
/// Sets the size of the pool that candle uses for the rest.
const RAYON_THREADS: &str = "RAYON_NUM_THREADS";

/// Makes local models compute on the thread they live on and no other, unless the operator has
/// set one of the two variables.
///
/// By default candle spreads every matrix product over all cores and waits for the last of
/// them in a busy loop. On an idle machine that gains little for a model this small. On a busy
/// one, which a gateway is, every product waits until the scheduler has run all threads:
/// measured with two cores under a load of nine, 60 tokens took 16.4 s on two threads and
/// 1.9 s on one.
///
/// # Safety
/// No other thread may be running: this sets environment variables, which C code in other
/// threads may be reading.
pub unsafe fn compute_on_one_thread() {
    if [CANDLE_THREADS, RAYON_THREADS].iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    for name in [CANDLE_THREADS, RAYON_THREADS] {
        // SAFETY: the caller vouches that this is the only thread.
        unsafe { std::env::set_var(name, "1") };
    }
}
