//! Packs tensors into memory: all are found and checked first, then packed in parallel.

use super::format::{ACROSS, Format, PANEL, pack};
use super::store::{Matrix, Table, Vector, Weights};
use super::tensors::{Tensor, Tensors};
use crate::arena::Arena;
use crate::error::{Error, Result};
use fastdecode_simd::{DisjointSlice, LANES, Line, Session};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

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
        copy_all(self.tensors, &self.copies, arena.lines_mut(), session)?;
        Ok(Weights::new(arena))
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
/// Strips that are copied before the pages that they came from are released, so that the file is never
/// wholly in memory beside the arena.
const WAVE: usize = 16;

/// Some whole rows or panels of a copy.
struct Strip<'c, 'a> {
    index: usize,
    copy: &'c Copy<'a>,
    /// Lines of a row or panel.
    unit: usize,
    units: Range<usize>,
}

fn copy_all(
    tensors: &Tensors<'_>,
    copies: &[Copy<'_>],
    lines: &mut [Line],
    session: &mut Session<'_>,
) -> Result<()> {
    let strips: Vec<Strip> =
        copies.iter().enumerate().flat_map(|(index, copy)| strips_of(index, copy)).collect();
    let broken: Vec<AtomicBool> = copies.iter().map(|_| AtomicBool::new(false)).collect();
    let lines = DisjointSlice::new(lines);
    for wave in strips.chunks(WAVE) {
        session.run(wave.len(), |task| {
            let Strip { index, copy, unit, units } = &wave[task];
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
            if !copy_units(copy, *unit, units.clone(), to, scales) {
                broken[*index].store(true, Ordering::Relaxed);
            }
        });
        for copy in &copies[wave[0].index..=wave[wave.len() - 1].index] {
            tensors.forget(copy.tensor);
        }
    }
    match broken.iter().position(|b| b.load(Ordering::Relaxed)) {
        Some(index) => Err(Error::NotFinite { name: copies[index].name.clone() }),
        None => Ok(()),
    }
}

fn strips_of<'c, 'a>(index: usize, copy: &'c Copy<'a>) -> impl Iterator<Item = Strip<'c, 'a>> {
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
    (0..units).step_by(step).map(move |first| Strip {
        index,
        copy,
        unit,
        units: first..units.min(first + step),
    })
}

/// Packs some rows or panels. Returns whether all of their values are finite.
fn copy_units(
    copy: &Copy<'_>,
    unit: usize,
    units: Range<usize>,
    to: &mut [Line],
    scales: &mut [Line],
) -> bool {
    let mut x = Vec::new();
    let mut finite = true;
    let mut scales = scales.chunks_exact_mut(ACROSS);
    for (n, to) in units.zip(to.chunks_exact_mut(unit)) {
        read_unit(copy, n, &mut x);
        finite &= x.iter().copied().all(f32::is_finite);
        match copy.form {
            Form::Rows { .. } => {
                for (line, row) in to.iter_mut().zip(x.chunks(LANES)) {
                    line.0[..row.len()].copy_from_slice(row);
                }
            }
            Form::Panels { format, .. } => {
                pack(format, &x, to, scales.next().unwrap_or_default());
            }
        }
    }
    finite
}

/// Row `n` of a tensor, or its panel `n`: 32 outputs for each input.
fn read_unit(copy: &Copy<'_>, n: usize, to: &mut Vec<f32>) {
    let elements = copy.tensor.elements;
    to.clear();
    match copy.form {
        Form::Rows { width } => {
            to.resize(width, 0.0);
            elements.read(n * width, to);
        }
        Form::Panels { orientation: Orientation::InputsByOutputs, inputs, outputs, .. } => {
            to.resize(inputs * PANEL, 0.0);
            let first = n * PANEL;
            let width = PANEL.min(outputs - first);
            for (k, row) in to.chunks_exact_mut(PANEL).enumerate() {
                elements.read(k * outputs + first, &mut row[..width]);
            }
        }
        Form::Panels { orientation: Orientation::OutputsByInputs, inputs, outputs, .. } => {
            to.resize(inputs * PANEL, 0.0);
            let mut column = vec![0.0; inputs];
            for j in 0..PANEL.min(outputs - n * PANEL) {
                elements.read((n * PANEL + j) * inputs, &mut column);
                for (row, &x) in to.chunks_exact_mut(PANEL).zip(&column) {
                    row[j] = x;
                }
            }
        }
    }
}
