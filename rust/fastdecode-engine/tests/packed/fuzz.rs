//! The body of the fuzz target on seeded damages of good files: what CI runs where libFuzzer is not at hand.

use crate::bodies;
use crate::seeded::run;

#[test]
fn any_packed_file() {
    run(bodies::packed, &bodies::seeds(), 9);
}
