//! A set of outputs, as wide as there are outputs.

use smallvec::SmallVec;

/// Index of an output instance in the order of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutputId(pub u16);

/// A set of [`OutputId`]s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteMask(SmallVec<[u64; 2]>);

impl RouteMask {
    /// Adds an output.
    pub fn insert(&mut self, output: OutputId) {
        let word = usize::from(output.0) / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (output.0 % 64);
    }

    /// Whether no output is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The outputs, in order.
    pub fn iter(&self) -> impl Iterator<Item = OutputId> + '_ {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                if rest == 0 {
                    return None;
                }
                let bit = rest.trailing_zeros();
                rest &= rest - 1;
                // At most 65,536 outputs: `index` is below 1024.
                Some(OutputId((index * 64) as u16 + bit as u16))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_holds_more_outputs_than_a_word() {
        let mut mask = RouteMask::default();
        assert!(mask.is_empty());
        for id in [199, 0, 63, 64, 199] {
            mask.insert(OutputId(id));
        }
        let ids: Vec<u16> = mask.iter().map(|output| output.0).collect();
        assert_eq!(ids, [0, 63, 64, 199]);
        assert!(!mask.is_empty());
    }
}
