//! The body of the fuzz target `gguf` on seeded damages of small models.
//! `FASTDECODE_FUZZ_SECONDS=600 cargo test -p fastdecode-engine --test gguf fuzz` runs it longer.

#[path = "../engine/seeded.rs"]
mod seeded;

use crate::bodies;
use seeded::run;

#[test]
fn any_gguf() {
    let names: Vec<_> = bodies::names().collect();
    assert!(names.iter().all(|name| names.iter().filter(|other| *other == name).count() == 1));
    for seed in bodies::seeds() {
        assert_eq!(bodies::formats(&seed), bodies::storages().len());
    }
    assert_eq!(bodies::formats(&bodies::values()), 0);
    // A width of the feed-forward layers that no tensor has.
    let mut wide = bodies::seeds().remove(0);
    wide[10..14].copy_from_slice(&12_582_916u32.to_le_bytes());
    assert_eq!(bodies::formats(&wide), 0);
    run(bodies::gguf, &[bodies::seeds(), vec![bodies::values()]].concat(), 5);
}
