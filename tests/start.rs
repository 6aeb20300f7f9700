//! Starts under odd conditions.
mod support;
