//! JSON schemas, inferred from documents.

use anyhow::Result;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Where schemas are.
pub(super) const FOLDER: &str = "docs/schema";

/// Objects whose keys are names of the user or the model.
const OPEN: [&str; 7] =
    ["shapes", "opsets", "terms", "identity", "flags", "recipe", "settings_from"];

/// The file of a schema.
pub(super) fn path(name: &str) -> PathBuf {
    PathBuf::from(FOLDER).join(format!("{name}.json"))
}

/// As it is written.
pub(super) fn text(schema: &Value) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(schema)?))
}

/// The schema of some documents of one command.
pub(super) fn of(name: &str, documents: &[Value]) -> Value {
    let inferred = documents.iter().map(|document| infer("", document)).reduce(merge);
    let mut schema = Map::new();
    schema.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".into(), json!(format!("kerf.{name}/1")));
    if let Some(Value::Object(inferred)) = inferred {
        schema.extend(inferred);
    }
    Value::Object(schema)
}

/// The narrowest schema of a value; of what is empty or null nothing is known.
fn infer(key: &str, value: &Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(_) => json!({ "type": ["boolean"] }),
        Value::Number(_) => json!({ "type": ["number"] }),
        Value::String(_) => json!({ "type": ["string"] }),
        Value::Array(values) => {
            let items = values.iter().map(|value| infer("", value)).reduce(merge);
            json!({ "type": ["array"], "items": items.unwrap_or(json!({})) })
        }
        Value::Object(values) if OPEN.contains(&key) || values.is_empty() => {
            json!({ "type": ["object"] })
        }
        Value::Object(values) => {
            let properties: Map<String, Value> =
                values.iter().map(|(key, value)| (key.clone(), infer(key, value))).collect();
            let required: Vec<&String> = values.keys().collect();
            json!({
                "type": ["object"],
                "required": required,
                "properties": properties,
                "additionalProperties": false,
            })
        }
    }
}

/// What both allow. One that knows nothing comes from null or from an empty list, so null stays allowed.
fn merge(a: Value, b: Value) -> Value {
    let (Value::Object(a), Value::Object(b)) = (a, b) else { return json!({}) };
    if a.is_empty() || b.is_empty() {
        let mut known = if a.is_empty() { b } else { a };
        if let Some(Value::Array(types)) = known.get_mut("type")
            && !types.contains(&json!("null"))
        {
            types.push(json!("null"));
        }
        return Value::Object(known);
    }
    let mut merged = Map::new();
    let mut types: Vec<Value> = Vec::new();
    for kind in
        [&a, &b].into_iter().flat_map(|schema| schema["type"].as_array().into_iter().flatten())
    {
        if !types.contains(kind) {
            types.push(kind.clone());
        }
    }
    merged.insert("type".into(), json!(types));
    if a.contains_key("items") || b.contains_key("items") {
        let own = |schema: &Map<String, Value>| schema.get("items").cloned();
        let items = match (own(&a), own(&b)) {
            (Some(a), Some(b)) if !is_unknown(&a) && !is_unknown(&b) => merge(a, b),
            (Some(a), Some(b)) => {
                if is_unknown(&a) {
                    b
                } else {
                    a
                }
            }
            (a, b) => a.or(b).unwrap_or_default(),
        };
        merged.insert("items".into(), items);
    }
    let table =
        |schema: &Map<String, Value>| schema.get("properties").and_then(Value::as_object).cloned();
    match (table(&a), table(&b)) {
        (Some(mut ours), Some(theirs)) => {
            for (key, schema) in theirs {
                let both = match ours.remove(&key) {
                    Some(own) => merge(own, schema),
                    None => schema,
                };
                ours.insert(key, both);
            }
            let required =
                |key: &Value| b["required"].as_array().is_some_and(|list| list.contains(key));
            let both: Vec<Value> = a["required"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|key| required(key))
                .cloned()
                .collect();
            merged.insert("required".into(), json!(both));
            merged.insert("properties".into(), Value::Object(ours));
            merged.insert("additionalProperties".into(), json!(false));
        }
        // Beside an open object nothing is asked of its keys.
        (Some(ours), None) | (None, Some(ours))
            if !types_has(&a, "object") || !types_has(&b, "object") =>
        {
            let from = if a.contains_key("properties") { &a } else { &b };
            merged.insert("required".into(), from["required"].clone());
            merged.insert("properties".into(), Value::Object(ours));
            merged.insert("additionalProperties".into(), json!(false));
        }
        _ => {}
    }
    Value::Object(merged)
}

fn is_unknown(schema: &Value) -> bool {
    schema.as_object().is_some_and(Map::is_empty)
}

fn types_has(schema: &Map<String, Value>, kind: &str) -> bool {
    schema["type"].as_array().is_some_and(|types| types.contains(&json!(kind)))
}

/// What a document has that its schema does not allow, if anything.
pub(super) fn offence(schema: &Value, value: &Value, place: &str) -> Option<String> {
    let types = schema["type"].as_array()?;
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !types.contains(&json!(kind)) {
        return Some(format!("`{place}` is {kind}"));
    }
    if let Value::Array(values) = value {
        return values
            .iter()
            .find_map(|value| offence(&schema["items"], value, &format!("{place}[]")));
    }
    let (Value::Object(values), Some(properties)) = (value, schema["properties"].as_object())
    else {
        return None;
    };
    let missing = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(key) = missing.into_iter().find(|key| !values.contains_key(*key)) {
        return Some(format!("`{place}.{key}` is missing"));
    }
    values.iter().find_map(|(key, value)| match properties.get(key) {
        Some(inner) => offence(inner, value, &format!("{place}.{key}")),
        None => Some(format!("`{place}.{key}` is new")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_fit_their_schema_and_others_do_not() {
        let documents = [
            json!({ "a": 1, "b": [{ "c": "x", "d": null }], "shapes": { "in": [1] } }),
            json!({ "a": 2.5, "b": [{ "c": "y", "d": 1 }, { "c": "z", "d": 2, "e": true }], "shapes": {} }),
        ];
        let schema = of("test", &documents);
        for document in &documents {
            assert_eq!(offence(&schema, document, ""), None);
        }
        for (other, why) in [
            (json!({ "a": "1", "b": [], "shapes": {} }), "`.a` is string"),
            (json!({ "a": 1, "shapes": {} }), "`.b` is missing"),
            (json!({ "a": 1, "b": [{ "c": 3, "d": null }], "shapes": {} }), "`.b[].c` is number"),
            (json!({ "a": 1, "b": [], "shapes": {}, "n": 1 }), "`.n` is new"),
            (json!({ "a": null, "b": [], "shapes": {} }), "`.a` is null"),
        ] {
            assert_eq!(offence(&schema, &other, "").as_deref(), Some(why));
        }
    }

    #[test]
    fn what_was_empty_allows_everything() {
        let schema = of("test", &[json!({ "warnings": [] })]);
        assert_eq!(offence(&schema, &json!({ "warnings": ["w"] }), ""), None);
        let both = of("test", &[json!({ "w": [] }), json!({ "w": ["x"] })]);
        assert_eq!(offence(&both, &json!({ "w": [1] }), "").as_deref(), Some("`.w[]` is number"));
    }
}
