//! The tensors of a file under the names and in the order of transformers, which the engine reads.

use super::config::Architecture;
use super::encoding::Encoding;
use super::error::{Error, Result};
use super::file::{Gguf, TensorInfo};
use fastdecode_simd::memory;

/// The matrix of a layer, by llama.cpp's name, and transformers' one.
type Names = &'static [(&'static str, &'static str)];

const GATED: Names = &[
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("attn_norm", "input_layernorm"),
];
const LLAMA_NORMS: Names = &[("ffn_norm", "post_attention_layernorm")];
const QWEN3_NORMS: Names = &[
    ("ffn_norm", "post_attention_layernorm"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
];
const GEMMA3_NORMS: Names = &[
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
];
const GPT2: Names = &[
    ("attn_norm", "ln_1"),
    ("attn_qkv", "attn.c_attn"),
    ("attn_output", "attn.c_proj"),
    ("ffn_norm", "ln_2"),
    ("ffn_up", "mlp.c_fc"),
    ("ffn_down", "mlp.c_proj"),
];
/// The tensor of rotary factors, which the configuration takes into account.
const ROTARY_FACTORS: &str = "rope_freqs.weight";

/// How the elements of a tensor lie in the file, seen from transformers' model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Same,
    /// The rows of each head of this width alternate between its halves.
    Interleaved(usize),
    /// Outputs by inputs, where transformers has inputs by outputs.
    Transposed,
}

/// A tensor as transformers' model has it: its name, its shape, and its elements in their order there.
#[derive(Debug, Clone)]
pub struct Weight<'a> {
    /// Its name in transformers' model.
    pub name: String,
    /// Its shape there.
    pub shape: Vec<usize>,
    file: &'a Gguf,
    info: TensorInfo<'a>,
    order: Order,
    /// What the file has more than the model: llama.cpp adds 1 to Gemma's norms.
    more: f32,
}

impl Gguf {
    /// The tensors as transformers' model of the file's architecture has them.
    ///
    /// # Errors
    /// If the architecture is not known, or a tensor has no place in it or a way of storage that is not read.
    pub fn weights(&self) -> Result<Vec<Weight<'_>>> {
        let architecture = Architecture::of(self)?;
        let head = architecture.interleaved(self)?;
        let tensors = self.tensors().filter(|info| info.name != ROTARY_FACTORS);
        tensors.map(|info| Weight::new(self, info, architecture, head)).collect()
    }
}

impl<'a> Weight<'a> {
    fn new(
        file: &'a Gguf,
        info: TensorInfo<'a>,
        architecture: Architecture,
        head: Option<u64>,
    ) -> Result<Self> {
        if !info.encoding.is_readable() {
            let (name, encoding) = (info.name.to_owned(), info.encoding);
            return Err(Error::Encoding { name, encoding });
        }
        let name = translated(info.name, architecture).ok_or_else(|| Error::Unsupported {
            what: format!("the tensor {:?}", info.name),
            reason: "the native engine does not know its part in a model of this architecture",
        })?;
        let mut shape = Vec::new();
        for size in info.shape() {
            shape.push(usize::try_from(size).map_err(|_| Error::TooLarge {
                name: info.name.to_owned(),
                offset: 0,
                sizes: info.shape(),
            })?);
        }
        if shape.is_empty() {
            return Err(Error::scalar(info.name));
        }
        let mut order = Order::Same;
        let matrix = shape.len() == 2;
        if let Some(head) = head
            && (info.name.contains(".attn_q.") || info.name.contains(".attn_k."))
        {
            let head = usize::try_from(head).unwrap_or(usize::MAX);
            let rows = shape.first().copied().unwrap_or(1);
            if !rows.is_multiple_of(head) {
                return Err(Error::Unsupported {
                    what: format!("the tensor {:?}", info.name),
                    reason: "it does not consist of whole heads",
                });
            }
            // Rows of a vector are single elements, which blocks do not hold.
            let row = info.elements() / rows as u64;
            if !row.is_multiple_of(info.encoding.block_elements() as u64) {
                return Err(Error::Unsupported {
                    what: format!("the tensor {:?}", info.name),
                    reason: "its blocks extend over several outputs, whose order must change",
                });
            }
            order = Order::Interleaved(head);
        }
        if architecture == Architecture::Gpt2 && matrix && info.name.starts_with("blk.") {
            order = Order::Transposed;
            shape.reverse();
        }
        let norm = info.name.ends_with("norm.weight");
        let more = if norm && architecture == Architecture::Gemma3 { 1.0 } else { 0.0 };
        Ok(Self { name, shape, file, info, order, more })
    }

    /// The number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the file has outputs by inputs where transformers' model has inputs by outputs.
    #[must_use]
    pub fn is_transposed(&self) -> bool {
        self.order == Order::Transposed
    }

    /// How the file stores it.
    pub(crate) fn encoding(&self) -> Encoding {
        self.info.encoding
    }

