//! Samples as pictures, where they are any.

use super::Batch;

/// Pictures of one size.
#[derive(Clone, Debug)]
pub struct Pictures {
    /// Channels, height, width; one channel is grey, three are red, green and blue.
    pub shape: [usize; 3],
    /// About -1..1.
    pub pixels: Batch,
}

/// Whether samples with so many channels are pictures themselves.
pub(super) fn are_pixels(channels: usize) -> bool {
    matches!(channels, 1 | 3)
}
