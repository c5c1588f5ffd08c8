//! Sequences that are appended to, forked, cut back and dropped, against lists that keep everything.

use super::Reserved;
use crate::cache::{Layout, POSITIONS, Sequence, Shape, values};
use crate::error::Result;
use fastdecode_core::philox::philox4x32;
use fastdecode_simd::Pool;
use std::collections::BTreeSet;
use std::sync::Arc;

const SHAPE: Shape = Shape::new(2, 3, 20);
/// Positions of a pass.
const PASS: usize = 50;

fn layout(windows: &[Option<usize>]) -> Arc<Layout> {
    Arc::new(Layout::new(Shape { layers: windows.len(), ..SHAPE }, windows))
}

/// Appends positions of `news[i]` to sequence i, in passes as those of a model.
fn append(
    pool: &Pool,
    layout: &Layout,
    sequences: &mut [Sequence],
    news: &[Vec<f32>],
) -> Result<()> {
    let mut session = pool.session(2);
    let empty = sequences.iter().all(Sequence::is_empty);
    let mut reserved = Reserved::new(sequences, |i| news[i].len(), PASS, layout, &mut session)?;
    let (mut sequence, mut done) = (0, 0);
    let mut least = vec![usize::MAX; layout.kinds().len()];
    while sequence < news.len() {
        let (mut pass, mut filled) = (Vec::new(), 0);
        while sequence < news.len() && filled < PASS {
            let part = &news[sequence][done..];
            let part = &part[..part.len().min(PASS - filled)];
            reserved.open(sequence, part.len());
            pass.push((sequence, part));
            filled += part.len();
            done += part.len();
            if done == news[sequence].len() {
                (sequence, done) = (sequence + 1, 0);
            }
        }
        for (least, spares) in least.iter_mut().zip(&reserved.spares) {
            *least = spares.len().min(*least);
        }
        for &(sequence, part) in &pass {
            let start = reserved.room(sequence).start;
            assert!(start + part.len() <= reserved.room(sequence).end);
            for (i, x) in part.iter().enumerate() {
                write(layout, &reserved[sequence], start + i, *x);
            }
        }
        for (sequence, part) in pass {
            reserved.advance(sequence, part.len());
        }
    }
    // No more chunks are taken than the largest pass needs.
    assert!(!empty || least.iter().all(|&least| least == 0 || news.is_empty()));
    Ok(())
}

fn write(layout: &Layout, sequence: &Sequence, position: usize, x: f32) {
    let lane = position % POSITIONS;
    for (kind, layer, head) in all_heads(layout) {
        let strip = sequence.strip(kind);
        let place = layout.kinds()[kind].shape.head(layer, head);
        // SAFETY: the position is reserved, and this thread alone uses the chunk.
        let (keys, values) = unsafe { strip.head_mut(strip.place_of(position / POSITIONS), place) };
        for line in keys.iter_mut() {
            line.0[lane] = x;
        }
        values::write(values, lane, &[x; SHAPE.width]);
    }
}

/// What is written at a position in all layers of a kind.
fn read(layout: &Layout, sequence: &Sequence, kind: usize, position: usize) -> f32 {
    let lane = position % POSITIONS;
    let strip = sequence.strip(kind);
    let heads = all_heads(layout).filter(|&(other, ..)| other == kind).map(|(_, layer, head)| {
        let place = layout.kinds()[kind].shape.head(layer, head);
        // SAFETY: nobody writes.
        let head = unsafe { strip.head(strip.place_of(position / POSITIONS), place) };
        assert!(head.keys.iter().all(|k| k.0[lane] == head.keys[0].0[lane]));
        let (whole, rest) = (head.values[lane], values::rests(head.values)[lane]);
        let value = whole.0.into_iter().chain(rest.0).take(SHAPE.width);
        assert!(value.into_iter().all(|x| x == head.keys[0].0[lane]));
        head.keys[0].0[lane]
    });
    let found: Vec<f32> = heads.collect();
    assert!(found.iter().all(|x| *x == found[0]));
    found[0]
}

