//! One function, compiled once for each instruction set.

/// Declares `fn name(level, arguments) -> result`, which runs the `#[inline(always)]` function
/// `body`, generic over [`Lanes`](crate::Lanes), compiled for `level`.
///
/// The body takes the lanes as its first argument. It must avoid closures in its hot loops: they are
/// not compiled for the instruction set of the function around them.
///
/// ```
/// use fastdecode_simd::{LANES, Lanes, Level, kernel};
///
/// kernel! {
///     /// Doubles sixteen floats.
///     fn double(x: &mut [f32; LANES]) = double_body;
/// }
///
/// #[inline(always)]
/// fn double_body<L: Lanes>(l: L, x: &mut [f32; LANES]) {
///     let v = l.load(x);
///     l.store(l.add(v, v), x);
/// }
///
/// let mut x = [1.5; LANES];
/// double(Level::detect(), &mut x);
/// assert_eq!(x, [3.0; LANES]);
/// ```
#[macro_export]
macro_rules! kernel {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:path;
    ) => {
        $(#[$meta])*
        $vis fn $name(level: $crate::Level, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: this function is compiled for AVX2 and FMA, and called only where the
                    // machine has them.
                    $body(unsafe { $crate::Avx2::new() }, $($arg),*)
                }
                #[target_feature(
                    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,lzcnt,popcnt"
                )]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: this function is compiled for AVX-512, and called only where the
                    // machine has it.
                    $body(unsafe { $crate::Avx512::new() }, $($arg),*)
                }
                match level.kind() {
                    // SAFETY: a level is made only where the machine has the features it names.
                    $crate::LevelKind::Avx2 => unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    $crate::LevelKind::Avx512 => unsafe { avx512($($arg),*) },
                    $crate::LevelKind::Portable => $body($crate::Portable, $($arg),*),
                }
            }
            #[cfg(target_arch = "aarch64")]
            match level.kind() {
                $crate::LevelKind::Neon => $body($crate::Neon, $($arg),*),
                $crate::LevelKind::Portable => $body($crate::Portable, $($arg),*),
            }
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            {
                let $crate::LevelKind::Portable = level.kind();
                $body($crate::Portable, $($arg),*)
            }
        }
    };
}
