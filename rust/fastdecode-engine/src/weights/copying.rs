//! Copies tensors to where they are packed, in parallel.

use super::elements::Elements;
use super::file::WeightsFile;
use super::format::{ACROSS, Block, Format, PANEL, in_place, lines_of_group, pack, put};
use super::store::Widest;
use crate::error::{Error, Result};
use crate::gguf;
use fastdecode_simd::{DisjointSlice, LANES, Line, Session, memory};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How a file lays out the matrix of a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Orientation {
    /// Shape (inputs, outputs).
    InputsByOutputs,
    /// Shape (outputs, inputs).
    OutputsByInputs,
}

/// What some lines are packed from.
pub(super) struct Copy<'a> {
    pub sources: Vec<Source<'a>>,
    pub to: Range<usize>,
    pub scales: Range<usize>,
    pub form: Form,
}

/// Rows of a tensor that become rows of a table, elements of a vector, or outputs of a matrix.
pub(super) struct Source<'a> {
    pub name: String,
    /// None for zeros.
    pub elements: Option<Elements<'a>>,
    pub rows: Range<usize>,
}

/// How tensors become lines.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// Rows of `width` floats, to which `plus` is added, each padded with zeros.
    Rows { width: usize, plus: f32 },
    /// The elements of several tensors, one after the other, padded with zeros.
    Joined,
    /// Panels of a matrix.
    Panels { format: Format, orientation: Orientation, inputs: usize, outputs: usize },
}

/// Lines of a task of the copy, roughly.
const STRIP: usize = 1 << 12;

/// Some whole rows or panels of a copy.
struct Strip {
    /// Lines of a row or panel.
    unit: usize,
    units: Range<usize>,
}

/// What a task needs memory for; it is reused.
#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    blocks: Vec<u8>,
    unit: Vec<f32>,
    column: Vec<f32>,
}