fn all_heads(layout: &Layout) -> impl Iterator<Item = (usize, usize, usize)> {
    layout.kinds().iter().enumerate().flat_map(|(kind, one)| {
        let shape = one.shape;
        (0..shape.layers)
            .flat_map(move |layer| (0..shape.heads).map(move |head| (kind, layer, head)))
    })
}

/// Where the chunks of a kind lie.
fn places(sequence: &Sequence, kind: usize) -> Vec<usize> {
    let strip = sequence.strip(kind);
    (0..strip.len())
        // SAFETY: nobody writes.
        .map(|chunk| unsafe { strip.head(chunk, SHAPE.head(0, 0)) }.keys.as_ptr().addr())
        .collect()
}

/// Checks that each sequence has what its next token attends to, and no more memory than that takes.
fn check(layout: &Layout, sequences: &[Sequence], lists: &[Vec<f32>]) {
    let mut bytes = 0;
    for (index, kind) in layout.kinds().iter().enumerate() {
        let mut chunks = BTreeSet::new();
        for (sequence, list) in sequences.iter().zip(lists) {
            assert_eq!(sequence.len(), list.len());
            let held = sequence.strip(index).range();
            assert_eq!(held.end, list.len().div_ceil(POSITIONS));
            assert!(held.start <= kind.attended(list.len()).start);
            for (position, x) in list.iter().enumerate().skip(held.start * POSITIONS) {
                assert_eq!(read(layout, sequence, index, position), *x);
            }
            if let Some(window) = kind.window {
                assert!(held.len() <= (window + super::super::layout::SLACK + 29) / POSITIONS);
            }
            chunks.extend(places(sequence, index));
        }
        bytes += chunks.len() * kind.shape.chunk_bytes();
    }
    assert_eq!(layout.bytes_in_use(), bytes);
    let shared: usize = sequences.iter().map(Sequence::bytes).sum();
    assert!(bytes <= shared);
}

#[test]
fn random_programs() {
    let (programs, steps) = if cfg!(miri) { (2, 12) } else { (120, 60) };
    let kinds: [&[Option<usize>]; 6] = [
        &[None],
        &[Some(1)],
        &[None, Some(7), None],
        &[Some(16), Some(16)],
        &[Some(40), None, Some(3)],
        &[Some(200)],
    ];
    let pool = Pool::new();
    for program in 0..programs {
        let layout = layout(kinds[program % kinds.len()]);
        let mut sequences = vec![Sequence::new(Arc::clone(&layout))];
        let mut lists = vec![Vec::new()];
        let (mut refused, mut x) = (0, 0.0);
        for step in 0..steps {
            let [kind, one, two, three] = philox4x32([step, 0, 0, 0], [program as u32, 7]);
            let (one, two, three) = (one as usize, two as usize, three as usize);
            match kind % 8 {
                0 => {
                    let from = one % sequences.len();
                    sequences.push(sequences[from].fork().unwrap());
                    lists.push(lists[from].clone());
                }
                1 if sequences.len() > 3 => {
                    sequences.swap_remove(one % sequences.len());
                    lists.swap_remove(one % lists.len());
                }
                2 | 3 => {
                    let row = one % sequences.len();
                    let length =
                        if two % 5 == 0 { 0 } else { lists[row].len().saturating_sub(two % 80) };
                    let shortest = sequences[row].shortest();
                    let allowed = length == 0 || length >= shortest;
                    assert_eq!(sequences[row].truncate(length).is_ok(), allowed);
                    if allowed {
                        lists[row].truncate(length);
                    }
                }
                4 => {
                    sequences.push(Sequence::new(Arc::clone(&layout)));
                    lists.push(Vec::new());
                }
                _ => {
                    let long = [1, 1, 20, 130][two % 4];
                    let counts = (0..sequences.len()).map(|row| 1 + (three >> (row % 8)) % long);
                    let news: Vec<Vec<f32>> =
                        counts.map(|count| (0..count).map(|_| (x += 1.0, x).1).collect()).collect();
                    if one % 4 == 0 {
                        layout.kinds()[one % layout.kinds().len()].slabs.refuse_after(three % 5);
                    }
                    if append(&pool, &layout, &mut sequences, &news).is_ok() {
                        for (list, news) in lists.iter_mut().zip(news) {
                            list.extend(news);
                        }
                    } else {
                        refused += 1;
                    }
                    layout.kinds().iter().for_each(|kind| kind.slabs.refuse_after(usize::MAX));
                }
            }
            check(&layout, &sequences, &lists);
        }
        assert!(cfg!(miri) || refused > 0 || program > 0);
        drop(sequences);
        assert_eq!(layout.bytes_in_use(), 0);
    }
}

