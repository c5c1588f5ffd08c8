//! What the decoding core and the inference engine share: vectors, threads, and the memory layout
//! that both need.
//!
//! - [`Level`] names an instruction set that this machine has. Only detection makes one, so safe
//!   functions may rely on it.
//! - [`Lanes`] is sixteen float32 lanes on each instruction set, and [`kernel!`] compiles a function
//!   written over it once for each of them.
//! - [`Pool`] is the process's one thread pool; [`PerProcess`], which tells a [`Process`] from its
//!   children, is what makes it survive a fork.
//! - [`DisjointSlice`] lends non-overlapping parts of a slice to the tasks of a parallel phase.
//! - [`in_default_float_mode`] makes results independent of the caller's rounding mode.
//! - [`wants_every_line`] tells whether this processor reads faster with a prefetch for every line.
//! - [`math`] has functions of real numbers as fixed sequences of operations.
//! - [`memory`] asks for memory that may be refused, and knows how much there is.
//! - [`settings`] reads the environment variables that choose the level and the threads.
//!
//! All levels perform the same IEEE operations in the same order and give the same bits: nothing is
//! re-associated, and every multiply-add is fused.

mod disjoint;
mod float_mode;
mod kernel;
mod lanes;
mod level;
mod line;
pub mod math;
pub mod memory;
mod per_process;
mod pool;
mod prefetcher;
mod process;
pub mod settings;

pub use disjoint::DisjointSlice;
pub use float_mode::in_default_float_mode;
#[cfg(target_arch = "aarch64")]
pub use lanes::Neon;
#[cfg(target_arch = "x86_64")]
pub use lanes::{Avx2, Avx512};
pub use lanes::{HALF_BITS, HIGH_BIAS, LOW_BIAS, Lanes, Portable, ROUNDER, sum_of};
pub use level::{Level, LevelKind};
pub use line::{LANES, Line};
pub use per_process::PerProcess;
pub use pool::{Pool, Session};
pub use prefetcher::wants_every_line;
pub use process::Process;
pub use settings::SettingError;
