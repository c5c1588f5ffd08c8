//! Layer norms, linear layers and heads by the names of their tensors, as PyTorch's modules have them.

use crate::error::Result;
use crate::ops::{Linear, Norm};
use crate::weights::{Format, Matrix, Orientation, Packing, Part};

/// A layer norm of `width` floats.
pub(crate) fn layer_norm(
    weights: &mut Packing<'_>,
    name: &str,
    width: usize,
    epsilon: f32,
) -> Result<Norm> {
    let gain = weights.vector(&format!("{name}.weight"), width)?;
    let bias = Some(weights.vector(&format!("{name}.bias"), width)?);
    Ok(Norm { gain, bias, epsilon })
}

/// A linear layer made of several: the outputs of the first, then those of the next. `parts` are names with
/// numbers of outputs.
pub(crate) fn linear(
    weights: &mut Packing<'_>,
    parts: &[(String, usize)],
    inputs: usize,
    biased: bool,
    format: Format,
) -> Result<Linear> {
    let of = |kind: &str| -> Vec<Part> {
        let part =
            |(name, outputs): &(String, usize)| Part::whole(format!("{name}.{kind}"), *outputs);
        parts.iter().map(part).collect()
    };
    joined(weights, &of("weight"), biased.then(|| of("bias")).as_deref(), inputs, format)
}

/// A linear layer whose outputs, and biases where it has them, are parts of tensors.
pub(crate) fn joined(
    weights: &mut Packing<'_>,
    matrix: &[Part],
    bias: Option<&[Part]>,
    inputs: usize,
    format: Format,
) -> Result<Linear> {
    let matrix = weights.joined_matrix(matrix, inputs, format)?;
    let bias = match bias {
        Some(bias) => weights.joined_bias(bias)?,
        None => weights.no_bias(matrix.outputs),
    };
    Ok(Linear { matrix, bias })
}

/// The head and the token embedding, of `[width, vocabulary]`: one matrix where they are tied, unless the
/// weights have a head that is another matrix. Both are stored in
/// [`Format::of_the_head`].
pub(crate) fn head_and_tokens(
    weights: &mut Packing<'_>,
    [head, tokens]: [&str; 2],
    tied: bool,
    sizes: [usize; 2],
    format: Format,
) -> Result<(Linear, Matrix)> {
    let (orientation, format) = (Orientation::OutputsByInputs, format.of_the_head());
    let tied = tied && !weights.differ(head, tokens, &[sizes[1], sizes[0]])?;
    let name = if tied { tokens } else { head };
    let matrix = weights.matrix(name, orientation, sizes, format)?;
    let head = Linear { matrix, bias: weights.no_bias(sizes[1]) };
    let tokens = if tied {
        head.matrix.clone()
    } else {
        weights.matrix(tokens, orientation, sizes, format)?
    };
    Ok((head, tokens))
}
