//! Plans: how many bits the weights and the inputs of each layer get.
//!
//! A plan is written by a search or by hand, and read by whatever quantizes. As a file it is TOML, or
//! JSON with the same keys where the name ends in `.json`:
//!
//! ```toml
//! schema = "kerf.plan/1"
//! method = "exact"
//!
//! [[layer]]
//! name = "/conv1/Conv"
//! weights = 8
//! activations = 8
//! ```

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tensor_core::text::near;
use tensor_core::{Error, Result, files};

/// Schema of a plan.
pub const SCHEMA: &str = "kerf.plan/1";

/// Fewest bits of a weight or an activation.
pub const MIN_BITS: u32 = 1;
/// Most bits of a weight or an activation.
pub const MAX_BITS: u32 = 8;

/// Bits of one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanLayer {
    /// The node, as [`Graph::key`](tensor_core::Graph::key) names it.
    pub name: String,
    /// Bits of its weights, 1 to 8.
    pub weights: u32,
    /// Bits of the activations that it reads, 1 to 8.
    pub activations: u32,
}

/// Bits per layer, in graph order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`SCHEMA`].
    pub schema: String,
    /// How it was made, such as `exact` or `by hand`.
    #[serde(default)]
    pub method: String,
    /// What it was made for, such as `bismo-edge, 60% of the latency at 8 bits`.
    #[serde(default)]
    pub goal: String,
    /// The layers.
    #[serde(default, rename = "layer")]
    pub layers: Vec<PlanLayer>,
}

impl Plan {
    /// A plan of these layers.
    pub fn new(method: &str, goal: &str, layers: Vec<PlanLayer>) -> Self {
        Self { schema: SCHEMA.to_owned(), method: method.to_owned(), goal: goal.to_owned(), layers }
    }

    /// The same bits for every layer.
    pub fn uniform<'a>(
        names: impl IntoIterator<Item = &'a str>,
        weights: u32,
        activations: u32,
    ) -> Self {
        let layer = |name: &str| PlanLayer { name: name.to_owned(), weights, activations };
        Self::new("uniform", "", names.into_iter().map(layer).collect())
    }

    /// The bits of the layer of that name.
    pub fn get(&self, name: &str) -> Option<&PlanLayer> {
        self.layers.iter().find(|layer| layer.name == name)
    }

    /// Reads a plan and checks all but the names, for which there is [`check_names`](Self::check_names).
    ///
    /// # Errors
    /// `E0550` when it is no plan of this version, a number of bits is outside 1 to 8, or a layer is
    /// there twice; `E0003` when it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, &error))?;
        let parsed: Result<Self, String> = if is_json(path) {
            serde_json::from_str(&text).map_err(|error| error.to_string())
        } else {
            toml::from_str(&text).map_err(|error| error.to_string())
        };
        let place = |what: String| refused(format!("{}: {what}", path.display()));
        let plan = parsed.map_err(place)?;
        plan.check().map_err(|error| place(error.message().to_owned()))?;
        Ok(plan)
    }

    /// Writes the plan through a file beside it.
    ///
    /// # Errors
    /// As [`check`](Self::check); `E0003` when it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.check()?;
        let text = if is_json(path) {
            serde_json::to_string_pretty(self).map(|text| text + "\n").map_err(|e| e.to_string())
        } else {
            toml::to_string(self).map_err(|error| error.to_string())
        };
        let text = text.map_err(Error::internal)?;
        files::write_whole(path, |part| std::fs::write(part, &text))
    }

    /// Checks schema, bits, and that no layer is there twice.
    ///
    /// # Errors
    /// `E0550` names the layer.
    pub fn check(&self) -> Result<()> {
        if self.schema != SCHEMA {
            return Err(refused(format!("schema `{}` is not `{SCHEMA}`", self.schema)));
        }
        let mut seen = BTreeMap::new();
        for layer in &self.layers {
            for (what, bits) in [("weights", layer.weights), ("activations", layer.activations)] {
                if !(MIN_BITS..=MAX_BITS).contains(&bits) {
                    let name = &layer.name;
                    return Err(refused(format!(
                        "layer `{name}` has {bits} bits for its {what}, outside {MIN_BITS} to {MAX_BITS}"
                    )));
                }
            }
            if seen.insert(&layer.name, ()).is_some() {
                return Err(refused(format!("layer `{}` is there twice", layer.name)));
            }
        }
        Ok(())
    }

    /// Checks that the plan has every one of these layers, and no other.
    ///
    /// # Errors
    /// `E0551` names the first layer that is unknown or missing; the hint names those that are
    /// spelled alike.
    pub fn check_names<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let names: Vec<&str> = names.into_iter().collect();
        if let Some(layer) = self.layers.iter().find(|layer| !names.contains(&&*layer.name)) {
            let alike = near(&layer.name, names.iter().copied());
            return Err(misfit(format!("the model has no layer `{}`", layer.name))
                .hint(format!("the nearest are {alike}")));
        }
        match names.iter().find(|name| self.get(name).is_none()) {
            Some(name) => Err(misfit(format!("the plan has no bits for layer `{name}`"))
                .hint("make the plan again for this model, or add the layer")),
            None => Ok(()),
        }
    }
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

fn refused(message: String) -> Error {
    Error::invalid(message).code_is("E0550").hint(
        "a plan has `schema = \"kerf.plan/1\"` and one `[[layer]]` with `name`, `weights` and \
         `activations` per layer",
    )
}

fn misfit(message: String) -> Error {
    Error::invalid(message).code_is("E0551")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn plan() -> Plan {
        let layers = [("conv1", 8, 8), ("a \"quoted\"/name", 3, 5)];
        let layer = |(name, weights, activations): (&str, u32, u32)| PlanLayer {
            name: name.to_owned(),
            weights,
            activations,
        };
        Plan::new("exact", "60% of the latency", layers.map(layer).to_vec())
    }

    #[test]
    fn files_read_back_in_both_formats() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["plan.toml", "plan.json"] {
            let path = folder.path().join(name);
            plan().write(&path).unwrap();
            assert_eq!(Plan::read(&path).unwrap(), plan(), "{name}");
        }
    }

    #[test]
    fn wrong_plans_say_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let error = Plan::read(&path).unwrap_err();
            assert_eq!(error.code(), "E0550", "{text}");
            error.message().to_owned()
        };
        assert!(read("schema = \"kerf.plan/2\"").contains("kerf.plan/2"));
        let layer =
            |bits: u32| format!("[[layer]]\nname = \"a\"\nweights = {bits}\nactivations = 8\n");
        let head = "schema = \"kerf.plan/1\"\n";
        assert!(read(&format!("{head}{}", layer(0))).contains("0 bits for its weights"));
        assert!(read(&format!("{head}{}", layer(9))).contains("9 bits"));
        assert!(read(&format!("{head}{}{}", layer(4), layer(4))).contains("twice"));
        assert!(read(&format!("{head}bits = 3")).contains("unknown field"));
    }

    #[test]
    fn names_must_be_those_of_the_model() {
        let plan = plan();
        plan.check_names(["conv1", "a \"quoted\"/name"]).unwrap();
        let error = plan.check_names(["conv1"]).unwrap_err();
        assert_eq!(error.code(), "E0551");
        let error = plan.check_names(["conv1", "a \"quoted\"/name", "fc"]).unwrap_err();
        assert!(error.message().contains("no bits for layer `fc`"));
    }
}
