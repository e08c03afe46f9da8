//! Where instances can lie: what is free, how many still fit, and where the driver puts one that names no place.
//!
//! The rule is one for GPU instances (memory units of a GPU) and compute instances (compute slices of a GPU instance).

/// A kind of instance: its legal places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// Its id among the kinds.
    pub id: u32,
    /// How many units it takes.
    pub size: u8,
    /// Legal starts, ascending.
    pub starts: Vec<u8>,
    /// How many there can be at once.
    pub max_instances: u8,
}

/// A run of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First unit.
    pub start: u8,
    /// Number of units.
    pub size: u8,
}

impl Span {
    /// Whether both have a unit in common.
    #[must_use]
    pub fn overlaps(self, other: Span) -> bool {
        let end = |span: Span| u16::from(span.start) + u16::from(span.size);
        u16::from(self.start) < end(other) && u16::from(other.start) < end(self)
    }
}

/// The starts at which an instance of this kind does not overlap what is taken.
pub fn free_starts<'a>(kind: &'a Kind, taken: &'a [Span]) -> impl Iterator<Item = u8> + 'a {
    kind.starts.iter().copied().filter(|start| {
        let span = Span {
            start: *start,
            size: kind.size,
        };
        !taken.iter().any(|other| span.overlaps(*other))
    })
}

/// How many more instances of this kind fit, when `present` of them are there already.
#[must_use]
pub fn capacity(kind: &Kind, present: usize, taken: &[Span]) -> u32 {
    // Runs of equal length: taking the free one that ends first never costs another.
    let mut fitting = 0_u32;
    let mut end = 0_u16;
    for start in free_starts(kind, taken) {
        if u16::from(start) >= end {
            fitting += 1;
            end = u16::from(start) + u16::from(kind.size);
        }
    }
    let present = u32::try_from(present).unwrap_or(u32::MAX);
    fitting.min(u32::from(kind.max_instances).saturating_sub(present))
}

/// Where the driver puts an instance that names no place: where the most places stay possible, summed over all
/// kinds; among equals the lowest start. Inferred from NVIDIA's published walk-throughs, which it reproduces.
#[must_use]
pub fn default_start(kinds: &[Kind], kind: &Kind, taken: &[Span]) -> Option<u8> {
    let remaining = |start: u8| {
        let mut after = taken.to_vec();
        after.push(Span {
            start,
            size: kind.size,
        });
        kinds
            .iter()
            .map(|kind| free_starts(kind, &after).count())
            .sum::<usize>()
    };
    // `max_by_key` keeps the last of equals, so the starts go from high to low.
    let mut starts: Vec<u8> = free_starts(kind, taken).collect();
    starts.reverse();
    starts.into_iter().max_by_key(|start| remaining(*start))
}
