//! Packs tensors into memory: all are found and checked first, then packed in parallel.

use super::elements::Elements;
use super::file::WeightsFile;
use super::format::{ACROSS, Format, PANEL, in_place, pack};
use super::store::{Matrix, Table, Vector, Weights};
use super::tensors::Tensors;
use crate::arena::Arena;
use crate::error::{Error, Result};
use fastdecode_simd::{DisjointSlice, LANES, Line, Session, memory};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The tensors of a model, in the order in which a pass reads them: places are given out one after the
/// other, and a panel is followed in memory by the one that is read next.
///
/// Names and shapes are checked before any memory is taken, so what is allocated is bounded by the
/// tensors that exist.
pub(crate) struct Packing<'a> {
    tensors: &'a Tensors<'a>,
    prefix: &'static str,
    lines: usize,
    copies: Vec<Copy<'a>>,
}

/// How a file lays out the matrix of a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Orientation {
    /// Shape (inputs, outputs).
    InputsByOutputs,
    /// Shape (outputs, inputs).
    OutputsByInputs,
}

/// Outputs of a linear layer that one tensor provides: rows of its matrix, of shape (outputs, inputs), or
/// elements of its bias.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    name: String,
    rows: Range<usize>,
    /// Rows of the whole tensor; zero where the outputs are no tensor's.
    of: usize,
}

impl Part {
    /// All rows of a tensor that has this number of them.
    pub fn whole(name: String, rows: usize) -> Self {
        Self { name, rows: 0..rows, of: rows }
    }

    /// Some rows of a tensor that has `of` of them.
    pub fn of(name: &str, rows: Range<usize>, of: usize) -> Self {
        Self { name: name.into(), rows, of }
    }

    /// Outputs that are always zero.
    pub fn zeros(rows: usize) -> Self {
        Self { name: String::new(), rows: 0..rows, of: 0 }
    }
}

struct Copy<'a> {
    sources: Vec<Source<'a>>,
    to: Range<usize>,
    scales: Range<usize>,
    form: Form,
}

/// Rows of a tensor that become rows of a table, elements of a vector, or outputs of a matrix.
struct Source<'a> {
    name: String,
    /// None for zeros.
    elements: Option<Elements<'a>>,
    rows: Range<usize>,
}

/// How tensors become lines.
#[derive(Clone, Copy)]
enum Form {
    /// Rows of `width` floats, to which `plus` is added, each padded with zeros.
    Rows { width: usize, plus: f32 },
    /// The elements of several tensors, one after the other, padded with zeros.
    Joined,
    /// Panels of a matrix.
    Panels { format: Format, orientation: Orientation, inputs: usize, outputs: usize },
}

/// Elements that are compared at a time.
const COMPARED: usize = 1 << 18;

impl<'a> Packing<'a> {
    /// A packing of tensors whose names may have `prefix`.
    pub fn new(tensors: &'a Tensors<'a>, prefix: &'static str) -> Self {
        Self { tensors, prefix, lines: 0, copies: Vec::new() }
    }

    /// A vector of `width` floats.
    ///
    /// # Errors
    /// If the tensor is missing, or has another shape or an unknown type.
    pub fn vector(&mut self, name: &str, width: usize) -> Result<Vector> {
        self.padded(name, width, width.div_ceil(LANES), 0.0)
    }

    /// A vector of `width` floats, to each of which 1 is added.
    ///
    /// # Errors
    /// As [`Packing::vector`].
    pub fn vector_plus_one(&mut self, name: &str, width: usize) -> Result<Vector> {
        self.padded(name, width, width.div_ceil(LANES), 1.0)
    }

    /// The bias of a linear layer, padded to whole panels.
    ///
    /// # Errors
    /// As [`Packing::vector`].
    pub fn bias(&mut self, name: &str, outputs: usize) -> Result<Vector> {
        self.padded(name, outputs, outputs.div_ceil(PANEL) * ACROSS, 0.0)
    }

    /// The bias of a linear layer whose outputs several tensors provide, padded to whole panels.
    ///
    /// # Errors
    /// As [`Packing::vector`].
    pub fn joined_bias(&mut self, parts: &[Part]) -> Result<Vector> {
        let outputs: usize = parts.iter().map(|part| part.rows.len()).sum();
        let sources = parts.iter().map(|part| self.source(part, None)).collect::<Result<_>>()?;
        let lines = outputs.div_ceil(PANEL).saturating_mul(ACROSS);
        Ok(Vector(self.copy(sources, lines, Form::Joined)))
    }

    /// The bias of a linear layer that has none: zeros, which new memory already holds.
    pub fn no_bias(&mut self, outputs: usize) -> Vector {
        Vector(self.take(outputs.div_ceil(PANEL) * ACROSS))
    }

    /// A table of `rows` rows of `width` floats.
    ///
    /// # Errors
    /// As [`Packing::vector`].
    pub fn table(&mut self, name: &str, rows: usize, width: usize) -> Result<Table> {
        let lines = rows.saturating_mul(width.div_ceil(LANES));
        let lines = self.add(name, &[rows, width], lines, Form::Rows { width, plus: 0.0 })?;
        Ok(Table { lines, width })
    }

    /// The matrix of a linear layer, in this format.
    ///
    /// # Errors
    /// As [`Packing::vector`].
    pub fn matrix(
        &mut self,
        name: &str,
        orientation: Orientation,
        [inputs, outputs]: [usize; 2],
        format: Format,
    ) -> Result<Matrix> {
        let shape = match orientation {
            Orientation::InputsByOutputs => [inputs, outputs],
            Orientation::OutputsByInputs => [outputs, inputs],
        };
        let mut source = self.find(name, &shape)?;
        let stored = source.elements.and_then(Elements::as_stored);
        let orientation = match stored {
            Some(_) if orientation == Orientation::InputsByOutputs => {
                source = Source { elements: stored, rows: 0..outputs, ..source };
                Orientation::OutputsByInputs
            }
            _ => orientation,
        };
        Ok(self.panels(vec![source], orientation, [inputs, outputs], format))
    }

