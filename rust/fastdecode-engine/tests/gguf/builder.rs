//! Writes GGUF files, good and bad ones, byte by byte.

/// The bytes of a GGUF file in the making.
pub struct Builder {
    pub version: u32,
    pub entries: Vec<Vec<u8>>,
    pub tensors: Vec<Vec<u8>>,
    pub alignment: usize,
    pub data: Vec<u8>,
}

/// A string as the container stores it.
pub fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

/// A metadata entry whose value has the type `kind`.
pub fn entry(key: impl AsRef<[u8]>, kind: u32, value: &[u8]) -> Vec<u8> {
    [&string(key), kind.to_le_bytes().as_slice(), value].concat()
}

/// An array of values of the type `kind`.
pub fn array(kind: u32, count: u64, values: &[u8]) -> Vec<u8> {
    [kind.to_le_bytes().as_slice(), &count.to_le_bytes(), values].concat()
}

/// A tensor's description, with the fastest dimension first.
pub fn tensor(name: impl AsRef<[u8]>, sizes: &[u64], encoding: u32, offset: u64) -> Vec<u8> {
    let mut bytes = string(name);
    bytes.extend((sizes.len() as u32).to_le_bytes());
    bytes.extend(sizes.iter().flat_map(|size| size.to_le_bytes()));
    bytes.extend(encoding.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

impl Builder {
    /// A small file with values of every type and three tensors.
    pub fn small() -> Self {
        let strings = [string("one"), string("zwei"), string("")].concat();
        let nested = [array(4, 2, &[1, 0, 0, 0, 2, 0, 0, 0]), array(8, 1, &string("x"))].concat();
        Self {
            version: 3,
            entries: vec![
                entry("general.architecture", 8, &string("llama")),
                entry("u8", 0, &[200]),
                entry("i8", 1, &[200]),
                entry("u16", 2, &[1, 2]),
                entry("i16", 3, &[1, 200]),
                entry("u32", 4, &7u32.to_le_bytes()),
                entry("i32", 5, &(-7i32).to_le_bytes()),
                entry("f32", 6, &1.5f32.to_le_bytes()),
                entry("true", 7, &[1]),
                entry("u64", 10, &u64::MAX.to_le_bytes()),
                entry("i64", 11, &i64::MIN.to_le_bytes()),
                entry("f64", 12, &0.1f64.to_le_bytes()),
                entry("strings", 9, &array(8, 3, &strings)),
                entry("booleans", 9, &array(7, 2, &[0, 1])),
                entry("nested", 9, &array(9, 2, &nested)),
                entry("empty", 9, &array(8, 0, &[])),
            ],
            tensors: vec![
                tensor("norm", &[3], 0, 0),
                tensor("matrix", &[32, 2], 8, 32),
                tensor("halves", &[2, 1, 2], 1, 128),
            ],
            alignment: 32,
            data: (0..136).map(|i| (i * 7) as u8 & 63).collect(),
        }
    }

    /// The file's header without the padding after it.
    pub fn header(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.entries.len() as u64).to_le_bytes());
        bytes.extend(self.entries.concat());
        bytes.extend(self.tensors.concat());
        bytes
    }

    /// The whole file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header();
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        bytes.extend(&self.data);
        bytes
    }
}
