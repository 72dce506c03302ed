//! The way to Redis.

mod answer;
mod line;
mod stream;

pub(crate) use line::{Line, client};
