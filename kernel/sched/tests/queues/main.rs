//! Run queues, driven as a kernel would drive them.

mod common;
mod fairness;
mod real_time;
