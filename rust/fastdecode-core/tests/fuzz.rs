//! The fuzz targets' bodies on seeded random bytes: what CI runs where libFuzzer is not at hand.
//! `FASTDECODE_FUZZ_SECONDS=600 cargo test --test fuzz` runs them longer.

#[path = "../../fuzz/src/sampling.rs"]
mod bodies;

use std::time::{Duration, Instant};

use fastdecode_core::philox::philox4x32;

/// Bytes for one round: of any length up to 48, 200 or 3000, all decided by the round's number.
fn input(target: u32, round: u64) -> Vec<u8> {
    let key = [round as u32, (round >> 32) as u32];
    let [pick, length, ..] = philox4x32([0, 0, 0, target], key);
    let longest = [48, 200, if cfg!(miri) { 400 } else { 3000 }][pick as usize % 3];
    let len = length as usize % longest;
    let blocks = (1..=len.div_ceil(16) as u32).map(|block| philox4x32([block, 0, 0, target], key));
    let mut bytes: Vec<u8> = blocks.flatten().flat_map(u32::to_le_bytes).take(len).collect();
    if round.is_multiple_of(2) {
        // Of random bits nearly every long row has a NaN: clear an exponent bit of each float.
        for four in bytes.chunks_exact_mut(4).skip(10) {
            four[3] &= 0b1011_1111;
        }
    }
    bytes
}

fn run(body: fn(&[u8]), target: u32) {
    // The first thousand are always run, so that a slow machine tests as much; Miri, which is some
    // thousand times slower, runs a few.
    let least = if cfg!(miri) { 8 } else { 1000 };
    let seconds = std::env::var("FASTDECODE_FUZZ_SECONDS");
    let seconds = seconds.map_or(1, |value| value.parse().expect("a number of seconds"));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut rounds = 0;
    while rounds < least || Instant::now() < end {
        body(&input(target, rounds));
        rounds += 1;
    }
    println!("{rounds} inputs");
}

#[test]
fn any_row() {
    run(bodies::row, 1);
}

#[test]
fn any_batch() {
    run(bodies::batch, 2);
}

#[test]
fn any_key() {
    run(bodies::key, 3);
}
