//! Products of bfloat16 weights and activations, summed in float32.
//!
//! The definition is that of float32 (see `ops::linear`): one chain of fused multiply-adds, k upwards, for
//! each 128 inputs. Only weights and activations are rounded before, by `rounded_bits`.
//!
//! x86's instruction for such products, `vdpbf16ps`, computes two steps of a chain at once. It rounds each
//! step as a fused multiply-add does, and begins with the upper halves of its words; Intel documents so, and
//! AMD's processors agree. It differs from two multiply-adds only where a number is subnormal, which none is
//! here. Before its first use it is compared with them all the same.

mod instruction;
mod rounded;

pub(crate) use instruction::Instruction;
pub(crate) use rounded::{Operands, Rounded};

/// Whether this processor's instruction for products of bfloat16 agrees with fused multiply-adds, to the bit:
/// only then is it used, with AVX-512. `None` if the processor has none.
#[must_use]
pub fn bfloat16_instruction() -> Option<bool> {
    Instruction::agrees()
}