    /// The blocks of `count` elements from `first` on: whole rows of a matrix, in the order of transformers'
    /// model except where the file has the matrix transposed. Both buffers are reused from call to call.
    ///
    /// # Errors
    /// If the file cannot be read, or the elements are not whole blocks.
    ///
    /// # Panics
    /// If there are no such elements.
    pub(crate) fn blocks<'b>(
        &self,
        first: usize,
        count: usize,
        to: &'b mut Vec<u8>,
        buffer: &mut Vec<u8>,
    ) -> Result<&'b [u8]> {
        self.check_whole(first, count)?;
        let Order::Interleaved(head) = self.order else {
            return self.file.blocks(to, &self.info, first as u64, count);
        };
        let encoding = self.info.encoding;
        let to = memory::room(to, count / encoding.block_elements() * encoding.block_bytes())?;
        let mut rest = &mut *to;
        self.interleaved(head, first, count, buffer, |row| {
            let here;
            (here, rest) = std::mem::take(&mut rest).split_at_mut(row.len());
            here.copy_from_slice(row);
        })?;
        Ok(to)
    }

    /// Elements from `first` on, in the order of transformers' model: whole rows of a matrix. `buffer` is
    /// reused from call to call.
    ///
    /// # Errors
    /// If the file cannot be read, or the elements are not whole blocks.
    ///
    /// # Panics
    /// If there are no such elements.
    pub fn read(&self, first: usize, to: &mut [f32], buffer: &mut Vec<u8>) -> Result<()> {
        match self.order {
            Order::Same => self.read_stored(first, to, buffer)?,
            Order::Interleaved(head) => self.read_interleaved(head, first, to, buffer)?,
            Order::Transposed => self.read_transposed(first, to, buffer)?,
        }
        if self.more != 0.0 {
            for x in to {
                *x -= self.more;
            }
        }
        Ok(())
    }

    /// Elements from `first` on, in the order of the file.
    ///
    /// # Errors
    /// If the file cannot be read, or the elements are not whole blocks.
    ///
    /// # Panics
    /// If there are no such elements.
    pub fn read_stored(&self, first: usize, to: &mut [f32], buffer: &mut Vec<u8>) -> Result<()> {
        self.check_whole(first, to.len())?;
        self.file.read_through(buffer, &self.info, first as u64, to)
    }

    fn check_whole(&self, first: usize, count: usize) -> Result<()> {
        let block = self.info.encoding.block_elements();
        if first.is_multiple_of(block) && count.is_multiple_of(block) {
            return Ok(());
        }
        Err(Error::Unsupported {
            what: format!("the tensor {:?}", self.info.name),
            reason: "its blocks extend over several of the parts that the engine packs",
        })
    }

    /// Rows of heads whose halves alternate in the file.
    fn read_interleaved(
        &self,
        head: usize,
        first: usize,
        to: &mut [f32],
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        let width = self.elements() / self.shape[0];
        let (count, mut rows) = (to.len(), to.chunks_exact_mut(width));
        self.interleaved(head, first, count, buffer, |row| {
            if let Some(to) = rows.next() {
                self.info.encoding.dequantise(row, to);
            }
        })
    }

    /// Calls `each` with the blocks of each row of `count` elements from `first` on, where the halves of heads
    /// alternate in the file.
    fn interleaved(
        &self,
        head: usize,
        first: usize,
        count: usize,
        buffer: &mut Vec<u8>,
        mut each: impl FnMut(&[u8]),
    ) -> Result<()> {
        let width = self.elements() / self.shape[0];
        let (mut row, end) = (first / width, (first + count) / width);
        while row < end {
            let (begun, within) = (row / head * head, row % head);
            let whole =
                self.file.blocks(buffer, &self.info, (begun * width) as u64, head * width)?;
            let size = whole.len() / head;
            let here = (head - within).min(end - row);
            for within in within..within + here {
                let stored = 2 * (within % (head / 2)) + within / (head / 2);
                each(&whole[stored * size..][..size]);
            }
            row += here;
        }
        Ok(())
    }

    /// Elements of rows whose elements lie apart in the file.
    fn read_transposed(&self, first: usize, to: &mut [f32], buffer: &mut Vec<u8>) -> Result<()> {
        /// Rows of the file that are read at a time.
        const ROWS: usize = 64;
        let (inputs, outputs) = (self.shape[0], self.shape[1]);
        let mut rows = memory::filled(0.0, ROWS.min(outputs) * inputs)?;
        let end = first + to.len();
        for begun in (0..outputs).step_by(ROWS) {
            let count = ROWS.min(outputs - begun);
            let rows = &mut rows[..count * inputs];
            self.read_stored(begun * inputs, rows, buffer)?;
            for input in first / outputs..end.div_ceil(outputs) {
                for row in 0..count {
                    let place = input * outputs + begun + row;
                    if (first..end).contains(&place) {
                        to[place - first] = rows[row * inputs + input];
                    }
                }
            }
        }
        Ok(())
    }
}

/// The name of a tensor in transformers' model; None where the model has no such tensor.
fn translated(name: &str, architecture: Architecture) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    if !matches!(kind, "weight" | "bias") {
        return None;
    }
    let gpt2 = architecture == Architecture::Gpt2;
    let outer = match (stem, gpt2) {
        ("token_embd", false) => "model.embed_tokens",
        ("output_norm", false) => "model.norm",
        ("output", _) => "lm_head",
        ("token_embd", true) => "transformer.wte",
        ("position_embd", true) => "transformer.wpe",
        ("output_norm", true) => "transformer.ln_f",
        _ => {
            let (layer, part) = stem.strip_prefix("blk.")?.split_once('.')?;
            let layer: u32 = layer.parse().ok()?;
            let lists: &[Names] = match architecture {
                Architecture::Gpt2 => &[GPT2],
                Architecture::Gemma3 => &[GATED, GEMMA3_NORMS],
                Architecture::Qwen3 => &[GATED, QWEN3_NORMS],
                Architecture::Llama | Architecture::Qwen2 => &[GATED, LLAMA_NORMS],
            };
            let found = lists.iter().copied().flatten().find(|(known, _)| *known == part)?;
            let within = if gpt2 { "transformer.h" } else { "model.layers" };
            return Some(format!("{within}.{layer}.{}.{kind}", found.1));
        }
    };
    Some(format!("{outer}.{kind}"))
}
