//! The law: every record an input saw was delivered, was dropped for a counted cause, or is still held.

use std::fmt;

use crate::chunk::Lost;
use crate::plugin::input::{DropCause, Unparsed};

/// The account of one input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputLedger {
    /// Records seen, those given up by the input included.
    pub in_records: u64,
    /// Bytes of events appended.
    pub in_bytes: u64,
    /// Records added by filters that re-tag and keep, or split.
    pub added_records: u64,
    /// Records every output they were routed to has taken.
    pub delivered_records: u64,
    /// Records the input gave up, by [`DropCause`].
    pub dropped: [u64; DropCause::ALL.len()],
    /// Records that passed although a parser of the input or of a filter could not take them, by [`Unparsed`]; one
    /// that two could not take counts twice.
    pub unparsed: [u64; Unparsed::ALL.len()],
    /// Records of several lines that met their limit.
    pub truncated_records: u64,
    /// Records a filter dropped.
    pub filtered_records: u64,
    /// Records filters took to hold.
    pub held_records: u64,
    /// Records filters gave back for those: fewer, where they are joined.
    pub given_records: u64,
    /// Records no output matched.
    pub unrouted_records: u64,
    /// Records at least one output lost, by [`Lost`].
    pub lost: [u64; Lost::ALL.len()],
    /// Records still held when the account was closed.
    pub left_records: u64,
    /// Connections closed at once because too many were open; nobody knows what they would have sent.
    pub refused_connections: u64,
}

impl InputLedger {
    /// Adds another shard's account of the same input.
    pub fn add(&mut self, other: &InputLedger) {
        self.in_records += other.in_records;
        self.in_bytes += other.in_bytes;
        self.added_records += other.added_records;
        self.delivered_records += other.delivered_records;
        self.filtered_records += other.filtered_records;
        self.held_records += other.held_records;
        self.given_records += other.given_records;
        self.unrouted_records += other.unrouted_records;
        self.left_records += other.left_records;
        self.refused_connections += other.refused_connections;
        self.truncated_records += other.truncated_records;
        for (mine, theirs) in self.dropped.iter_mut().zip(other.dropped) {
            *mine += theirs;
        }
        for (mine, theirs) in self.unparsed.iter_mut().zip(other.unparsed) {
            *mine += theirs;
        }
        for (mine, theirs) in self.lost.iter_mut().zip(other.lost) {
            *mine += theirs;
        }
    }

    /// Records dropped for any cause.
    pub fn dropped_records(&self) -> u64 {
        self.dropped.iter().sum::<u64>()
            + self.lost.iter().sum::<u64>()
            + self.filtered_records
            + self.unrouted_records
    }

    /// Records that came in, and those that filters added to them.
    pub fn all_records(&self) -> u64 {
        self.in_records + self.added_records + self.given_records.saturating_sub(self.held_records)
    }

    /// Records that were joined to others; of an open account, those that are held among them.
    pub fn joined_records(&self) -> u64 {
        self.held_records.saturating_sub(self.given_records)
    }

    /// Whether the law holds for a closed account.
    pub fn holds(&self) -> bool {
        self.missing_records() == 0 && self.all_records() >= self.known_records()
    }

    /// Records of which nobody knows what became.
    pub fn missing_records(&self) -> u64 {
        self.all_records().saturating_sub(self.known_records())
    }

    fn known_records(&self) -> u64 {
        self.delivered_records + self.joined_records() + self.dropped_records() + self.left_records
    }
}

/// `in 10 = delivered 7 + dropped 2 (malformed 1, no route 1) + left 1`, with `+ joined 5` where filters join records
impl fmt::Display for InputLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in {} = delivered {}", self.all_records(), self.delivered_records)?;
        if self.joined_records() > 0 {
            write!(f, " + joined {}", self.joined_records())?;
        }
        write!(f, " + dropped {}", self.dropped_records())?;
        let by_input = DropCause::ALL.iter().zip(self.dropped).map(|(c, n)| (c.label(), n));
        let by_output = Lost::ALL.iter().zip(self.lost).map(|(c, n)| (c.label(), n));
        let others = [("filtered", self.filtered_records), ("no route", self.unrouted_records)];
        let causes: Vec<String> = by_input
            .chain(others)
            .chain(by_output)
            .filter(|(_, count)| *count > 0)
            .map(|(label, count)| format!("{label} {count}"))
            .collect();
        if !causes.is_empty() {
            write!(f, " ({})", causes.join(", "))?;
        }
        write!(f, " + left {}", self.left_records)?;
        Unparsed::fmt_counts(&self.unparsed, f)?;
        match self.truncated_records {
            0 => {}
            count => write!(f, "; truncated {count}")?,
        }
        match self.refused_connections {
            0 => Ok(()),
            count => write!(f, "; refused connections {count}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_law_is_said_with_its_causes() {
        let mut ledger = InputLedger { in_records: 10, delivered_records: 7, ..Default::default() };
        ledger.dropped[DropCause::Malformed as usize] = 1;
        ledger.unrouted_records = 1;
        assert!(!ledger.holds());
        ledger.left_records = 1;
        assert!(ledger.holds());
        assert_eq!(
            ledger.to_string(),
            "in 10 = delivered 7 + dropped 2 (malformed 1, no route 1) + left 1"
        );
        ledger.unparsed = [2, 0];
        assert!(ledger.to_string().ends_with(" + left 1; unparsed 2"));
        ledger.unparsed = [2, 1];
        assert!(ledger.to_string().ends_with("; unparsed 3 (runaway expressions 1)"));
        ledger.truncated_records = 1;
        assert!(ledger.to_string().ends_with(" 1); truncated 1"));
        (ledger.held_records, ledger.given_records, ledger.delivered_records) = (5, 2, 4);
        assert!(ledger.holds());
        assert!(ledger.to_string().starts_with("in 10 = delivered 4 + joined 3 + dropped 2 ("));
        (ledger.held_records, ledger.given_records, ledger.delivered_records) = (2, 5, 10);
        assert!(ledger.holds());
        assert!(ledger.to_string().starts_with("in 13 = delivered 10 + dropped 2 ("));
        (ledger.held_records, ledger.given_records, ledger.delivered_records) = (1, 1, 7);
        ledger.refused_connections = 2;
        assert!(ledger.to_string().ends_with(" 1); truncated 1; refused connections 2"));
        let mut twice = ledger.clone();
        twice.add(&ledger);
        assert_eq!((twice.in_records, twice.dropped_records()), (20, 4));
        assert_eq!(twice.refused_connections, 4);
        assert!(twice.holds());
    }
}
