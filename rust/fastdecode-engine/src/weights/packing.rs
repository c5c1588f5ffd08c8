//! Packs tensors into memory: all are found and checked first, then packed in parallel.

use super::copying::{Copy, Form, Orientation, Source, copy_all};
use super::elements::Elements;
use super::format::{ACROSS, Format, PANEL};
use super::packed::PackedFile;
use super::places::{Contents, Kind, Place, size};
use super::storage::Storage;
use super::store::{Matrix, Table, Vector, Weights, Widest};
use super::tensors::Tensors;
use crate::arena::Arena;
use crate::error::Result;
use crate::packed_error::PackedError;
use fastdecode_simd::{LANES, Session, memory};
use std::ops::Range;

/// The tensors of a model, in the order in which a pass reads them: places are given out one after the
/// other, and a panel is followed in memory by the one that is read next.
///
/// Names and shapes are checked before any memory is taken, so what is allocated is bounded by the
/// tensors that exist.
///
/// Of a packed file, whose weights only have to be read, the places are given out in the same way, and compared
/// with those that the file names.
pub(crate) struct Packing<'a> {
    origin: Origin<'a>,
    prefix: &'static str,
    storage: Storage,
    lines: usize,
    copies: Vec<Copy<'a>>,
    contents: Contents,
    /// The first place that a packed file does not name as it is needed.
    mismatch: Option<Box<str>>,
}

