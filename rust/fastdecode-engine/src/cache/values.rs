//! How the values of a head lie in a chunk: whole vectors position by position, and then, position by position
//! without gaps, what is left of each where the width is no multiple of sixteen.

use super::shape::POSITIONS;
use fastdecode_simd::{LANES, Line};

/// Writes the value of the position in lane `lane` to the values of a head.
#[inline(always)]
pub fn write(values: &mut [Line], lane: usize, value: &[f32]) {
    let (whole, rest) = value.as_chunks::<LANES>();
    for (line, vector) in values[lane * whole.len()..].iter_mut().zip(whole) {
        line.0 = *vector;
    }
    for (i, x) in rest.iter().enumerate() {
        let at = lane * rest.len() + i;
        values[POSITIONS * whole.len() + at / LANES].0[at % LANES] = *x;
    }
}

/// What is left of the values of each position after whole vectors, and zeros after that.
pub fn rests(values: &[Line]) -> [Line; POSITIONS] {
    let (whole, rest) = (values.len() / LANES, values.len() % LANES);
    let values = values[POSITIONS * whole..].iter().flat_map(|line| line.0);
    let mut rests = [Line([0.0; LANES]); POSITIONS];
    for (i, x) in values.enumerate() {
        rests[i / rest].0[i % rest] = x;
    }
    rests
}

#[cfg(test)]
mod tests {
    use super::{POSITIONS, rests, write};
    use fastdecode_simd::Line;

    #[test]
    fn what_is_written_is_read() {
        for width in [1, 5, 15, 16, 20, 40, 47] {
            let mut values = vec![Line([f32::NAN; 16]); width];
            let x = |position: usize, i: usize| (position * 100 + i) as f32;
            for position in 0..POSITIONS {
                let value: Vec<f32> = (0..width).map(|i| x(position, i)).collect();
                write(&mut values, position, &value);
            }
            let whole = width / 16;
            for position in 0..POSITIONS {
                for i in 0..16 * whole {
                    assert_eq!(values[position * whole + i / 16].0[i % 16], x(position, i));
                }
            }
            if width % 16 > 0 {
                for (position, rest) in rests(&values).iter().enumerate() {
                    for (i, found) in rest.0.iter().enumerate() {
                        let i = 16 * whole + i;
                        assert_eq!(*found, if i < width { x(position, i) } else { 0.0 });
                    }
                }
            }
        }
    }
}
