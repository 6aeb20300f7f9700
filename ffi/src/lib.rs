//! The C ABI of foreign (Go or C) output plugins.
