//! Packs tensors into memory: all are found and checked first, then packed in parallel.

use super::elements::Elements;
use super::file::WeightsFile;
use super::format::{ACROSS, Format, PANEL, pack};
use super::store::{Matrix, Table, Vector, Weights};
use super::tensors::{Tensor, Tensors};
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

struct Copy<'a> {
    name: String,
    tensor: &'a Tensor<'a>,
    to: Range<usize>,
    scales: Range<usize>,
    form: Form,
}

/// How a tensor becomes lines.
#[derive(Clone, Copy)]
enum Form {
    /// Rows of `width` floats, each padded with zeros.
    Rows { width: usize },
    /// Panels of a matrix.
    Panels { format: Format, orientation: Orientation, inputs: usize, outputs: usize },
}

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
        self.padded(name, width, width.div_ceil(LANES))
    }

    /// The bias of a linear layer, padded to whole panels.
    ///
    /// # Errors
    /// As [`Packing::vector`].
    pub fn bias(&mut self, name: &str, outputs: usize) -> Result<Vector> {
        self.padded(name, outputs, outputs.div_ceil(PANEL) * ACROSS)
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
        let lines = self.add(name, &[rows, width], lines, Form::Rows { width })?;
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
        let panels = outputs.div_ceil(PANEL);
        let lines = panels.saturating_mul(format.panel_lines(inputs));
        let form = Form::Panels { format, orientation, inputs, outputs };
        let weights = self.add(name, &shape, lines, form)?;
        let scales = self.take(if format == Format::Int8 { panels * ACROSS } else { 0 });
        if let Some(copy) = self.copies.last_mut() {
            copy.scales = scales.clone();
        }
        Ok(Matrix { format, weights, scales, inputs, outputs })
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

    fn padded(&mut self, name: &str, width: usize, lines: usize) -> Result<Vector> {
        Ok(Vector(self.add(name, &[width], lines, Form::Rows { width })?))
    }

    fn add(
        &mut self,
        name: &str,
        shape: &[usize],
        lines: usize,
        form: Form,
    ) -> Result<Range<usize>> {
        let tensor = self.tensors.get(self.prefix, name, shape)?;
        let to = self.take(lines);
        self.copies.push(Copy { name: name.into(), tensor, to: to.clone(), scales: 0..0, form });
        Ok(to)
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
    let most = copies.iter().filter(|copy| copy.form.is_strided()).map(|copy| copy.tensor.elements);
    memory::room(&mut whole, most.map(Elements::bytes_in_file).max().unwrap_or(0))?;
    let scratches = Mutex::new(Vec::new());
    let copied = copies.iter().try_for_each(|copy| {
        let mut elements = copy.tensor.elements;
        if copy.form.is_strided() {
            elements = elements.all_in_memory(&mut whole, session)?;
        }
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
    let files = copies.iter().filter_map(|copy| copy.tensor.elements.file());
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
        Form::Rows { width } => {
            (width.div_ceil(LANES), copy.tensor.shape.iter().product::<usize>() / width)
        }
        Form::Panels { format, inputs, outputs, .. } => {
            (format.panel_lines(inputs), outputs.div_ceil(PANEL))
        }
    };
    let step = (STRIP / unit).max(1);
    (0..units).step_by(step).map(move |first| Strip { unit, units: first..units.min(first + step) })
}

/// Packs some rows or panels of a tensor with these elements.
fn copy_units(
    copy: &Copy<'_>,
    elements: Elements<'_>,
    strip: &Strip,
    to: &mut [Line],
    scales: &mut [Line],
    scratch: &mut Scratch,
) -> Result<()> {
    let mut finite = true;
    let mut scales = scales.chunks_exact_mut(ACROSS);
    let Scratch { bytes, unit: x, column } = scratch;
    let (elements, units) = match copy.form.together(&strip.units) {
        Some(range) => (elements.part(range).in_memory(bytes)?, 0..strip.units.len()),
        None => (elements, strip.units.clone()),
    };
    for (n, to) in units.zip(to.chunks_exact_mut(strip.unit)) {
        let x = read_unit(copy.form, elements, n, x, column)?;
        finite &= x.iter().copied().all(f32::is_finite);
        match copy.form {
            Form::Rows { .. } => {
                for (line, row) in to.iter_mut().zip(x.chunks(LANES)) {
                    line.0[..row.len()].copy_from_slice(row);
                }
            }
            Form::Panels { format, .. } => {
                pack(format, x, to, scales.next().unwrap_or_default());
            }
        }
    }
    if finite { Ok(()) } else { Err(Error::NotFinite { name: copy.name.clone() }) }
}

impl Form {
    /// The inputs that are quantised for it.
    fn quantised_inputs(self) -> usize {
        match self {
            Self::Panels { format: Format::Int8, inputs, .. } => inputs,
            _ => 0,
        }
    }

    /// Whether the elements of a row or panel lie apart in the tensor.
    fn is_strided(self) -> bool {
        matches!(self, Self::Panels { orientation: Orientation::InputsByOutputs, .. })
    }

    /// The elements of some rows or panels, if they lie together.
    fn together(self, units: &Range<usize>) -> Option<Range<usize>> {
        match self {
            Self::Rows { width } => Some(units.start * width..units.end * width),
            Self::Panels { orientation: Orientation::InputsByOutputs, .. } => None,
            Self::Panels { inputs, outputs, .. } => {
                let end = outputs.min(units.end * PANEL);
                Some(units.start * PANEL * inputs..end * inputs)
            }
        }
    }
}

/// Row `n` of these elements, or their panel `n`: 32 outputs for each input.
fn read_unit<'x>(
    form: Form,
    elements: Elements<'_>,
    n: usize,
    to: &'x mut Vec<f32>,
    column: &mut Vec<f32>,
) -> Result<&'x [f32]> {
    match form {
        Form::Rows { width } => {
            let to = memory::room(to, width)?;
            elements.read(n * width, to);
            Ok(to)
        }
        Form::Panels { orientation: Orientation::InputsByOutputs, inputs, outputs, .. } => {
            let to = memory::room(to, inputs * PANEL)?;
            let first = n * PANEL;
            let width = PANEL.min(outputs - first);
            for (k, row) in to.chunks_exact_mut(PANEL).enumerate() {
                elements.read(k * outputs + first, &mut row[..width]);
                row[width..].fill(0.0);
            }
            Ok(to)
        }
        Form::Panels { orientation: Orientation::OutputsByInputs, inputs, .. } => {
            let to = memory::room(to, inputs * PANEL)?;
            let column = memory::room(column, inputs)?;
            let width = PANEL.min(elements.len() / inputs - n * PANEL);
            if width < PANEL {
                to.fill(0.0);
            }
            for j in 0..width {
                elements.read((n * PANEL + j) * inputs, column);
                for (row, &x) in to.chunks_exact_mut(PANEL).zip(&*column) {
                    row[j] = x;
                }
            }
            Ok(to)
        }
    }
}
