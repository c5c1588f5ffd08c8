//! What differs between the formats of the cache, and the memory that they need.

use super::append::Prepared;
use super::query_tile::QueryTile;
use super::rounding::Rounded;
use super::terms::Term;
use crate::ops::tile::Tile;
use fastdecode_simd::{DisjointSlice, Line};

/// How queries attend to a cache of one format, on one instruction set.
pub trait Attend: Copy {
    type L: Tile;
    /// The most queries of a tile.
    const ROWS: usize;

    fn lanes(self) -> Self::L;

    /// The outputs of a tile of `R` queries; `N` vectors of values are mixed at once where there are registers
    /// for them.
    fn attend<const R: usize, const N: usize>(
        self,
        tile: QueryTile<'_>,
        workspace: &mut Workspace,
        to: &DisjointSlice<'_, f32>,
    );
}

/// What a task needs memory for; it is reused from tile to tile, without being cleared: each place is written
/// before it is read.
#[derive(Default)]
pub struct Workspace {
    /// The queries of a tile, beside each other.
    pub queries: Vec<f32>,
    pub prepared: Prepared,
    pub scores: Vec<Line>,
    /// The queries of a tile as integers.
    pub words: Vec<[i32; 2]>,
    pub rounded: Rounded,
    /// The softmax's terms as integers.
    pub terms: Vec<Term>,
}
