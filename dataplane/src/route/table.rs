//! All patterns of a pipeline; answers for one tag. Immutable, shared by all shards.

use crate::route::mask::{OutputId, RouteMask};
use crate::route::pattern::TagPattern;

/// Index of a filter instance in the order of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilterId(pub u16);

/// What a tag gets: the filters it passes, in order, and the outputs it goes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Filters, in the order of the configuration.
    pub filters: Vec<FilterId>,
    /// Outputs.
    pub outputs: RouteMask,
}

/// The patterns of all filters and outputs.
#[derive(Debug, Default)]
pub struct RouteTable {
    filters: Vec<TagPattern>,
    outputs: Vec<TagPattern>,
}

impl RouteTable {
    /// `filters[i]` is the pattern of `FilterId(i)`, `outputs[i]` that of `OutputId(i)`.
    pub fn new(filters: Vec<TagPattern>, outputs: Vec<TagPattern>) -> RouteTable {
        RouteTable { filters, outputs }
    }

    /// The answer for a tag. Costs one match per pattern: memoise it.
    pub fn routes(&self, tag: &[u8]) -> Routes {
        let mut routes = Routes::default();
        for (index, pattern) in self.filters.iter().enumerate() {
            if pattern.matches(tag) {
                routes.filters.push(FilterId(index as u16));
            }
        }
        for (index, pattern) in self.outputs.iter().enumerate() {
            if pattern.matches(tag) {
                routes.outputs.insert(OutputId(index as u16));
            }
        }
        routes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_gets_every_filter_and_output_that_matches() {
        let table = RouteTable::new(
            vec![TagPattern::glob("a.*"), TagPattern::Any],
            vec![TagPattern::glob("b"), TagPattern::glob("a.*"), TagPattern::Nothing],
        );
        let routes = table.routes(b"a.x");
        assert_eq!(routes.filters, [FilterId(0), FilterId(1)]);
        assert_eq!(routes.outputs.iter().collect::<Vec<_>>(), [OutputId(1)]);
        assert!(table.routes(b"c").outputs.is_empty());
    }
}
