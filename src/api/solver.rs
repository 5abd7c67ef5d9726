//! Samplers in requests and answers: names, options, and how many points they spend their evaluations on.

use super::invalid::{Invalid, InvalidField};
use super::request::Nfe;
use crate::schedule::Terminal;
use crate::solver::{Solver, Variant};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Samplers by the field's names; `euler` is read as `ddim`. `auto` lets a calibration choose among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SolverName {
    #[serde(alias = "euler")]
    Ddim,
    Unipc,
    #[serde(rename = "dpmpp_2m")]
    Dpmpp2m,
    #[serde(rename = "dpmpp_3m")]
    Dpmpp3m,
    Heun,
    Deis,
    Ipndm,
    EulerAncestral,
    #[serde(rename = "sde_dpmpp_2m")]
    SdeDpmpp2m,
    Auto,
}

impl SolverName {
    pub const ALL: [Self; 10] = [
        Self::Ddim,
        Self::Unipc,
        Self::Dpmpp2m,
        Self::Dpmpp3m,
        Self::Heun,
        Self::Deis,
        Self::Ipndm,
        Self::EulerAncestral,
        Self::SdeDpmpp2m,
        Self::Auto,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ddim => "ddim",
            Self::Unipc => "unipc",
            Self::Dpmpp2m => "dpmpp_2m",
            Self::Dpmpp3m => "dpmpp_3m",
            Self::Heun => "heun",
            Self::Deis => "deis",
            Self::Ipndm => "ipndm",
            Self::EulerAncestral => "euler_ancestral",
            Self::SdeDpmpp2m => "sde_dpmpp_2m",
            Self::Auto => "auto",
        }
    }

    /// The orders it comes in, the default last; none where it has but one.
    fn orders(self) -> &'static [u8] {
        match self {
            Self::Unipc => &[1, 2, 3],
            Self::Deis => &[1, 3, 2],
            Self::Ipndm => &[1, 2, 3, 4],
            _ => &[],
        }
    }

    /// The paper's convention for unipc, and `dpmpp_2m` like it; everywhere else what every consumer does.
    #[must_use]
    pub fn default_terminal(self) -> Terminal {
        match self {
            Self::Unipc | Self::Dpmpp2m => Terminal::TMin,
            _ => Terminal::Denoise,
        }
    }
}

impl std::str::FromStr for SolverName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = if text == "euler" { "ddim" } else { text };
        let known = Self::ALL.into_iter().find(|name| name.as_str() == text);
        known.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|name| name.as_str()).collect();
            format!("unknown solver `{text}`; use one of {}", names.join(", "))
        })
    }
}

/// `UniPC`'s `B(h)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SolverVariant {
    Bh1,
    Bh2,
}

/// A solver by name, or with options.
#[derive(Clone, Debug, PartialEq)]
pub enum SolverRef {
    Name(SolverName),
    Object(SolverObject),
}

/// A solver with options.
#[derive(Clone, Debug, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SolverObject {
    pub name: SolverName,
    /// `unipc`: 1 to 3, default 3. `deis`: 1 to 3, default 2. `ipndm`: 1 to 4, default 4.
    pub order: Option<u8>,
    /// `unipc` only. Default `bh2`.
    pub variant: Option<SolverVariant>,
    /// `unipc` only: whether every prediction is corrected once the next evaluation is there. Default true.
    pub corrector: Option<bool>,
}

/// A solver with its options written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EffectiveSolver {
    pub name: SolverName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<SolverVariant>,
    /// False for a unipc that does not correct; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrector: Option<bool>,
}

impl EffectiveSolver {
    pub(super) fn resolve(solver: &SolverRef) -> Result<Self, Invalid> {
        let object = match solver {
            SolverRef::Name(name) => SolverObject {
                name: *name,
                order: None,
                variant: None,
                corrector: None,
            },
            SolverRef::Object(object) => object.clone(),
        };
        let name = object.name;
        let foreign = |field: &str| {
            let detail = format!("is no option of {}: remove it", name.as_str());
            Invalid::from(InvalidField::new(format!("/solver/{field}"), detail))
        };
        let orders = name.orders();
        if let Some(order) = object.order {
            if orders.is_empty() {
                return Err(foreign("order"));
            }
            if !orders.contains(&order) {
                let most = orders.iter().max().unwrap_or(&1);
                let detail = format!("must be from 1 to {most}");
                return Err(InvalidField::new("/solver/order", detail).into());
            }
        }
        let is_unipc = name == SolverName::Unipc;
        for (field, given) in [
            ("variant", object.variant.is_some()),
            ("corrector", object.corrector.is_some()),
        ] {
            if given && !is_unipc {
                return Err(foreign(field));
            }
        }
        Ok(Self {
            name,
            order: object.order.or(orders.last().copied()),
            variant: is_unipc.then(|| object.variant.unwrap_or(SolverVariant::Bh2)),
            corrector: object.corrector.filter(|corrects| !corrects),
        })
    }

    /// The samplers this stands for: one, or for `auto` all deterministic ones in their usual forms.
    #[must_use]
    pub fn solvers(self) -> Vec<Solver> {
        let order = usize::from(self.order.unwrap_or(1));
        let solver = match self.name {
            SolverName::Ddim => Solver::Ddim,
            SolverName::Unipc => Solver::Unipc {
                order,
                variant: match self.variant {
                    Some(SolverVariant::Bh1) => Variant::Bh1,
                    Some(SolverVariant::Bh2) | None => Variant::Bh2,
                },
                corrector: self.corrector.unwrap_or(true),
            },
            SolverName::Dpmpp2m => Solver::Dpmpp2m,
            SolverName::Dpmpp3m => Solver::Dpmpp3m,
            SolverName::Heun => Solver::Heun,
            SolverName::Deis => Solver::Deis { order },
            SolverName::Ipndm => Solver::Ipndm { order },
            SolverName::EulerAncestral => Solver::EulerAncestral,
            SolverName::SdeDpmpp2m => Solver::SdeDpmpp2m,
            SolverName::Auto => return automatic(),
        };
        vec![solver]
    }

