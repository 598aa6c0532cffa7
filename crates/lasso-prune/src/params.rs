//! Parameters of selection and reconstruction.

use tensor_core::Result;

use crate::reconstruct::check_ridge;
use crate::selector::{Method, Selector};

/// How channels are selected and weights refitted, not yet checked.
///
/// | name | default | purpose | range |
/// | --- | --- | --- | --- |
/// | `method` | `obs` | how channels are chosen | a name in [`METHODS`](crate::METHODS) |
/// | `ridge` | `1e-6` | added to the diagonal of `G`, relative to its mean | `>= 0` |
/// | `exchanges` | 32 | most exchanges of single channels after `obs` or a LASSO | any; 0 for none |
///
/// ```
/// use lasso_prune::SelectionParams;
///
/// let params = SelectionParams::new().method("lasso").check()?;
/// assert_eq!(params.method().name, "lasso");
/// assert!(SelectionParams::new().method("magic").check().is_err());
/// # Ok::<(), tensor_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SelectionParams {
    method: String,
    ridge: f64,
    exchanges: usize,
}

/// Parameters within their ranges.
#[derive(Debug, Clone)]
pub struct ValidSelection {
    method: &'static Method,
    ridge: f64,
    exchanges: usize,
}

impl Default for SelectionParams {
    fn default() -> Self {
        Self { method: "obs".to_owned(), ridge: 1e-6, exchanges: 32 }
    }
}

impl SelectionParams {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Chooses the selection method by name.
    #[must_use]
    pub fn method(mut self, name: impl Into<String>) -> Self {
        self.method = name.into();
        self
    }

    /// Sets the relative ridge.
    #[must_use]
    pub fn ridge(mut self, ridge: f64) -> Self {
        self.ridge = ridge;
        self
    }

    /// Sets how many exchanges may follow a selection ([`exchange`](crate::exchange)).
    #[must_use]
    pub fn exchanges(mut self, exchanges: usize) -> Self {
        self.exchanges = exchanges;
        self
    }

    /// Checks every parameter.
    ///
    /// # Errors
    /// When the method is unknown or the ridge negative or not finite.
    pub fn check(self) -> Result<ValidSelection> {
        check_ridge(self.ridge)?;
        let method = Method::by_name(&self.method)?;
        Ok(ValidSelection { method, ridge: self.ridge, exchanges: self.exchanges })
    }
}

impl ValidSelection {
    /// The method.
    pub fn method(&self) -> &'static Method {
        self.method
    }

    /// The ridge, relative to the mean diagonal entry of the centred `G`.
    pub fn ridge(&self) -> f64 {
        self.ridge
    }

    /// Most exchanges after a selection.
    pub fn exchanges(&self) -> usize {
        self.exchanges
    }

    /// The method, ready to select.
    pub fn selector(&self) -> Box<dyn Selector> {
        self.method.build(self)
    }
}
