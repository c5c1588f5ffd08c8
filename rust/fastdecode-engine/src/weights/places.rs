//! Where each part of a model lies among its packed weights, and what its layers depend on besides.

use super::format::Format;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;

/// What packed weights consist of, in the order in which a model's architecture asks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contents {
    /// Where everything lies, one after the other.
    pub places: Vec<Place>,
    /// The answers to what the architecture asked about the tensors: whether there is one of a name, and
    /// whether two of them differ.
    pub answers: Vec<bool>,
}

/// Where a vector, a table or a matrix lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    /// The tensor that it was packed from, the first of several; empty for zeros.
    pub name: Box<str>,
    pub kind: Kind,
    /// The number format of its elements.
    #[serde(serialize_with = "to_name", deserialize_with = "from_name")]
    pub format: Format,
    /// Its first line.
    pub start: u32,
    /// The number of its lines; the scales of a matrix that are kept apart from it follow.
    pub lines: u32,
    /// The width of a row.
    pub inputs: u32,
    /// The number of rows; for a vector 1.
    pub outputs: u32,
}

/// What lies in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// One row of floats.
    Vector,
    /// Rows of floats.
    Table,
    /// The panels of a matrix.
    Matrix,
}

/// A number of lines or elements as places have it; the largest number stands for all that are larger.
pub(super) fn size(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn to_name<S: Serializer>(format: &Format, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(format.name())
}

fn from_name<'de, D: Deserializer<'de>>(from: D) -> Result<Format, D::Error> {
    let name = Cow::<str>::deserialize(from)?;
    let found = Format::ALL.into_iter().chain(Format::OF_FILES).find(|x| x.name() == name);
    found.ok_or_else(|| de::Error::custom(format!("unknown number format {name:?}")))
}
