//! The hardware prefetcher of this processor.

use std::sync::LazyLock;

/// Whether a single stream is read faster if the program prefetches each of its lines.
///
/// The hardware prefetchers of most processors keep up with a single stream, so software prefetches only add
/// instructions. That of AMD's Zen 5 does not keep up.
#[must_use]
pub fn wants_every_line() -> bool {
    static ANSWER: LazyLock<bool> = LazyLock::new(ask);
    *ANSWER
}

/// By vendor and family, since no feature tells it.
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn ask() -> bool {
    use std::arch::x86_64::__cpuid;
    const ZEN_5: u32 = 0x1A;
    let vendor = __cpuid(0);
    let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
    let signature = __cpuid(1).eax;
    let family = (signature >> 8 & 0xF) + (signature >> 20 & 0xFF);
    name.as_flattened() == b"AuthenticAMD" && family >= ZEN_5
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn ask() -> bool {
    false
}
