//! Parameters as plain data: the entries of their table, and the values that a caller gives.

/// A row of the table of parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name, transformers' where it has one.
    pub name: &'static str,
    /// The type of its values.
    pub kind: Kind,
    /// Its value where a caller gives none. Only a parameter whose default is [`Value::Nothing`]
    /// may be given as nothing.
    pub default: Value,
    /// A value that changes no row.
    pub off: Value,
    /// The values that are accepted, in words.
    pub range: &'static str,
    /// What it does. The first sentence can stand alone.
    pub help: &'static str,
}

/// The type of a parameter's values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// An integer.
    Integer,
    /// True or false.
    Flag,
    /// A number.
    Number,
    /// Several numbers, each with a name; those after the first `required` may be left out.
    Numbers {
        /// What the numbers are called, in their order.
        names: &'static [&'static str],
        /// How many have to be given.
        required: usize,
    },
    /// Token ids.
    Tokens,
    /// Sequences of token ids.
    Sequences,
    /// Sequences of token ids, with a number for each.
    Biases,
    /// Values under names.
    Record(&'static [Field]),
}

/// An entry of a [`Kind::Record`].
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// The type of its values.
    pub kind: Kind,
    /// Its value where a caller gives none.
    pub default: Value,
}

/// A parameter's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// No value: the parameter is not given.
    Nothing,
    /// Of a [`Kind::Flag`].
    Flag(bool),
    /// Of a [`Kind::Integer`].
    Integer(i64),
    /// Of a [`Kind::Number`].
    Number(f64),
    /// Of a [`Kind::Numbers`].
    Numbers(Vec<f64>),
    /// Of a [`Kind::Tokens`].
    Tokens(Vec<u32>),
    /// Of a [`Kind::Sequences`].
    Sequences(Vec<Vec<u32>>),
    /// Of a [`Kind::Biases`].
    Biases(Vec<(Vec<u32>, f32)>),
    /// Of a [`Kind::Record`].
    Record(Vec<(&'static str, Value)>),
}

/// A Rust type that holds a parameter's value.
pub(crate) trait Setting: Sized + Clone + PartialEq {
    /// From a value; None where it is of another type.
    fn read(value: Value) -> Option<Self>;

    /// As a value.
    fn write(&self) -> Value;
}

impl Setting for bool {
    fn read(value: Value) -> Option<Self> {
        match value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    fn write(&self) -> Value {
        Value::Flag(*self)
    }
}

impl Setting for f64 {
    fn read(value: Value) -> Option<Self> {
        match value {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    fn write(&self) -> Value {
        Value::Number(*self)
    }
}

impl Setting for i64 {
    fn read(value: Value) -> Option<Self> {
        match value {
            Value::Integer(integer) => Some(integer),
            _ => None,
        }
    }

    fn write(&self) -> Value {
        Value::Integer(*self)
    }
}

impl<T: Setting> Setting for Option<T> {
    fn read(value: Value) -> Option<Self> {
        match value {
            Value::Nothing => Some(None),
            value => T::read(value).map(Some),
        }
    }

    fn write(&self) -> Value {
        self.as_ref().map_or(Value::Nothing, T::write)
    }
}

impl Setting for Vec<u32> {
    fn read(value: Value) -> Option<Self> {
        match value {
            Value::Nothing => Some(Self::new()),
            Value::Tokens(tokens) => Some(tokens),
            _ => None,
        }
    }

    fn write(&self) -> Value {
        if self.is_empty() { Value::Nothing } else { Value::Tokens(self.clone()) }
    }
}

impl Setting for Vec<Vec<u32>> {
    fn read(value: Value) -> Option<Self> {
        match value {
            Value::Nothing => Some(Self::new()),
            Value::Sequences(sequences) => Some(sequences),
            _ => None,
        }
    }

    fn write(&self) -> Value {
        if self.is_empty() { Value::Nothing } else { Value::Sequences(self.clone()) }
    }
}

impl Setting for Vec<(Vec<u32>, f32)> {
    fn read(value: Value) -> Option<Self> {
        match value {
            Value::Nothing => Some(Self::new()),
            Value::Biases(biases) => Some(biases),
            _ => None,
        }
    }

    fn write(&self) -> Value {
        if self.is_empty() { Value::Nothing } else { Value::Biases(self.clone()) }
    }
}

/// The default of a parameter, as the Rust type that holds it.
pub(crate) fn default_of<T: Setting>(parameter: &Parameter) -> T {
    T::read(parameter.default.clone())
        .unwrap_or_else(|| unreachable!("the default of {} is of its type", parameter.name))
}

#[cfg(test)]
mod tests {
    use super::{Setting, Value};

    fn round_trip<T: Setting + std::fmt::Debug>(all: &[T], other: Value) {
        for one in all {
            assert_eq!(T::read(one.write()).as_ref(), Some(one));
        }
        assert_eq!(T::read(other), None);
    }

    #[test]
    fn values_are_read_as_they_are_written() {
        round_trip(&[false, true], Value::Integer(1));
        round_trip(&[0.5, -1.0], Value::Integer(1));
        round_trip(&[5i64], Value::Number(1.0));
        round_trip(&[None, Some(5i64)], Value::Number(1.0));
        round_trip(&[vec![], vec![1u32, 2]], Value::Integer(1));
        round_trip(&[None, Some(vec![1u32])], Value::Integer(1));
        round_trip(&[vec![], vec![vec![1u32], vec![]]], Value::Tokens(vec![1]));
        round_trip(&[vec![], vec![(vec![1u32], 0.5f32)]], Value::Tokens(vec![1]));
    }
}
