//! Protocols, and the client connections they are spoken over.
//!
//! [`fluent`] (messages of the forward protocol that both of its ends know, as pure functions over
//! bytes), [`upstream`] (connections to one peer, kept open between flushes).

pub mod fluent;
pub mod upstream;
