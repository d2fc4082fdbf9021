//! The client against a fake cluster in this process: redirects, cuts, deadlines, order, bounds.

mod admin;
mod cancelling;
mod consumer;
mod fake;
mod places;
mod producer;
mod retries;
