//! New keys and values, on their way into the cache.

use super::rounding::{Rounded, padded};
use super::{Attention, Part, Task};
use crate::cache::{CacheFormat, POSITIONS, halves, integers, values};
use crate::ops::pass_rows::Segment;
use crate::weights::QUAD;
use fastdecode_simd::{Lanes, kernel};

/// Memory for appending, reused from head to head.
#[derive(Default)]
pub struct Prepared {
    /// A head of queries or keys.
    pub head: Vec<f32>,
    /// A key or a value as integers.
    rounded: Rounded,
}

impl Task<'_> {
    /// Appends one head of the keys and values of a segment to its cache.
    #[inline(always)]
    pub fn append<L: Lanes>(self, l: L, segment: &Segment, head: usize, prepared: &mut Prepared) {
        let Attention { heads, shape, .. } = *self.attention;
        let (strip, place) = (self.strip(segment.sequence), self.place(head));
        for i in 0..segment.count {
            let (row, position) = (segment.first + i, segment.start + i);
            // SAFETY: the position is reserved, as `new` has checked, and `Reserved` is borrowed mutably.
            // Each segment has a sequence of its own, whose head is appended to either by the task of the
            // only row block that reads it, or in a phase before.
            let (keys, values) =
                unsafe { strip.head_mut(strip.place_of(position / POSITIONS), place) };
            let lane = position % POSITIONS;
            let mut key = self.head(row, heads.queries + head);
            let value = self.head(row, heads.queries + shape.heads + head);
            let Prepared { head: room, rounded } = &mut *prepared;
            if !self.plain() {
                let room = super::query_tile::room(room, shape.width, 0.0);
                room.copy_from_slice(key);
                self.prepare(l, row, Part::Key, room);
                key = room;
            }
            match shape.format {
                CacheFormat::Float32 => {
                    for (line, key) in keys.iter_mut().zip(key) {
                        line.0[lane] = *key;
                    }
                    values::write(values, lane, value);
                }
                CacheFormat::BFloat16 => {
                    halves::write_key(keys, lane, key);
                    halves::write_value(values, lane, value);
                }
                CacheFormat::Int8 => {
                    let scale = rounded.fill(l, key);
                    let bytes = rounded.high(shape.width.next_multiple_of(QUAD));
                    integers::write_key(keys, lane, bytes, scale);
                    let scale = rounded.fill(l, value);
                    integers::write_value(values, lane, rounded.high(padded(shape.width)), scale);
                }
            }
        }
    }
}

kernel! {
    /// Appends one head of the keys and values of a segment to its cache.
    pub(super) fn append_segment(task: Task<'_>, segment: &Segment, head: usize) = append_segment_body;
}

#[inline(always)]
fn append_segment_body<L: Lanes>(l: L, task: Task<'_>, segment: &Segment, head: usize) {
    task.append(l, segment, head, &mut Prepared::default());
}
