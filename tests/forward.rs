//! The forward protocol end to end: both ends of it, real clients, load, overload and bad data.

#[path = "forward/bad_data.rs"]
mod bad_data;
#[path = "forward/clients.rs"]
mod clients;
#[path = "forward/connections.rs"]
mod connections;
#[path = "forward/golden.rs"]
mod golden;
#[path = "forward/load.rs"]
mod load;
mod support;
