//! What every selection method does, and the list of them.

use tensor_core::{Error, Result};

use crate::baseline::{FirstK, MaxResponse};
use crate::lasso::Lasso;
use crate::model::PathStep;
use crate::obs::Obs;
use crate::params::ValidSelection;
use crate::problem::Task;

/// A way to choose which channels stay.
///
/// A new method is one file with this trait and one line in [`METHODS`].
pub trait Selector: Send + Sync {
    /// All channels, the one to keep longest first. Its first `k` entries are a selection of `k`
    /// channels, which is what [`error_curve`](crate::error_curve) walks along.
    ///
    /// # Errors
    /// When the numbers of the task defeat the method.
    fn order(&self, task: &Task) -> Result<Vec<usize>>;

    /// Exactly `keep` channels, ascending. May be better than the first `keep` of [`order`], whose
    /// selections have to be nested.
    ///
    /// # Errors
    /// When `keep` is not between 1 and the number of channels, or as [`order`].
    ///
    /// [`order`]: Self::order
    fn select(&self, task: &Task, keep: usize) -> Result<Vec<usize>> {
        task.check_keep(keep)?;
        let mut kept = self.order(task)?;
        kept.truncate(keep);
        kept.sort_unstable();
        Ok(kept)
    }

    /// As [`select`](Self::select), with the penalties on the way there, for methods that have one.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn select_traced(&self, task: &Task, keep: usize) -> Result<(Vec<usize>, Vec<PathStep>)> {
        Ok((self.select(task, keep)?, Vec::new()))
    }
}

/// A selection method by name.
#[derive(Debug)]
pub struct Method {
    /// Name on the command line and in recipes.
    pub name: &'static str,
    /// One line for help texts.
    pub summary: &'static str,
    build: fn(&ValidSelection) -> Box<dyn Selector>,
}

/// Every method, in the order in which help texts list them.
pub static METHODS: &[Method] = &[
    Method {
        name: "obs",
        summary: "backward elimination, each step exact in the reconstruction error",
        build: |params| Box::new(Obs::new(params)),
    },
    Method {
        name: "lasso",
        summary: "LASSO along its exact path (homotopy)",
        build: |params| Box::new(Lasso::homotopy(params)),
    },
    Method {
        name: "lasso-cd",
        summary: "LASSO by coordinate descent with bisection of the penalty",
        build: |params| Box::new(Lasso::coordinate_descent(params)),
    },
    #[cfg(feature = "linfa")]
    Method {
        name: "lasso-linfa",
        summary: "LASSO by linfa-elasticnet with bisection of the penalty",
        build: |params| Box::new(Lasso::linfa(params)),
    },
    Method {
        name: "first-k",
        summary: "the first channels (baseline)",
        build: |_| Box::new(FirstK),
    },
    Method {
        name: "max-response",
        summary: "channels with the largest sums of absolute weights (baseline)",
        build: |_| Box::new(MaxResponse),
    },
];

impl Method {
    /// The method of that name.
    ///
    /// # Errors
    /// When there is none; the hint lists the names.
    pub fn by_name(name: &str) -> Result<&'static Self> {
        METHODS.iter().find(|method| method.name == name).ok_or_else(|| {
            let names: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
            Error::invalid(format!("there is no selection method `{name}`"))
                .hint(format!("choose one of {}", names.join(", ")))
        })
    }

    pub(crate) fn build(&self, params: &ValidSelection) -> Box<dyn Selector> {
        (self.build)(params)
    }
}
