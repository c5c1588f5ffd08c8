//! The processor's floating-point mode: rounding direction, and what happens to subnormal numbers.
//!
//! The mode belongs to a thread, and any library in the process may change it: `fesetround` changes
//! the rounding, `torch.set_flush_denormal` makes subnormal numbers zero. Results that are promised to
//! be the same bits everywhere must not depend on it, so each entry from outside runs its work in the
//! mode that IEEE 754 and Rust take as the default, and the caller gets its own mode back.

/// Runs `work` with rounding to nearest, subnormal numbers kept, and no traps, and then restores the
/// caller's mode, also if `work` panics.
pub fn in_default_float_mode<T>(work: impl FnOnce() -> T) -> T {
    let _restored = Restored::enter();
    work()
}

/// Sets this thread's mode to the default, for a thread that runs nothing else.
pub(crate) fn set_default_float_mode() {
    std::mem::forget(Restored::enter());
}

/// Restores, when dropped, the mode that was changed; None where it was the default.
struct Restored(Option<register::Mode>);

impl Restored {
    #[inline(never)]
    fn enter() -> Self {
        let mode = register::read();
        let other = !register::is_default(mode);
        if other {
            register::write(register::DEFAULT);
        }
        Self(other.then_some(mode))
    }
}

impl Drop for Restored {
    #[inline(never)]
    fn drop(&mut self) {
        if let Some(mode) = self.0 {
            register::write(mode);
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod register {
    use std::arch::asm;

    /// MXCSR. Its low six bits are flags that operations set; they do not change any result.
    pub type Mode = u32;
    pub const DEFAULT: Mode = 0x1F80;
    const FLAGS: Mode = 0x3F;

    pub fn is_default(mode: Mode) -> bool {
        mode & !FLAGS == DEFAULT
    }

    pub fn read() -> Mode {
        let mut mode: Mode = 0;
        // SAFETY: stores the four bytes of MXCSR at a place that is ours. It is not marked as
        // leaving memory alone, so the compiler keeps it in order with the work.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mode, options(nostack, preserves_flags)) };
        mode
    }

    pub fn write(mode: Mode) {
        // SAFETY: `mode` is the default, or was read from the register, so no reserved bit is set.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const mode, options(nostack, preserves_flags)) };
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
mod register {
    use std::arch::asm;

    /// FPCR.
    pub type Mode = u64;
    pub const DEFAULT: Mode = 0;

    pub fn is_default(mode: Mode) -> bool {
        mode == DEFAULT
    }

    pub fn read() -> Mode {
        let mode: Mode;
        // SAFETY: reads a register that every process may read.
        unsafe { asm!("mrs {}, fpcr", out(reg) mode, options(nostack, preserves_flags)) };
        mode
    }

    pub fn write(mode: Mode) {
        // SAFETY: `mode` is the default, or was read from the register.
        unsafe { asm!("msr fpcr, {}", in(reg) mode, options(nostack, preserves_flags)) };
    }
}

/// On other processors, and under Miri, the mode is neither read nor set.
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod register {
    pub type Mode = ();
    pub const DEFAULT: Mode = ();

    pub fn is_default((): Mode) -> bool {
        true
    }

    pub fn read() -> Mode {}

    pub fn write((): Mode) {}
}

#[cfg(all(test, target_arch = "x86_64", not(miri)))]
mod tests {
    use super::{in_default_float_mode, register};
    use std::hint::black_box;
    use std::panic::catch_unwind;

    /// A third rounded, and whether a subnormal number survives a multiplication.
    #[inline(never)]
    fn seen() -> (u32, bool) {
        let third = black_box(1.0f32) / black_box(3.0f32);
        let tiny = black_box(f32::from_bits(1 << 10)) * black_box(1.0f32);
        (third.to_bits(), tiny != 0.0)
    }

    #[test]
    fn the_callers_mode_neither_counts_nor_changes() {
        let normal = seen();
        // Towards +inf, -inf and zero; results and operands flushed to zero.
        let modes = [0x1F80, 0x5F80, 0x3F80, 0x7F80, 0x9F80, 0x1FC0, 0xDFC0];
        for mode in modes {
            register::write(mode);
            let inside = in_default_float_mode(seen);
            let panicked = catch_unwind(|| in_default_float_mode(|| panic!("on purpose")));
            let after = register::read();
            register::write(register::DEFAULT);
            assert!(panicked.is_err());
            assert_eq!(inside, normal, "{mode:#x}");
            assert_eq!(after & !0x3F, mode);
        }
        assert_eq!(seen(), normal);
    }
}
