//! The parameters of a pipeline: one table of them all.

use crate::parameter::{Parameter, Value};
use crate::processors::ProcessorParams;
use crate::truncation::Params;

/// Where in the pipeline a parameter acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before temperature and truncation; it may depend on the text so far.
    Processor,
    /// Temperature and truncation.
    Truncation,
}

/// The parameters of a pipeline, not yet checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PipelineParams {
    /// Those of the logits processors.
    pub processors: ProcessorParams,
    /// Those of temperature and truncation.
    pub truncation: Params,
}

/// The table of all parameters, in the order in which they act.
#[must_use]
pub fn parameters() -> Vec<(Stage, Parameter)> {
    let processors = ProcessorParams::table().into_iter().map(|row| (Stage::Processor, row));
    let truncation = Params::table().into_iter().map(|row| (Stage::Truncation, row));
    processors.chain(truncation).collect()
}

impl PipelineParams {
    /// The values of the parameters, in the order of [`parameters`].
    #[must_use]
    pub fn values(&self) -> Vec<Value> {
        self.processors.values().into_iter().chain(self.truncation.values()).collect()
    }

    /// Sets the parameter of this name; false where there is none, or the value is not of its type.
    pub fn set(&mut self, name: &str, value: Value) -> bool {
        self.processors.set(name, value.clone()) || self.truncation.set(name, value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{PipelineParams, parameters};
    use crate::parameter::{Kind, Value};
    use crate::pipeline::Pipeline;

    /// A value that is in the range of most parameters of the kind, and not a default.
    fn some(kind: Kind) -> Value {
        match kind {
            Kind::Flag => Value::Flag(false),
            Kind::Integer => Value::Integer(3),
            Kind::Number => Value::Number(0.5),
            Kind::Numbers { names, .. } => Value::Numbers(vec![0.5; names.len()]),
            Kind::Tokens => Value::Tokens(vec![1, 2]),
            Kind::Sequences => Value::Sequences(vec![vec![1, 2]]),
            Kind::Biases => Value::Biases(vec![(vec![1], 0.5)]),
            Kind::Record(fields) => Value::Record(
                fields
                    .iter()
                    .map(|field| match field.name {
                        "base" => (field.name, Value::Number(2.0)),
                        _ => (field.name, some(field.kind)),
                    })
                    .collect(),
            ),
        }
    }

    #[test]
    fn every_parameter_can_be_set_by_its_name_and_read_back() {
        for (place, (_, parameter)) in parameters().into_iter().enumerate() {
            let mut params = PipelineParams::default();
            let value = some(parameter.kind);
            assert!(params.set(parameter.name, value.clone()), "{}", parameter.name);
            for (other, found) in params.values().into_iter().enumerate() {
                let expected = if other == place { &value } else { &parameters()[other].1.default };
                assert_eq!(&found, expected, "{} {}", parameter.name, parameters()[other].1.name);
            }
            assert!(Pipeline::new(params.truncation, params.processors).is_ok());
            assert!(
                !PipelineParams::default().set(parameter.name, Value::Record(vec![("?", value)]))
            );
        }
        assert!(!PipelineParams::default().set("top_q", Value::Number(0.5)));
    }

    #[test]
    fn a_value_that_is_off_is_accepted_and_changes_nothing() {
        for (_, parameter) in parameters() {
            let mut params = PipelineParams::default();
            assert!(params.set(parameter.name, parameter.off.clone()), "{}", parameter.name);
            let pipeline = Pipeline::new(params.truncation, params.processors).unwrap();
            assert!(pipeline.processors().is_empty(), "{}", parameter.name);
            let row = [0.5, 1.0, -3.0, 0.25];
            let mut workspace = crate::Workspace::default();
            let weights = |pipeline: &Pipeline, workspace: &mut _| {
                pipeline.sampler().weights(&row, crate::Key::default().into(), workspace).unwrap()
            };
            let plain = PipelineParams::default();
            let plain = Pipeline::new(plain.truncation, plain.processors).unwrap();
            assert_eq!(
                weights(&pipeline, &mut workspace),
                weights(&plain, &mut workspace),
                "{}",
                parameter.name
            );
        }
    }

    #[test]
    fn names_are_unique_and_helps_begin_with_a_sentence() {
        let mut seen = HashSet::new();
        for (_, parameter) in parameters() {
            assert!(seen.insert(parameter.name), "{}", parameter.name);
            assert!(parameter.help.ends_with('.') && !parameter.range.is_empty());
        }
    }
}
