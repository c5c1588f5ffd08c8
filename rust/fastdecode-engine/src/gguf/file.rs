//! A file whose header has been checked.

use super::encoding::Encoding;
use super::error::{Error, Place, Result};
use super::source::ReadAt;
use super::value::{Cursor, MOST_LEVELS, Stop, Value};
use fastdecode_simd::memory;
use std::fmt;
use std::fs::File;

/// What a metadata entry takes at least: the length of its key, its type, and a byte.
const LEAST_ENTRY: u64 = 13;
/// What the description of a tensor takes at least: the length of its name, the number of its dimensions,
/// its type, and its offset.
const LEAST_TENSOR: u64 = 24;
const MOST_DIMENSIONS: u32 = 4;
/// The alignment of files that do not say.
const ALIGNMENT: u64 = 32;
/// Bytes that are read first.
const FIRST_READ: u64 = 1 << 16;
/// Bytes of a tensor that are read at a time.
const PIECE: usize = 1 << 18;

/// A GGUF file whose header has been read and checked: its metadata, and where each tensor lies.
pub struct Gguf {
    source: Box<dyn ReadAt>,
    version: u32,
    size: u64,
    /// The bytes before the tensors' data.
    header: Vec<u8>,
    /// Where each metadata entry begins, by the order of the keys.
    entries: Vec<usize>,
    /// Where the description of each tensor begins, by the order of the names.
    tensors: Vec<usize>,
    alignment: u64,
    data: u64,
}

/// A tensor's description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorInfo<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// How its elements are stored.
    pub encoding: Encoding,
    /// Its sizes, of which the first `dimensions` count and the others are 1.
    sizes: [u64; MOST_DIMENSIONS as usize],
    dimensions: usize,
    /// Where its bytes begin in the tensors' data.
    offset: u64,
    /// Where its description begins in the file.
    at: usize,
}

impl TensorInfo<'_> {
    /// Its shape with the slowest dimension first, as in NumPy; the file stores the reverse.
    #[must_use]
    pub fn shape(&self) -> Vec<u64> {
        self.sizes[..self.dimensions].iter().rev().copied().collect()
    }

    /// Elements of a row, which lie side by side.
    #[must_use]
    pub fn width(&self) -> u64 {
        self.sizes[0]
    }

    /// The number of its elements.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.sizes.iter().product()
    }

    /// The number of its bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.elements() / self.encoding.block_elements() as u64 * self.encoding.block_bytes() as u64
    }
}

/// A description as it stands in the file.
struct Raw<'a> {
    name: &'a str,
    dimensions: (usize, u32),
    sizes: (usize, [u64; MOST_DIMENSIONS as usize]),
    encoding: (usize, u32),
    offset: u64,
}

impl<'a> Raw<'a> {
    /// Reads the description of a tensor whose number of dimensions may be impossible.
    fn read(cursor: &mut Cursor<'a>) -> std::result::Result<Self, Stop> {
        let name = cursor.string()?;
        let dimensions = (cursor.at, cursor.u32()?);
        let mut sizes = (cursor.at, [1; MOST_DIMENSIONS as usize]);
        if dimensions.1 > MOST_DIMENSIONS {
            // What follows cannot be told apart.
            return Ok(Self { name, dimensions, sizes, encoding: (cursor.at, 0), offset: 0 });
        }
        for size in sizes.1.iter_mut().take(dimensions.1 as usize) {
            *size = cursor.u64()?;
        }
        let encoding = (cursor.at, cursor.u32()?);
        let offset = cursor.u64()?;
        Ok(Self { name, dimensions, sizes, encoding, offset })
    }

    /// The description, if it is possible.
    fn check(&self, at: usize) -> Result<TensorInfo<'a>> {
        let name = || self.name.to_owned();
        let (place, count) = self.dimensions;
        if count > MOST_DIMENSIONS {
            return Err(Error::Dimensions { name: name(), offset: place as u64, count });
        }
        let (place, sizes) = self.sizes;
        let known = || sizes[..count as usize].to_vec();
        if sizes.contains(&0) {
            return Err(Error::NoElements { name: name(), offset: place as u64, sizes: known() });
        }
        // In float32 the elements take four bytes each.
        let elements = sizes.iter().try_fold(4u64, |product, &size| product.checked_mul(size));
        if elements.is_none_or(|bytes| i64::try_from(bytes).is_err()) {
            return Err(Error::TooLarge { name: name(), offset: place as u64, sizes: known() });
        }
        let (place, number) = self.encoding;
        let encoding = Encoding::of(number).ok_or_else(|| Error::UnknownEncoding {
            name: name(),
            offset: place as u64,
            number,
        })?;
        let (width, block) = (sizes[0], encoding.block_elements() as u64);
        if width % block != 0 {
            return Err(Error::Blocks { name: name(), width, encoding, block });
        }
        let dimensions = count as usize;
        Ok(TensorInfo { name: self.name, encoding, sizes, dimensions, offset: self.offset, at })
    }
}