#[test]
fn all_sequences_but_one_copy_a_shared_chunk() {
    let layout = layout(&[None, Some(9)]);
    let mut sequences = vec![Sequence::new(Arc::clone(&layout))];
    let (pool, mut x) = (Pool::new(), 0.0);
    for step in 0..3 * POSITIONS {
        if step % 5 == 3 {
            // Three of each of the first two.
            let second = sequences.len().min(2) - 1;
            sequences = (0..6).map(|i| sequences[(i / 3).min(second)].clone()).collect();
        }
        let news: Vec<_> = sequences.iter().map(|_| vec![(x += 1.0, x).1]).collect();
        let all = |sequences: &[Sequence]| -> Vec<_> {
            (0..2).flat_map(|kind| sequences.iter().map(move |one| places(one, kind))).collect()
        };
        let before = all(&sequences);
        append(&pool, &layout, &mut sequences, &news).unwrap();
        let copies = before
            .iter()
            .zip(all(&sequences))
            .map(|(a, b)| a.iter().zip(&b).filter(|(a, b)| a != b).count());
        let copies: usize = copies.sum();
        let diverging = step % 5 == 3 && step % POSITIONS != 0;
        // At first all six come from one sequence, later from two; each of them has two kinds of layers.
        assert!(
            if diverging { copies == 8 || copies == 10 } else { copies == 0 },
            "{step}: {copies}"
        );
    }
}

#[test]
fn unused_room_is_shared_by_nobody() {
    let layout = layout(&[None]);
    let pool = Pool::new();
    let mut session = pool.session(1);
    let mut first = [Sequence::new(Arc::clone(&layout))];
    let mut reserved = Reserved::new(&mut first, |_| 1, PASS, &layout, &mut session).unwrap();
    // As where the pass then fails.
    reserved.open(0, 1);
    drop(reserved);
    let [first] = first;
    let mut sequences = [first.clone(), first];
    assert_eq!(sequences[0].shared_with(&sequences[1]), 1);
    Reserved::new(&mut sequences, |_| 1, PASS, &layout, &mut session).unwrap();
    assert_eq!(sequences[0].shared_with(&sequences[1]), 0);
}

#[test]
fn a_window_takes_no_more_memory_after_ten_of_them() {
    let layout = layout(&[None, Some(64), Some(64)]);
    let mut sequences = [Sequence::new(Arc::clone(&layout))];
    append(&Pool::new(), &layout, &mut sequences, &[vec![1.0; 640]]).unwrap();
    let token = |layers: usize| 2 * layers * SHAPE.heads * SHAPE.width * 4;
    let [full, windowed] = layout.kinds() else { unreachable!() };
    assert_eq!(full.slabs.in_use() * full.shape.chunk_bytes(), 640 * token(1));
    // The window, and the 32 positions before it.
    assert_eq!(windowed.slabs.in_use() * windowed.shape.chunk_bytes(), (64 + 32) * token(2));
    sequences[0].truncate(608).unwrap();
    assert_eq!(full.slabs.in_use(), 608 / POSITIONS);
    assert_eq!(windowed.slabs.in_use(), 4);
    let error = sequences[0].truncate(606).unwrap_err().to_string();
    assert_eq!(
        error,
        "length=606: layers with a window have given back what a sequence of 608 tokens needs to go on from \
         there; cut it back to at least 607 tokens, or to 0 and give its tokens again"
    );
    let error = sequences[0].truncate(609).unwrap_err().to_string();
    assert_eq!(
        error,
        "length=609 is outside 0..=608, the lengths that a sequence of 608 tokens can be cut back to"
    );
    sequences[0].truncate(0).unwrap();
    assert_eq!(layout.bytes_in_use(), 0);
}
