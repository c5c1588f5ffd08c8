//! Seeded damages of good inputs, which the bodies of the fuzz targets are run on where libFuzzer is not at hand.

use fastdecode_core::philox::philox4x32;
use std::time::{Duration, Instant};

/// Bytes that mean something in a header or a configuration.
const TELLING: &[u8] = b"\"\\{}[]:,-.e0123456789tfnuFBI\0\x1b\x80\xff";

/// `whole` with a few of its bytes changed, removed, repeated or inserted, all decided by the round's number.
fn damaged(mut whole: Vec<u8>, target: u32, round: u64) -> Vec<u8> {
    let key = [round as u32, (round >> 32) as u32];
    let words = |index| philox4x32([index, 0, 0, target], key);
    let [changes, ..] = words(0);
    for change in 0..=changes % 4 {
        let [kind, at, byte, count] = words(change + 1);
        if whole.is_empty() {
            break;
        }
        // Half of the changes are in the front, where a file's sizes and its header are.
        let end = if at % 2 == 0 { whole.len() } else { whole.len().min(1200) };
        let at = (at / 2) as usize % end;
        let telling = TELLING[byte as usize % TELLING.len()];
        match kind % 6 {
            0 => whole[at] = telling,
            1 => whole[at] ^= 1 << (byte % 8),
            2 => whole.insert(at, telling),
            3 => _ = whole.remove(at),
            4 => whole.truncate(at),
            _ => {
                let repeated =
                    whole[at..].iter().copied().take(count as usize % 40).collect::<Vec<_>>();
                whole.splice(at..at, repeated);
            }
        }
    }
    whole
}

/// Runs a target's body on damages of each of its inputs in turn.
pub fn run(body: fn(&[u8]), inputs: &[Vec<u8>], target: u32) {
    let seconds = std::env::var("FASTDECODE_FUZZ_SECONDS");
    let seconds = seconds.map_or(1, |value| value.parse().expect("a number of seconds"));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut rounds = 0;
    // The first thousand are always run, so that a slow machine tests as much.
    while rounds < 1000 || Instant::now() < end {
        let whole = inputs[rounds as usize % inputs.len()].clone();
        body(&damaged(whole, target, rounds));
        rounds += 1;
    }
    println!("{rounds} inputs");
}