/// Where weights come from.
#[derive(Clone, Copy)]
enum Origin<'a> {
    Tensors(&'a Tensors<'a>),
    Packed(&'a PackedFile),
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

/// Elements that are compared at a time.
const COMPARED: usize = 1 << 18;
/// More elements than a line holds in any format.
const ELEMENTS_OF_LINE: u64 = 512;

impl<'a> Packing<'a> {
    /// A packing of tensors whose names may have `prefix`.
    pub fn new(tensors: &'a Tensors<'a>, prefix: &'static str, storage: Storage) -> Self {
        Self::of(Origin::Tensors(tensors), prefix, storage)
    }

    /// A packing of a model that is packed already.
    pub fn of_packed(file: &'a PackedFile) -> Self {
        Self::of(Origin::Packed(file), "", file.storage())
    }

    fn of(origin: Origin<'a>, prefix: &'static str, storage: Storage) -> Self {
        let contents = Contents::default();
        Self { origin, prefix, storage, lines: 0, copies: Vec::new(), contents, mismatch: None }
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
        Ok(Vector(self.copy(sources, lines, Form::Joined, [outputs, 1])))
    }

    /// The bias of a linear layer that has none: zeros, which new memory already holds.
    pub fn no_bias(&mut self, outputs: usize) -> Vector {
        let lines = outputs.div_ceil(PANEL) * ACROSS;
        self.note("", Kind::Vector, Format::Float32, lines, [outputs, 1]);
        Vector(self.take(lines))
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

    /// The matrix of a linear layer, in this format, unless the storage says otherwise.
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
    /// of shape (outputs, inputs), in the format that [`Packing::matrix`] gives.
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
    pub fn has(&mut self, name: &str) -> bool {
        let found = self.tensors().map(|tensors| tensors.has(self.prefix, name));
        self.answer(found, name)
    }

    /// Whether there is a tensor of the first name, and the one of the second has other elements.
    ///
    /// # Errors
    /// As [`Packing::vector`], if one of them cannot be read, or a value is not finite.
    pub fn differ(&mut self, name: &str, other: &str, shape: &[usize]) -> Result<bool> {
        let found = match self.tensors() {
            Some(tensors) => {
                Some(tensors.has(self.prefix, name) && self.elements_differ(name, other, shape)?)
            }
            None => None,
        };
        Ok(self.answer(found, name))
    }

    fn elements_differ(&self, name: &str, other: &str, shape: &[usize]) -> Result<bool> {
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
        let rows = orientation == Orientation::OutputsByInputs;
        let elements = sources.iter().filter_map(|source| source.elements);
        let encodings = elements.map(|elements| elements.in_gguf().filter(|_| rows));
        let format = self.format_here(self.storage.format_of(format, encodings));
        let panels = outputs.div_ceil(PANEL);
        let lines = panels.saturating_mul(format.panel_lines(inputs));
        let form = Form::Panels { format, orientation, inputs, outputs };
        let weights = self.copy(sources, lines, form, [inputs, outputs]);
        let scales = self.take(panels * format.scales());
        if let Some(copy) = self.copies.last_mut() {
            copy.scales = scales.clone();
        }
        Matrix { format, weights, scales, inputs, outputs }
    }

    /// Packs everything, or reads what is packed already.
    ///
    /// # Errors
    /// If the system refuses memory, a value is not finite, or a packed file is not as the architecture needs it
    /// or cannot be read.
    pub fn finish(self, session: &mut Session<'_>) -> Result<Weights> {
        let arena = match self.origin {
            Origin::Tensors(_) => {
                let mut arena = Arena::new(self.lines)?;
                copy_all(&self.copies, arena.lines_mut(), session)?;
                arena
            }
            Origin::Packed(file) => {
                self.check_whole(file)?;
                let mut arena = Arena::new(self.lines)?;
                file.read_weights(arena.lines_mut(), session)?;
                arena
            }
        };
        let widest = self.copies.iter().map(|copy| copy.form.converted_inputs());
        Ok(Weights::new(arena, self.contents, widest.fold(Widest::default(), Widest::and)))
    }

    /// Refuses a packed file with other contents than those that the architecture has asked for.
    fn check_whole(&self, file: &PackedFile) -> Result<()> {
        self.check_places()?;
        if self.contents == *file.contents() && self.lines as u64 == file.lines() {
            return Ok(());
        }
        Err(PackedError::Contents { at: "the end".into() }.into())
    }

    /// Refuses a packed file where a place is not as it is needed.
    fn check_places(&self) -> Result<()> {
        match &self.mismatch {
            Some(name) => Err(PackedError::Contents { at: (**name).into() }.into()),
            None => Ok(()),
        }
    }

    fn tensors(&self) -> Option<&'a Tensors<'a>> {
        match self.origin {
            Origin::Tensors(tensors) => Some(tensors),
            Origin::Packed(_) => None,
        }
    }

    /// What a packed file says of its contents.
    fn known(&self) -> Option<&'a Contents> {
        match self.origin {
            Origin::Tensors(_) => None,
            Origin::Packed(file) => Some(file.contents()),
        }
    }

    /// The format of the next matrix: a packed file has its own for each.
    fn format_here(&self, asked: Format) -> Format {
        let known = self.known().and_then(|known| known.places.get(self.contents.places.len()));
        known.map_or(asked, |place| place.format)
    }

    /// Notes an answer, which is a packed file's own where there are no tensors.
    fn answer(&mut self, found: Option<bool>, name: &str) -> bool {
        let known = self.known().and_then(|known| known.answers.get(self.contents.answers.len()));
        if known.is_none() && found.is_none() {
            self.mismatch.get_or_insert(name.into());
        }
        let answer = found.or(known.copied()).unwrap_or(false);
        self.contents.answers.push(answer);
        answer
    }

    /// Notes what the next lines are for, and compares it with what a packed file says.
    fn note(
        &mut self,
        name: &str,
        kind: Kind,
        format: Format,
        lines: usize,
        [inputs, outputs]: [usize; 2],
    ) {
        let (start, lines) = (size(self.lines), size(lines));
        let (inputs, outputs) = (size(inputs), size(outputs));
        let place = Place { name: name.into(), kind, format, start, lines, inputs, outputs };
        let index = self.contents.places.len();
        if self.known().is_some_and(|known| known.places.get(index) != Some(&place)) {
            self.mismatch.get_or_insert(name.into());
        }
        self.contents.places.push(place);
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
        let (width, rows) =
            shape.split_last().map_or((0, 1), |(width, rows)| (*width, rows.iter().product()));
        Ok(self.copy(vec![source], lines, form, [width, rows]))
    }

    /// Checks that a tensor has a shape, before its parts are listed, of which there are as many as a
    /// configuration says.
    pub fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        self.find(name, shape).map(|_| ())
    }

    /// The whole of a tensor. Of a packed file there are no elements, but it has to be large enough for them.
    fn find(&self, name: &str, shape: &[usize]) -> Result<Source<'a>> {
        let elements = match self.origin {
            Origin::Tensors(tensors) => Some(tensors.get(self.prefix, name, shape)?.elements),
            Origin::Packed(file) => {
                self.check_places()?;
                let most = file.lines().saturating_mul(ELEMENTS_OF_LINE);
                let elements = shape.iter().try_fold(1u64, |all, &n| all.checked_mul(n as u64));
                if elements.is_none_or(|elements| elements > most) {
                    return Err(PackedError::Contents { at: name.into() }.into());
                }
                None
            }
        };
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

    fn copy(
        &mut self,
        sources: Vec<Source<'a>>,
        lines: usize,
        form: Form,
        sizes: [usize; 2],
    ) -> Range<usize> {
        let (kind, format) = match form {
            Form::Panels { format, .. } => (Kind::Matrix, format),
            Form::Rows { .. } if sizes[1] > 1 => (Kind::Table, Format::Float32),
            Form::Rows { .. } | Form::Joined => (Kind::Vector, Format::Float32),
        };
        let name = sources.first().map_or("", |source| &source.name);
        self.note(name, kind, format, lines, sizes);
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
