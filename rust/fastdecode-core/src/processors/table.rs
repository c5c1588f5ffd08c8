//! What follows from the order of the processors: the parameters, their checks, their application.

/// Defines `ProcessorParams` and `Processors` from the order.
macro_rules! order {
    ($($name:ident: $type:ty = $rule:ident,)+) => {
        /// The parameters of the logits processors, not yet checked. The default changes nothing.
        /// They act in the order of the fields.
        #[derive(Debug, Clone, PartialEq)]
        pub struct ProcessorParams {
            $(
                #[doc = concat!("The parameter of `", stringify!($rule), "`.")]
                pub $name: $type,
            )+
            /// The end-of-sequence tokens.
            pub eos: Vec<u32>,
        }

        impl Default for ProcessorParams {
            fn default() -> Self {
                Self {
                    $($name: $crate::parameter::default_of(&<$rule as Processor>::PARAMETER),)+
                    eos: $crate::parameter::default_of(&EOS),
                }
            }
        }

        impl ProcessorParams {
            /// The table of the parameters, in their order.
            #[must_use]
            pub fn table() -> Vec<$crate::parameter::Parameter> {
                vec![$(<$rule as Processor>::PARAMETER,)+ EOS]
            }

            /// Their values, in their order.
            #[must_use]
            pub fn values(&self) -> Vec<$crate::parameter::Value> {
                vec![
                    $($crate::parameter::Setting::write(&self.$name),)+
                    $crate::parameter::Setting::write(&self.eos),
                ]
            }

            /// Sets the parameter of this name; false where there is none, or the value is not of
            /// its type.
            pub fn set(&mut self, name: &str, value: $crate::parameter::Value) -> bool {
                fn put<T: $crate::parameter::Setting>(
                    place: &mut T,
                    value: $crate::parameter::Value,
                ) -> bool {
                    let value = T::read(value);
                    let read = value.is_some();
                    if let Some(value) = value {
                        *place = value;
                    }
                    read
                }
                $(if name == <$rule as Processor>::PARAMETER.name {
                    return put(&mut self.$name, value);
                })+
                name == EOS.name && put(&mut self.eos, value)
            }

            /// The largest token id of each argument that has any, with the argument's name.
            fn largest_ids(&self) -> Vec<(&'static str, u32)> {
                let largest = [
                    $(<$rule as Processor>::largest_id(&self.$name),)+
                    self.eos.iter().max().map(|&id| (EOS.name, id)),
                ];
                largest.into_iter().flatten().collect()
            }
        }

        /// Checked processors; made once, used for every row and step.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Processors {
            params: ProcessorParams,
            /// The largest id in each argument that has some.
            largest: Vec<(&'static str, u32)>,
            $($name: Option<$rule>,)+
        }

        impl Processors {
            /// Checks everything that can be checked without knowing the vocabulary.
            ///
            /// # Errors
            /// A parameter out of its range.
            pub fn new(params: ProcessorParams) -> Result<Self> {
                Ok(Self {
                    $($name: <$rule as Processor>::new(&params.$name, &params)?,)+
                    largest: params.largest_ids(),
                    params,
                })
            }

            /// Whether no row is ever changed.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                $(self.$name.is_none())&&+
            }

            /// Whether the history, or its length, can make a difference.
            #[must_use]
            pub fn needs_history(&self) -> bool {
                $(self.$name.as_ref().is_some_and(Processor::needs_history))||+
            }

            /// Whether a processor depends on which tokens of the history are the prompt's, and a
            /// caller who does not say would get another result without noticing.
            #[must_use]
            pub fn needs_prompt(&self) -> bool {
                $(self.$name.as_ref().is_some_and(Processor::needs_prompt))||+
            }

            /// Whether a token that is not banned keeps its logit.
            #[must_use]
            pub fn only_ban(&self) -> bool {
                !($(self.$name.as_ref().is_some_and(Processor::changes))||+)
            }

            fn check_each(&self) -> Result<()> {
                $(if let Some(processor) = &self.$name {
                    processor.check()?;
                })+
                Ok(())
            }

            /// Applies the processors that are, or are not, restrictions.
            fn apply_each(&self, restricts: bool, row: &mut [f32], past: &mut Past) {
                $(if <$rule as Processor>::RESTRICTS == restricts
                    && let Some(processor) = &self.$name
                {
                    processor.apply(row, past);
                })+
            }

            /// Whether there is a restriction.
            pub(crate) fn is_restricting(&self) -> bool {
                $((<$rule as Processor>::RESTRICTS && self.$name.is_some()))||+
            }

            /// The processors that ban, as a caller writes them.
            fn banning(&self) -> Vec<String> {
                let mut banning = Vec::new();
                $(if self.$name.as_ref().is_some_and(Processor::bans) {
                    let name = <$rule as Processor>::PARAMETER.name;
                    banning.push(match $crate::parameter::Setting::write(&self.params.$name) {
                        $crate::parameter::Value::Integer(value) => format!("{name}={value}"),
                        _ => name.to_owned(),
                    });
                })+
                banning
            }
        }
    };
}
pub(super) use order;
