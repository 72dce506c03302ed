//! The way to Redis: where it is, the connections to it, and the one thread that speaks on them. It uses `base` and
//! `threads`.

mod address;
mod alarm;
mod allowance;
mod cluster;
mod connections;
mod dial;
mod driver;
mod line;
mod lines;
mod link;
mod options;
mod place;
mod sentinels;
mod target;
mod tls;
mod wait;
mod way;

pub(crate) use connections::Connections;
pub use options::RedisOptions;
pub(crate) use way::Both;
