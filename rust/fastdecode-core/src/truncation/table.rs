//! What follows from the order of the rules: the parameters, their checks, and their application.

/// Defines `Params` from the order, with a field for each line.
macro_rules! order {
    ($($name:ident: $type:ty = $rule:ident,)+) => {
        /// The parameters of temperature and truncation, not yet checked; by default nothing is
        /// cut. They act in the order of the fields.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct Params {
            $(
                #[doc = concat!("See [`", stringify!($rule), "`].")]
                pub $name: $type,
            )+
        }

        impl Default for Params {
            fn default() -> Self {
                Self { $($name: $crate::parameter::default_of(&<$rule as rule::Rule>::PARAMETER),)+ }
            }
        }

        impl Params {
            /// The table of the parameters, in their order.
            #[must_use]
            pub fn table() -> Vec<$crate::parameter::Parameter> {
                vec![$(<$rule as rule::Rule>::PARAMETER),+]
            }

            /// Their values, in their order.
            #[must_use]
            pub fn values(&self) -> Vec<$crate::parameter::Value> {
                vec![$($crate::parameter::Setting::write(&self.$name)),+]
            }

            /// Sets the parameter of this name; false where there is none, or the value is not of
            /// its type.
            pub fn set(&mut self, name: &str, value: $crate::parameter::Value) -> bool {
                $(if name == <$rule as rule::Rule>::PARAMETER.name {
                    return match $crate::parameter::Setting::read(value) {
                        Some(value) => {
                            self.$name = value;
                            true
                        }
                        None => false,
                    };
                })+
                false
            }

            fn check_each(&self) -> $crate::error::Result<()> {
                $(if let Some(value) = rule::Given::get(self.$name) {
                    <$rule as rule::Rule>::check(value)?;
                })+
                Ok(())
            }

            /// What the rules will do to a row, in their order.
            fn effects(&self) -> impl Iterator<Item = rule::Effect> {
                let effects = [
                    $(rule::Given::get(self.$name)
                        .map_or(rule::Effect::Off, <$rule as rule::Rule>::effect)),+
                ];
                effects.into_iter()
            }

            /// Applies the rules that are on, one after the other.
            fn apply(
                &self,
                survivors: &mut survivors::Survivors,
                context: &context::DrawContext,
            ) {
                $(if let Some(value) = rule::Given::get(self.$name)
                    && <$rule as rule::Rule>::effect(value) != rule::Effect::Off
                {
                    <$rule as rule::Rule>::apply(value, survivors, context);
                    if survivors.is_settled() {
                        return;
                    }
                })+
            }

            /// Whether two keys can give two laws of the same row.
            pub(crate) fn tosses(&self) -> bool {
                $(rule::Given::get(self.$name).is_some_and(<$rule as rule::Rule>::tosses))||+
            }

            /// The first parameter given whose rule depends on more than the row.
            pub(crate) fn beyond_the_row(&self) -> Option<&'static str> {
                $(if <$rule as rule::Rule>::NEED != rule::Need::Row
                    && rule::Given::<<$rule as rule::Rule>::Value>::get(self.$name).is_some()
                {
                    return Some(<$rule as rule::Rule>::PARAMETER.name);
                })+
                None
            }
        }
    };
}
pub(super) use order;
