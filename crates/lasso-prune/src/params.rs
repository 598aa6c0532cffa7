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
}

/// Parameters within their ranges.
#[derive(Debug, Clone)]
pub struct ValidSelection {
    method: &'static Method,
    ridge: f64,
}

impl Default for SelectionParams {
    fn default() -> Self {
        Self { method: "obs".to_owned(), ridge: 1e-6 }
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

    /// Checks every parameter.
    ///
    /// # Errors
    /// When the method is unknown or the ridge negative or not finite.
    pub fn check(self) -> Result<ValidSelection> {
        check_ridge(self.ridge)?;
        Ok(ValidSelection { method: Method::by_name(&self.method)?, ridge: self.ridge })
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

    /// The method, ready to select.
    pub fn selector(&self) -> Box<dyn Selector> {
        self.method.build(self)
    }
}
