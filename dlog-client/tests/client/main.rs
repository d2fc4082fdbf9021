//! The client against a fake cluster in this process: redirects, cuts, deadlines, order, bounds.

mod admin;
mod consumer;
mod fake;
mod producer;