impl Gguf {
    /// Reads and checks the header of a file.
    ///
    /// # Errors
    /// If it cannot be read, or is anything but the header of a whole GGUF file.
    pub fn open(file: File) -> Result<Self> {
        Self::new(Box::new(file))
    }

    /// Reads and checks a header.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn new(source: Box<dyn ReadAt>) -> Result<Self> {
        let size = source.size().map_err(|source| Error::Read { offset: 0, source })?;
        let mut header = Header { source: &*source, size, bytes: Vec::new() };
        let (version, tensor_count, entry_count) = header.beginning()?;
        let mut at = 24;
        let entries = header.entries(entry_count, &mut at)?;
        let alignment = alignment(&header.bytes, &entries)?;
        let tensors = header.tensors(tensor_count, &mut at)?;
        let Header { bytes, .. } = header;
        let mut found = Self {
            source,
            version,
            size,
            header: bytes,
            entries,
            tensors,
            alignment,
            // There may be no data, nor padding before it.
            data: (at as u64).next_multiple_of(alignment),
        };
        found.header.truncate(at);
        found.header.shrink_to_fit();
        found.check_places()?;
        Ok(found)
    }

    /// The version of the container.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The size of the file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The multiples at which tensors begin, in bytes.
    #[must_use]
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// The metadata keys, in the order of their bytes.
    #[must_use]
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.iter().map(|&at| key_at(&self.header, at))
    }

    /// The value of a metadata key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        let found = self.entries.binary_search_by(|&at| key_at(&self.header, at).cmp(key)).ok()?;
        value_at(&self.header, self.entries[found])
    }

    /// The tensors, in the order of their names' bytes.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo<'_>> {
        self.tensors.iter().filter_map(|&at| tensor_at(&self.header, at))
    }

    /// The tensor of a name.
    ///
    /// # Errors
    /// If there is none.
    pub fn tensor(&self, name: &str) -> Result<TensorInfo<'_>> {
        let found = self.tensors.binary_search_by(|&at| key_at(&self.header, at).cmp(name));
        let info = found.ok().and_then(|index| tensor_at(&self.header, self.tensors[index]));
        info.ok_or_else(|| Error::MissingTensor { name: name.to_owned() })
    }

    /// Reads elements of a tensor as float32, from element `first` on, counted over all rows.
    ///
    /// # Errors
    /// If the file cannot be read, or the tensor is stored in a way that is not read.
    ///
    /// # Panics
    /// If the tensor has no such elements, or they are not whole blocks.
    pub fn read(&self, tensor: &TensorInfo<'_>, first: u64, to: &mut [f32]) -> Result<()> {
        self.read_through(&mut Vec::new(), tensor, first, to)
    }

    /// [`Self::read`] by way of a buffer that is reused.
    pub(super) fn read_through(
        &self,
        buffer: &mut Vec<u8>,
        tensor: &TensorInfo<'_>,
        first: u64,
        to: &mut [f32],
    ) -> Result<()> {
        let encoding = tensor.encoding;
        if !encoding.is_readable() {
            return Err(Error::Encoding { name: tensor.name.to_owned(), encoding });
        }
        let piece = PIECE / encoding.block_bytes() * encoding.block_elements();
        for (index, to) in to.chunks_mut(piece).enumerate() {
            let blocks = self.blocks(buffer, tensor, first + (index * piece) as u64, to.len())?;
            encoding.dequantise(blocks, to);
        }
        Ok(())
    }

    /// Reads the blocks of `count` elements of a tensor, from element `first` on, into a buffer.
    ///
    /// # Panics
    /// If the tensor has no such elements, or they are not whole blocks.
    pub(super) fn blocks<'b>(
        &self,
        buffer: &'b mut Vec<u8>,
        tensor: &TensorInfo<'_>,
        first: u64,
        count: usize,
    ) -> Result<&'b [u8]> {
        let end = first.checked_add(count as u64);
        assert!(end.is_some_and(|end| end <= tensor.elements()), "elements after the tensor's end");
        let (elements, bytes) = (tensor.encoding.block_elements(), tensor.encoding.block_bytes());
        assert!(first.is_multiple_of(elements as u64), "elements begin within a block");
        let offset = self.data + tensor.offset + first / elements as u64 * bytes as u64;
        let needed = count / elements * bytes;
        let blocks = memory::room(buffer, needed)?;
        let read = self.source.read_exact_at(offset, blocks);
        read.map_err(|source| Error::Read { offset, source })?;
        Ok(blocks)
    }

    /// Refuses tensors that lie outside the file, in each other or at odd places.
    fn check_places(&self) -> Result<()> {
        let room = self.size.saturating_sub(self.data);
        for tensor in self.tensors() {
            let (name, offset) = (|| tensor.name.to_owned(), tensor.offset);
            if !offset.is_multiple_of(self.alignment) {
                let alignment = self.alignment;
                return Err(Error::Unaligned { name: name(), offset, alignment });
            }
            if offset.checked_add(tensor.bytes()).is_none_or(|end| end > room) {
                return Err(Error::Truncated {
                    place: Place::Tensor(name()),
                    offset: self.data.saturating_add(offset),
                    needed: tensor.bytes(),
                    left: room.saturating_sub(offset),
                });
            }
        }
        let mut order = memory::collect(self.tensors.iter().copied())?;
        let info = |at: usize| tensor_at(&self.header, at);
        order.sort_unstable_by_key(|&at| info(at).map(|tensor| tensor.offset));
        for pair in order.windows(2) {
            let (Some(first), Some(second)) = (info(pair[0]), info(pair[1])) else { continue };
            if first.offset + first.bytes() > second.offset {
                return Err(Error::Overlap {
                    first: first.name.to_owned(),
                    second: second.name.to_owned(),
                    offset: self.data + second.offset,
                });
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Gguf {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Gguf")
            .field("version", &self.version)
            .field("size", &self.size)
            .field("keys", &self.entries.len())
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}

/// A header that is being read: pieces are read from what is in memory, and again with more of the file in
/// memory where that is too little.
struct Header<'a> {
    source: &'a dyn ReadAt,
    size: u64,
    bytes: Vec<u8>,
}

impl Header<'_> {
    /// The version, the number of tensors and the number of metadata entries.
    fn beginning(&mut self) -> Result<(u32, u64, u64)> {
        let place = |_: &[u8]| Place::Beginning;
        let magic = self.piece(0, place, |cursor| cursor.take(4).map(<[u8]>::to_vec))?;
        if magic != b"GGUF" {
            let found = String::from_utf8_lossy(&magic).into_owned();
            return Err(Error::Magic { found });
        }
        let numbers =
            self.piece(4, place, |cursor| Ok((cursor.u32()?, cursor.u64()?, cursor.u64()?)))?;
        let version = numbers.0;
        if matches!(version.swap_bytes(), 1..=3) {
            return Err(Error::BigEndian);
        }
        if !matches!(version, 2 | 3) {
            return Err(Error::Version { version });
        }
        Ok(numbers)
    }

    fn entries(&mut self, count: u64, at: &mut usize) -> Result<Vec<usize>> {
        let most = (self.size - *at as u64) / LEAST_ENTRY;
        if count > most {
            return Err(Error::Count { what: "metadata keys", offset: 16, count, most });
        }
        let mut entries = memory::with_room(in_memory(count))?;
        for index in 0..count {
            entries.push(*at);
            let begun = *at;
            let key = |cursor: &mut Cursor<'_>| cursor.string().map(|_| cursor.at);
            let after = self.piece(begun, |_| Place::Key(index), key)?;
            let place = |header: &[u8]| Place::Value(key_at(header, begun).to_owned());
            *at = self.piece(after, place, |cursor| {
                let kind = cursor.kind()?;
                cursor.value(kind, 0)?;
                Ok(cursor.at)
            })?;
        }
        let key = |at| key_at(&self.bytes, at);
        entries.sort_unstable_by(|&a, &b| key(a).cmp(key(b)).then(a.cmp(&b)));
        match entries.windows(2).find(|pair| key(pair[0]) == key(pair[1])) {
            Some(pair) => {
                Err(Error::DuplicateKey { key: key(pair[1]).to_owned(), offset: pair[1] as u64 })
            }
            None => Ok(entries),
        }
    }

    fn tensors(&mut self, count: u64, at: &mut usize) -> Result<Vec<usize>> {
        let most = (self.size - *at as u64) / LEAST_TENSOR;
        if count > most {
            return Err(Error::Count { what: "tensors", offset: 8, count, most });
        }
        let mut tensors = memory::with_room(in_memory(count))?;
        for index in 0..count {
            let begun = *at;
            tensors.push(begun);
            let name = |cursor: &mut Cursor<'_>| cursor.string().map(|_| ());
            self.piece(begun, |_| Place::TensorName(index), name)?;
            let place = |header: &[u8]| Place::Tensor(key_at(header, begun).to_owned());
            let (checked, after) = self.piece(begun, place, |cursor| {
                let checked = Raw::read(cursor)?.check(begun).map(|_| ());
                Ok((checked, cursor.at))
            })?;
            checked?;
            *at = after;
        }
        let name = |at| key_at(&self.bytes, at);
        tensors.sort_unstable_by(|&a, &b| name(a).cmp(name(b)).then(a.cmp(&b)));
        match tensors.windows(2).find(|pair| name(pair[0]) == name(pair[1])) {
            Some(pair) => Err(Error::DuplicateTensor {
                name: name(pair[1]).to_owned(),
                offset: pair[1] as u64,
            }),
            None => Ok(tensors),
        }
    }

    /// Reads a piece at byte `at`.
    fn piece<T>(
        &mut self,
        at: usize,
        place: impl Fn(&[u8]) -> Place,
        read: impl Fn(&mut Cursor<'_>) -> std::result::Result<T, Stop>,
    ) -> Result<T> {
        loop {
            let stop = match read(&mut Cursor::new(&self.bytes, at)) {
                Ok(found) => return Ok(found),
                Err(stop) => stop,
            };
            let place = place(&self.bytes);
            match stop {
                Stop::More { offset, needed } => self.load(place, offset as u64, needed)?,
                Stop::Text { offset } => return Err(Error::Text { place, offset: offset as u64 }),
                Stop::Kind { offset, number } => {
                    return Err(Error::UnknownType { place, offset: offset as u64, number });
                }
                Stop::Boolean { offset, value } => {
                    return Err(Error::Boolean { place, offset: offset as u64, value });
                }
                Stop::Nested { offset } => {
                    return Err(Error::Nested { place, offset: offset as u64, most: MOST_LEVELS });
                }
            }
        }
    }

    /// Reads at least the bytes `offset..offset + needed`, and about twice of what is in memory, so that the
    /// pieces that are read again are few.
    fn load(&mut self, place: Place, offset: u64, needed: u64) -> Result<()> {
        let end = offset.checked_add(needed).filter(|&end| end <= self.size);
        let Some(end) = end else {
            let left = self.size.saturating_sub(offset);
            return Err(Error::Truncated { place, offset, needed, left });
        };
        let begun = self.bytes.len();
        let offset = begun as u64;
        let target = end.max(2 * offset).max(FIRST_READ).min(self.size);
        let target = in_memory(target);
        memory::reserve(&mut self.bytes, target.saturating_sub(begun))?;
        self.bytes.resize(target, 0);
        let read = self.source.read_exact_at(offset, &mut self.bytes[begun..]);
        read.map_err(|source| Error::Read { offset, source })
    }
}

/// A number from the file as a size in memory. One that is too large for this machine becomes the largest,
/// which cannot be allocated.
fn in_memory(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// The key of the entry, or the name of the tensor, at a place that has been checked.
fn key_at(header: &[u8], at: usize) -> &str {
    Cursor::new(header, at).string().unwrap_or_default()
}

/// The value of the entry at a place that has been checked.
fn value_at(header: &[u8], at: usize) -> Option<Value<'_>> {
    let mut cursor = Cursor::new(header, at);
    cursor.string().ok()?;
    let kind = cursor.kind().ok()?;
    cursor.value(kind, 0).ok()
}

/// The tensor at a place that has been checked.
fn tensor_at(header: &[u8], at: usize) -> Option<TensorInfo<'_>> {
    Raw::read(&mut Cursor::new(header, at)).ok()?.check(at).ok()
}

/// The alignment that a file's metadata gives.
fn alignment(header: &[u8], entries: &[usize]) -> Result<u64> {
    let found = entries.binary_search_by(|&at| key_at(header, at).cmp("general.alignment"));
    match found.ok().and_then(|index| value_at(header, entries[index])) {
        None => Ok(ALIGNMENT),
        Some(Value::U32(found)) if found.is_power_of_two() => Ok(found.into()),
        Some(Value::U32(found)) => Err(Error::Alignment { found: found.to_string() }),
        Some(other) => Err(Error::Alignment { found: other.kind().to_string() }),
    }
}