/// Packs tensor by tensor, so that no more than one of them is in memory beside the arena.
pub(super) fn copy_all(
    copies: &[Copy<'_>],
    lines: &mut [Line],
    session: &mut Session<'_>,
) -> Result<()> {
    let lines = DisjointSlice::new(lines);
    let mut whole = Vec::new();
    let most = copies.iter().filter_map(Copy::strided).map(Elements::bytes_in_file).max();
    memory::room(&mut whole, most.unwrap_or(0))?;
    let scratches = Mutex::new(Vec::new());
    let copied = copies.iter().try_for_each(|copy| {
        let elements = match copy.strided() {
            Some(elements) => Some(elements.in_memory(&mut whole, session)?),
            None => None,
        };
        let strips: Vec<Strip> = strips_of(copy).collect();
        let failure = Mutex::new(None);
        session.run(strips.len(), |task| {
            let Strip { unit, units } = &strips[task];
            let start = copy.to.start + units.start * unit;
            // SAFETY: strips do not overlap, and each is one task's.
            let to = unsafe { lines.part(start..start + units.len() * unit) };
            let scales = if copy.scales.is_empty() {
                0..0
            } else {
                copy.scales.start + units.start * ACROSS..copy.scales.start + units.end * ACROSS
            };
            // SAFETY: scales lie apart from weights, and those of a panel belong to its strip.
            let scales = unsafe { lines.part(scales) };
            let mut scratch = locked(&scratches).pop().unwrap_or_default();
            let done = copy_units(copy, elements, &strips[task], to, scales, &mut scratch);
            locked(&scratches).push(scratch);
            if let Err(error) = done {
                locked(&failure).get_or_insert(error);
            }
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    });
    // Before any other complaint: what is wrong with the contents may be what was written meanwhile.
    let sources = copies.iter().flat_map(|copy| &copy.sources);
    let files = sources.filter_map(|source| source.elements?.file());
    let mut files: Vec<&WeightsFile> = files.collect();
    files.dedup_by(|a, b| std::ptr::eq(*a, *b));
    files.into_iter().try_for_each(WeightsFile::check_unchanged)?;
    copied
}

/// The lock, even after a panic of another task.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn strips_of(copy: &Copy<'_>) -> impl Iterator<Item = Strip> {
    let (unit, units) = match copy.form {
        // One row for a vector, whose remaining lines are padding.
        Form::Rows { width, .. } => {
            let size = |source: &Source<'_>| source.elements.map_or(0, Elements::len);
            (width.div_ceil(LANES), copy.sources.iter().map(size).sum::<usize>() / width)
        }
        Form::Joined => (copy.to.len(), 1),
        Form::Panels { format, inputs, outputs, .. } => {
            (format.panel_lines(inputs), outputs.div_ceil(PANEL))
        }
    };
    let step = (STRIP / unit).max(1);
    (0..units).step_by(step).map(move |first| Strip { unit, units: first..units.min(first + step) })
}

/// Packs some rows or panels. `strided` has the elements of a tensor whose rows or panels lie apart.
fn copy_units(
    copy: &Copy<'_>,
    strided: Option<Elements<'_>>,
    strip: &Strip,
    to: &mut [Line],
    scales: &mut [Line],
    scratch: &mut Scratch,
) -> Result<()> {
    let mut scales = scales.chunks_exact_mut(ACROSS);
    for (n, to) in strip.units.clone().zip(to.chunks_exact_mut(strip.unit)) {
        let Form::Panels { format, inputs, .. } = copy.form else {
            let x = read_row(copy, n, scratch)?;
            for (line, row) in to.iter_mut().zip(x.chunks(LANES)) {
                line.0[..row.len()].copy_from_slice(row);
            }
            continue;
        };
        let kept = |source: &Source<'_>| source.kept_in(format).is_some();
        if copy.sources.iter().all(|source| source.elements.is_none() || kept(source)) {
            copy_blocks(copy, n, to, scratch)?;
            continue;
        }
        let Scratch { bytes, unit, column, .. } = scratch;
        if let Some(panel) = in_place(format, to) {
            read_panel(copy, strided, n, panel, bytes, column)?;
        } else {
            let panel = memory::room(unit, inputs * PANEL)?;
            read_panel(copy, strided, n, panel.as_chunks_mut().0, bytes, column)?;
            pack(format, panel, to, scales.next().unwrap_or_default());
        }
        // Over what their values have been quantised to.
        if copy.sources.iter().any(kept) {
            copy_blocks(copy, n, to, scratch)?;
        }
    }
    Ok(())
}

impl Form {
    /// The inputs that are converted for it.
    pub fn converted_inputs(self) -> Widest {
        match self {
            Self::Panels { format, inputs, .. } => Widest {
                quantised: if format.quantises() { inputs } else { 0 },
                rounded: if format.rounds() { inputs } else { 0 },
            },
            _ => Widest::default(),
        }
    }
}

impl<'a> Copy<'a> {
    /// The elements of a tensor, if those of a panel lie apart in it.
    fn strided(&self) -> Option<Elements<'a>> {
        match self.form {
            Form::Panels { orientation: Orientation::InputsByOutputs, .. } => {
                self.sources.first()?.elements
            }
            _ => None,
        }
    }

    /// The sources of `count` outputs or elements from `first` on, each with some of its rows.
    fn rows(
        &self,
        first: usize,
        count: usize,
    ) -> impl Iterator<Item = (&Source<'a>, Range<usize>)> {
        let end = first + count;
        let mut start = 0;
        self.sources.iter().filter_map(move |source| {
            let here = start..start + source.rows.len();
            start = here.end;
            let (from, to) = (first.max(here.start), end.min(here.end));
            let row = |output: usize| source.rows.start + output - here.start;
            (from < to).then(|| (source, row(from)..row(to)))
        })
    }
}

/// Row `n` of a copy that has rows.
fn read_row<'x>(copy: &Copy<'_>, n: usize, scratch: &'x mut Scratch) -> Result<&'x [f32]> {
    let Scratch { bytes, unit: to, .. } = scratch;
    if let Form::Rows { width, plus } = copy.form {
        let to = memory::room(to, width)?;
        copy.sources[0].read(n * width, to, bytes)?;
        if plus != 0.0 {
            for x in to.iter_mut() {
                *x += plus;
            }
        }
        return Ok(to);
    }
    let size = copy.sources.iter().map(|source| source.rows.len()).sum();
    let to = memory::room(to, size)?;
    let mut done = 0;
    for source in &copy.sources {
        let part = &mut to[done..done + source.rows.len()];
        source.read(source.rows.start, part, bytes)?;
        done += part.len();
    }
    Ok(to)
}

/// Panel `n` of a copy that has panels: 32 outputs for each input.
fn read_panel(
    copy: &Copy<'_>,
    strided: Option<Elements<'_>>,
    n: usize,
    to: &mut [[f32; PANEL]],
    bytes: &mut Vec<u8>,
    column: &mut Vec<f32>,
) -> Result<()> {
    let Form::Panels { orientation, inputs, outputs, .. } = copy.form else { return Ok(()) };
    let first = n * PANEL;
    let width = PANEL.min(outputs - first);
    if width < PANEL {
        to.fill([0.0; PANEL]);
    }
    if orientation == Orientation::InputsByOutputs {
        let Some(elements) = strided else { return Ok(()) };
        for (k, row) in to.iter_mut().enumerate() {
            elements.read(k * outputs + first, &mut row[..width]);
            copy.sources[0].check_finite(&row[..width])?;
        }
        return Ok(());
    }
    let mut output = 0;
    for (source, rows) in copy.rows(first, width) {
        let columns = memory::room(column, rows.len() * inputs)?;
        source.read(rows.start * inputs, columns, bytes)?;
        put_columns(columns, inputs, output, to);
        output += rows.len();
    }
    Ok(())
}

/// Puts the blocks of a GGUF file that the format holds without loss into panel `n`.
fn copy_blocks(copy: &Copy<'_>, n: usize, to: &mut [Line], scratch: &mut Scratch) -> Result<()> {
    let Form::Panels { format, inputs, outputs, .. } = copy.form else { return Ok(()) };
    let first = n * PANEL;
    let mut output = 0;
    for (source, rows) in copy.rows(first, PANEL.min(outputs - first)) {
        let places = output..output + rows.len();
        output = places.end;
        let Some((elements, encoding)) = source.kept_in(format) else { continue };
        let elements = elements.part(rows.start * inputs..rows.end * inputs);
        let found = elements.blocks(&mut scratch.blocks, &mut scratch.bytes)?;
        let Some(found) = found.filter(|found| !found.is_empty()) else { continue };
        for (row, place) in found.chunks_exact(found.len() / rows.len()).zip(places) {
            let groups = to.chunks_exact_mut(lines_of_group(format));
            for (block, group) in row.chunks_exact(encoding.block_bytes()).zip(groups) {
                let Some(integers) = encoding.integers(block) else { continue };
                if !integers.is_finite() {
                    return Err(Error::NotFinite { name: source.name.clone() });
                }
                if let Some(block) = Block::of(format, &integers) {
                    put(format, &block, place, group);
                }
            }
        }
    }
    Ok(())
}

/// Writes the weights of some outputs, each with all its inputs, to a panel, from its output `first` on.
fn put_columns(columns: &[f32], inputs: usize, first: usize, panel: &mut [[f32; PANEL]]) {
    /// Inputs and outputs of a square that is transposed in registers.
    const SIDE: usize = 4;
    for (rows, start) in panel.chunks_mut(SIDE).zip((0..).step_by(SIDE)) {
        for (columns, output) in columns.chunks(SIDE * inputs).zip((first..).step_by(SIDE)) {
            if columns.len() == SIDE * inputs && rows.len() == SIDE {
                let mut square = [[0.0; SIDE]; SIDE];
                for (column, from) in square.iter_mut().zip(columns.chunks_exact(inputs)) {
                    column.copy_from_slice(&from[start..start + SIDE]);
                }
                let [a, b, c, d] = square;
                for (k, row) in rows.iter_mut().enumerate() {
                    row[output..output + SIDE].copy_from_slice(&[a[k], b[k], c[k], d[k]]);
                }
            } else {
                for (column, output) in columns.chunks_exact(inputs).zip(output..) {
                    for (row, x) in rows.iter_mut().zip(&column[start..]) {
                        row[output] = *x;
                    }
                }
            }
        }
    }
}

impl<'a> Source<'a> {
    /// The elements and how they are stored, if a format holds them without loss as they are stored.
    fn kept_in(&self, format: Format) -> Option<(Elements<'a>, gguf::Encoding)> {
        let elements = self.elements?;
        let encoding = elements.in_gguf()?;
        Block::keeps(format, encoding).then_some((elements, encoding))
    }

    /// Elements from `start` on as float32, which are read into `bytes` if they are in a file.
    pub fn read(&self, start: usize, to: &mut [f32], bytes: &mut Vec<u8>) -> Result<()> {
        let Some(elements) = self.elements else {
            to.fill(0.0);
            return Ok(());
        };
        elements.part(start..start + to.len()).widen(to, bytes)?;
        self.check_finite(to)
    }

    fn check_finite(&self, x: &[f32]) -> Result<()> {
        // Without an early end, so that the compiler can check several at a time.
        if x.iter().fold(true, |finite, x| finite & x.is_finite()) {
            return Ok(());
        }
        Err(Error::NotFinite { name: self.name.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::{PANEL, put_columns};

    #[test]
    fn columns_of_any_number_and_length_go_to_any_place() {
        for inputs in [1, 3, 4, 5, 18] {
            for (first, outputs) in [(0, 32), (0, 4), (3, 9), (30, 2), (5, 0)] {
                let columns: Vec<f32> = (0..inputs * outputs).map(|x| x as f32 + 1.0).collect();
                let mut panel = vec![[0.0; PANEL]; inputs];
                put_columns(&columns, inputs, first, &mut panel);
                for (k, row) in panel.iter().enumerate() {
                    for (output, found) in row.iter().enumerate() {
                        let column = output.checked_sub(first).filter(|column| *column < outputs);
                        let expected = column.map_or(0.0, |column| columns[column * inputs + k]);
                        assert_eq!(*found, expected, "{inputs} {first} {outputs}");
                    }
                }
            }
        }
    }
}
