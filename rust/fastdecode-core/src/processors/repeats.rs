//! Where a sequence's end has occurred before in it, and how much of it.

/// At `i`: how many of the sequence's last tokens are also the last ones `i` tokens earlier; that
/// is, what the sequence and itself without its last `i` tokens have in common at their ends.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    lengths: Vec<u32>,
}

impl Repeats {
    /// The Z function of the reversed sequence (Gusfield, 1997): linear time.
    pub(super) fn measure(&mut self, tokens: &[u32]) {
        let len = tokens.len();
        let back = |i: usize| tokens[len - 1 - i];
        let lengths = &mut self.lengths;
        lengths.clear();
        lengths.push(len as u32);
        // The match seen that reaches furthest back: [left, right), a copy of [0, right - left).
        let (mut left, mut right) = (0, 0);
        for i in 1..=len {
            let known = if i < right { (lengths[i - left] as usize).min(right - i) } else { 0 };
            let more = (i + known..len).take_while(|&j| back(j) == back(j - i)).count();
            let length = known + more;
            if i + length > right {
                (left, right) = (i, i + length);
            }
            lengths.push(length as u32);
        }
    }

    /// Each distance back at which something follows, with the length of the match there.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, usize)> {
        self.lengths.iter().map(|&length| length as usize).enumerate().skip(1)
    }
}
