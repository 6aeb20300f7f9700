//! Protocols as pure functions over bytes: what goes on the wire, without the wire.
//!
//! [`fluent`] (messages of the forward protocol that both of its ends know).

pub mod fluent;
