//! The way to Redis: one connection, its deadlines and answers. It uses `base` alone.

mod answer;
mod line;
mod stream;

pub(crate) use line::{Line, client};
