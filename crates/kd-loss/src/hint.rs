//! Hints from the teacher's features.

use crate::adapter::Adapter;
use crate::check;
use crate::log_softmax::widen;
use crate::pool::to_common_size;
use crate::registry::{Build, FeatureLoss, FeaturePair, Method, Values};
use candle_core::{DType, Result, Tensor, Var, bail};

/// Mean squared distance of the student's features from the teacher's:
///
/// ```text
/// L = 1/(N C H W) sum (A f_student - f_teacher)^2
/// ```
///
/// (Romero et al., "FitNets: hints for thin deep nets", ICLR 2015, equation 3, as a mean; common
/// weight 100.) Features have shape `(samples, channels, height, width)`, where sizes may differ and
/// are averaged down to the smaller one, or `(samples, features)`. The [`Adapter`] `A` is needed
/// where the numbers of channels differ. The teacher takes no gradient.
///
/// # Errors
/// When the shapes do not fit.
pub fn hint(student: &Tensor, teacher: &Tensor, adapter: Option<&Adapter>) -> Result<Tensor> {
    const OP: &str = "hint";
    let (student, teacher) = match (student.rank(), teacher.rank()) {
        (4, 4) => to_common_size(OP, student, teacher)?,
        (2, 2) => (widen(student)?, widen(&teacher.detach())?),
        _ => bail!(
            "{OP}: features of shape {:?} and {:?} are not both maps or both vectors",
            student.dims(),
            teacher.dims()
        ),
    };
    // Averaging and the adapter commute; the smaller map goes through the adapter.
    let student = match adapter {
        Some(adapter) => adapter.forward(&student)?,
        None => student,
    };
    check::same_shape(OP, &student, &teacher)?;
    (student - teacher)?.sqr()?.mean_all()
}

/// [`hint`] as a [`FeatureLoss`], with an adapter where the numbers of channels differ.
#[derive(Debug, Clone)]
pub struct Hint {
    adapter: Option<Adapter>,
}

impl Hint {
    /// For features of those shapes.
    ///
    /// # Errors
    /// When a shape has no channels.
    pub fn new(pair: &FeaturePair) -> Result<Self> {
        let (Some(&student), Some(&teacher)) = (pair.student.get(1), pair.teacher.get(1)) else {
            bail!("hint: features of shape {:?} and {:?}", pair.student, pair.teacher)
        };
        if student == teacher {
            return Ok(Self { adapter: None });
        }
        let adapter = Adapter::new(student, teacher, pair.seed, DType::F32, &pair.device)?;
        Ok(Self { adapter: Some(adapter) })
    }
}

impl FeatureLoss for Hint {
    fn variables(&self) -> Vec<(&'static str, Var)> {
        let variables = self.adapter.iter().flat_map(Adapter::variables);
        variables.map(|(name, variable)| (name, variable.clone())).collect()
    }

    fn loss(&self, student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
        hint(student, teacher, self.adapter.as_ref())
    }
}

/// For the registry.
pub(crate) const METHOD: Method = Method {
    name: "hint",
    summary: "Squared distance of features through a linear adapter (FitNets, Romero et al. 2015)",
    weight: 100.0,
    parameters: &[],
    build: Build::Features(build),
};

fn build(_: &Values, pair: &FeaturePair) -> Result<Box<dyn FeatureLoss>> {
    Ok(Box::new(Hint::new(pair)?))
}