    /// Its name with the options that set it apart, for people.
    #[must_use]
    pub fn label(self) -> String {
        let order = self
            .order
            .map_or_else(String::new, |order| format!("-{order}"));
        let variant = if self.variant == Some(SolverVariant::Bh1) {
            " bh1"
        } else {
            ""
        };
        let corrector = if self.corrector == Some(false) {
            " predictor"
        } else {
            ""
        };
        format!("{}{order}{variant}{corrector}", self.name.as_str())
    }

    /// Points of a schedule that takes `nfe` evaluations; heun spends two on every interval but one that ends clean.
    pub fn points(self, terminal: Terminal, nfe: Nfe) -> Result<usize, InvalidField> {
        let nfe = usize::from(nfe.get());
        if self.name != SolverName::Heun {
            return Ok(terminal.points(nfe));
        }
        match terminal {
            Terminal::Denoise if nfe % 2 == 1 => Ok(nfe.div_ceil(2)),
            Terminal::TMin if nfe.is_multiple_of(2) => Ok(nfe / 2 + 1),
            Terminal::Denoise => Err(InvalidField::new(
                "/nfe",
                "heun with terminal denoise takes an odd number of evaluations, 2 x points - 1",
            )),
            Terminal::TMin => Err(InvalidField::new(
                "/nfe",
                "heun with terminal t_min takes an even number of evaluations, two an interval",
            )),
        }
    }
}

/// What `auto` chooses among: one evaluation a step, no noise of their own.
fn automatic() -> Vec<Solver> {
    let unipc = |order, variant, corrector| Solver::Unipc {
        order,
        variant,
        corrector,
    };
    vec![
        unipc(3, Variant::Bh2, true),
        unipc(2, Variant::Bh2, true),
        unipc(3, Variant::Bh1, true),
        unipc(2, Variant::Bh1, true),
        unipc(3, Variant::Bh2, false),
        Solver::Dpmpp2m,
        Solver::Dpmpp3m,
        Solver::Deis { order: 3 },
        Solver::Ipndm { order: 4 },
        Solver::Ipndm { order: 2 },
    ]
}

impl From<Solver> for EffectiveSolver {
    fn from(solver: Solver) -> Self {
        let plain = |name| Self {
            name,
            order: None,
            variant: None,
            corrector: None,
        };
        match solver {
            Solver::Ddim => plain(SolverName::Ddim),
            Solver::Heun => plain(SolverName::Heun),
            Solver::Dpmpp2m => plain(SolverName::Dpmpp2m),
            Solver::Dpmpp3m => plain(SolverName::Dpmpp3m),
            Solver::EulerAncestral => plain(SolverName::EulerAncestral),
            Solver::SdeDpmpp2m => plain(SolverName::SdeDpmpp2m),
            Solver::Deis { order } => Self {
                order: Some(order as u8),
                ..plain(SolverName::Deis)
            },
            Solver::Ipndm { order } => Self {
                order: Some(order as u8),
                ..plain(SolverName::Ipndm)
            },
            Solver::Unipc {
                order,
                variant,
                corrector,
            } => Self {
                order: Some(order as u8),
                variant: Some(match variant {
                    Variant::Bh1 => SolverVariant::Bh1,
                    Variant::Bh2 => SolverVariant::Bh2,
                }),
                corrector: (!corrector).then_some(false),
                ..plain(SolverName::Unipc)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solvers_keep_their_options_both_ways() {
        for solver in automatic() {
            assert_eq!(EffectiveSolver::from(solver).solvers(), [solver]);
        }
    }

    #[test]
    fn options_belong_to_their_solver() {
        let read = |text: &str| {
            let solver: SolverRef = serde_json::from_str(text).unwrap();
            EffectiveSolver::resolve(&solver).map_err(|error| error.0[0].pointer.clone())
        };
        assert_eq!(read(r#""deis""#).unwrap().order, Some(2));
        assert_eq!(
            read(r#"{"name": "unipc", "corrector": true}"#),
            read(r#""unipc""#)
        );
        let no_order = read(r#"{"name": "dpmpp_2m", "order": 2}"#);
        assert_eq!(no_order.unwrap_err(), "/solver/order");
        let corrector = read(r#"{"name": "ddim", "corrector": false}"#);
        assert_eq!(corrector.unwrap_err(), "/solver/corrector");
        let fifth = read(r#"{"name": "ipndm", "order": 5}"#);
        assert_eq!(fifth.unwrap_err(), "/solver/order");
    }

    #[test]
    fn heun_spends_two_evaluations_an_interval() {
        let heun = EffectiveSolver::from(Solver::Heun);
        let nfe = |n| Nfe::new(n).unwrap();
        assert_eq!(heun.points(Terminal::Denoise, nfe(7)).unwrap(), 4);
        assert_eq!(heun.points(Terminal::TMin, nfe(6)).unwrap(), 4);
        assert!(heun.points(Terminal::Denoise, nfe(6)).is_err());
        assert!(heun.points(Terminal::TMin, nfe(7)).is_err());
    }
}