    /// The matrix of a linear layer whose outputs several tensors provide, one part after the other, each
    /// of shape (outputs, inputs).
    ///
    /// # Errors
    /// As [`Packing::vector`].
    pub fn joined_matrix(
        &mut self,
        parts: &[Part],
        inputs: usize,
        format: Format,
    ) -> Result<Matrix> {
        let outputs = parts.iter().map(|part| part.rows.len()).sum();
        let sources =
            parts.iter().map(|part| self.source(part, Some(inputs))).collect::<Result<_>>()?;
        Ok(self.panels(sources, Orientation::OutputsByInputs, [inputs, outputs], format))
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.has(self.prefix, name)
    }

    /// Whether there is a tensor of the first name, and the one of the second has other elements.
    ///
    /// # Errors
    /// As [`Packing::vector`], if one of them cannot be read, or a value is not finite.
    pub fn differ(&self, name: &str, other: &str, shape: &[usize]) -> Result<bool> {
        if !self.has(name) {
            return Ok(false);
        }
        let sources = [self.find(name, shape)?, self.find(other, shape)?];
        let (mut bytes, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
        let count: usize = shape.iter().product();
        for start in (0..count).step_by(COMPARED) {
            let length = COMPARED.min(count - start);
            let first = memory::room(&mut first, length)?;
            let second = memory::room(&mut second, length)?;
            sources[0].read(start, first, &mut bytes)?;
            sources[1].read(start, second, &mut bytes)?;
            if first != second {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn panels(
        &mut self,
        sources: Vec<Source<'a>>,
        orientation: Orientation,
        [inputs, outputs]: [usize; 2],
        format: Format,
    ) -> Matrix {
        let panels = outputs.div_ceil(PANEL);
        let lines = panels.saturating_mul(format.panel_lines(inputs));
        let form = Form::Panels { format, orientation, inputs, outputs };
        let weights = self.copy(sources, lines, form);
        let scales = self.take(if format == Format::Int8 { panels * ACROSS } else { 0 });
        if let Some(copy) = self.copies.last_mut() {
            copy.scales = scales.clone();
        }
        Matrix { format, weights, scales, inputs, outputs }
    }

    /// Packs everything.
    ///
    /// # Errors
    /// If the system refuses memory, or a value is not finite.
    pub fn finish(self, session: &mut Session<'_>) -> Result<Weights> {
        let mut arena = Arena::new(self.lines)?;
        copy_all(&self.copies, arena.lines_mut(), session)?;
        let widest = self.copies.iter().map(|copy| copy.form.quantised_inputs()).max();
        Ok(Weights::new(arena, widest.unwrap_or(0)))
    }

    fn padded(&mut self, name: &str, width: usize, lines: usize, plus: f32) -> Result<Vector> {
        Ok(Vector(self.add(name, &[width], lines, Form::Rows { width, plus })?))
    }

    fn add(
        &mut self,
        name: &str,
        shape: &[usize],
        lines: usize,
        form: Form,
    ) -> Result<Range<usize>> {
        let source = self.find(name, shape)?;
        Ok(self.copy(vec![source], lines, form))
    }

    /// The whole of a tensor.
    fn find(&self, name: &str, shape: &[usize]) -> Result<Source<'a>> {
        let elements = Some(self.tensors.get(self.prefix, name, shape)?.elements);
        Ok(Source { name: name.into(), elements, rows: 0..shape[0] })
    }

    fn source(&self, part: &Part, inputs: Option<usize>) -> Result<Source<'a>> {
        let rows = part.rows.clone();
        if part.of == 0 {
            return Ok(Source { name: String::new(), elements: None, rows });
        }
        let shape: Vec<usize> = std::iter::once(part.of).chain(inputs).collect();
        Ok(Source { rows, ..self.find(&part.name, &shape)? })
    }

    fn copy(&mut self, sources: Vec<Source<'a>>, lines: usize, form: Form) -> Range<usize> {
        let to = self.take(lines);
        self.copies.push(Copy { sources, to: to.clone(), scales: 0..0, form });
        to
    }

    fn take(&mut self, lines: usize) -> Range<usize> {
        let start = self.lines;
        self.lines = start.saturating_add(lines);
        start..self.lines
    }
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
    unit: Vec<f32>,
    column: Vec<f32>,
}

/// Packs tensor by tensor, so that no more than one of them is in memory beside the arena.
fn copy_all(copies: &[Copy<'_>], lines: &mut [Line], session: &mut Session<'_>) -> Result<()> {
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
        let Scratch { bytes, unit, column } = scratch;
        if let Some(panel) = in_place(format, to) {
            read_panel(copy, strided, n, panel, bytes, column)?;
        } else {
            let panel = memory::room(unit, inputs * PANEL)?;
            read_panel(copy, strided, n, panel.as_chunks_mut().0, bytes, column)?;
            pack(format, panel, to, scales.next().unwrap_or_default());
        }
    }
    Ok(())
}

impl Form {
    /// The inputs that are quantised for it.
    fn quantised_inputs(self) -> usize {
        match self {
            Self::Panels { format: Format::Int8, inputs, .. } => inputs,
            _ => 0,
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

impl Source<'_> {
    /// Elements from `start` on as float32, which are read into `bytes` if they are in a file.
    fn read(&self, start: usize, to: &mut [f32], bytes: &mut Vec<u8>) -> Result<()> {
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
