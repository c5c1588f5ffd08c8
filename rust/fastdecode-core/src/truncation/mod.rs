//! From a row's logits to the tokens that can be drawn: the temperature, then the truncations.
//!
//! This module defines their order. Each line is a parameter, its type, and the rule that it sets,
//! which has a file with its formula, range and source. Each rule sees the renormalised survivors
//! of the one before it, and at least one token always survives.

mod context;
mod cutoffs;
mod min_p;
mod mirostat;
mod rule;
pub(crate) mod survivors;
mod table;
pub(crate) mod temperature;
mod top_a;
mod top_k;
pub(crate) mod top_n_sigma;
mod top_p;
mod typical;
mod xtc;

pub use context::DrawContext;
pub use cutoffs::{EpsilonCutoff, EtaCutoff};
pub use min_p::MinP;
pub use mirostat::Mirostat;
pub use temperature::{DynamicTemperature, Temperature};
pub use top_a::TopA;
pub use top_k::TopK;
pub use top_n_sigma::TopNSigma;
pub use top_p::TopP;
pub use typical::Typical;
pub use xtc::Xtc;

use crate::error::{Error, Result};
use crate::law::Law;
use crate::law::estimate::survey_weighing;
use crate::law::weight::Scale;
use crate::row::scan::survey;
use fastdecode_simd::Level;
use rule::Effect;
use survivors::{SurvivorWorkspace, Survivors};

table::order! {
    temperature: f64 = Temperature,
    dynamic_temperature: Option<DynamicTemperature> = DynamicTemperature,
    top_n_sigma: Option<f64> = TopNSigma,
    top_k: Option<i64> = TopK,
    top_p: Option<f64> = TopP,
    min_p: Option<f64> = MinP,
    top_a: Option<f64> = TopA,
    typical_p: Option<f64> = Typical,
    epsilon_cutoff: Option<f64> = EpsilonCutoff,
    eta_cutoff: Option<f64> = EtaCutoff,
    mirostat: Option<Mirostat> = Mirostat,
    xtc: Option<Xtc> = Xtc,
}

impl Params {
    /// Whether every value is in its range, and no two exclude each other.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_each()?;
        if self.dynamic_temperature.is_some() && self.temperature != 1.0 {
            return Err(Error::TwoTemperatures(self.temperature));
        }
        Ok(())
    }

    /// The temperature at which a rule keeps a share of the whole row's mass, before any other rule
    /// has changed it; None where there is no such rule, so that bounds on that mass are not
    /// needed.
    fn mass_kept_at(&self) -> Option<f64> {
        let mut temperature = 1.0;
        for effect in self.effects() {
            match effect {
                Effect::Off => {}
                Effect::Scales(divisor) if divisor > 0.0 => temperature = divisor,
                Effect::KeepsMass => return Some(temperature),
                Effect::Scales(_) | Effect::Changes => return None,
            }
        }
        None
    }

    /// The tokens of a row that are left.
    pub(crate) fn survivors<'a, 's>(
        &self,
        level: Level,
        row: &'a [f32],
        context: &DrawContext,
        workspace: &'s mut SurvivorWorkspace,
    ) -> Result<Survivors<'a, 's>> {
        let SurvivorWorkspace { tops, groups, .. } = &mut *workspace;
        let mut weighed = None;
        let max = match self.mass_kept_at() {
            Some(temperature) => {
                let scale = Scale::new(temperature);
                let (max, between) = survey_weighing(level, row, scale, tops, groups)?;
                weighed = between.map(|between| (scale, between));
                max
            }
            None => survey(level, row, tops)?,
        };
        let law = Law::whole(level, row, max, Scale::new(1.0));
        let mut survivors = Survivors::all(law, weighed, workspace);
        self.apply(&mut survivors, context);
        Ok(survivors)
    }
}
