//! What was used, what it costs, and the month it belongs to.

mod calibration;
mod month;
mod price;

pub use calibration::Calibration;
pub use month::Month;
pub use price::{PRICE_MAX, Price};
