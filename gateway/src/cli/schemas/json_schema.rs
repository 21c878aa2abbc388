//! A kind's JSON as JSON Schema (draft 7, which AsyncAPI 3.0 takes as it is).
//!
//! Units and scales have no place in JSON Schema: they are `x-unit` and `x-scale-exp10`.

use serde_json::{Value, json};

use crate::catalog::{Entry, Scalar, Shape};

/// The schema of a kind's `data`.
pub(super) fn schema(entry: &Entry) -> Value {
    let mut schema = of(&entry.body, 0);
    schema["title"] = entry.title().into();
    if !entry.description.is_empty() {
        schema["description"] = entry.description.clone().into();
    }
    schema["x-definition-sha256"] = entry.hash.clone().into();
    schema
}

fn of(shape: &Shape, scale_exp10: i8) -> Value {
    if let Some(scalar) = shape.scalar() {
        return self::scalar(scalar, scale_exp10);
    }
    let first = || shape.parts.first().map_or(Value::Bool(true), |part| of(part, scale_exp10));
    match shape.r#type.as_str() {
        "option" => json!({ "anyOf": [first(), { "type": "null" }] }),
        "seq" => json!({ "type": "array", "items": first() }),
        "tuple" => {
            let (count, items) = (shape.parts.len(), shape.parts.iter().map(|part| of(part, scale_exp10)));
            let items: Vec<_> = items.collect();
            match items.first() {
                None => json!({ "type": "array", "maxItems": 0 }),
                Some(first) if items.iter().all(|item| item == first) => {
                    json!({ "type": "array", "items": first, "minItems": count, "maxItems": count })
                }
                Some(_) => {
                    json!({ "type": "array", "items": items, "minItems": count, "additionalItems": false })
                }
            }
        }
        "enum" => {
            let variants: Vec<_> = shape.parts.iter().map(variant).collect();
            json!({ "oneOf": variants })
        }
        _ => object(shape),
    }
}

fn object(shape: &Shape) -> Value {
    let names: Vec<_> = shape.parts.iter().map(|part| part.name.as_str()).collect();
    let properties: serde_json::Map<_, _> =
        shape.parts.iter().map(|part| (part.name.clone(), field(part))).collect();
    json!({ "type": "object", "properties": properties, "required": names, "additionalProperties": false })
}

fn field(part: &Shape) -> Value {
    let mut schema = of(part, part.scale_exp10);
    if !part.description.is_empty() {
        schema["description"] = part.description.clone().into();
    }
    if !part.unit.is_empty() {
        schema["x-unit"] = part.unit.clone().into();
    }
    if part.scale_exp10 != 0 {
        schema["x-scale-exp10"] = part.scale_exp10.into();
    }
    schema
}

fn variant(part: &Shape) -> Value {
    if part.r#type == "unit" {
        return json!({ "const": part.name });
    }
    let mut properties = serde_json::Map::new();
    properties.insert(part.name.clone(), of(part, 0));
    json!({ "type": "object", "properties": properties, "required": [part.name], "additionalProperties": false })
}

fn scalar(scalar: Scalar, scale_exp10: i8) -> Value {
    if let Some((least, greatest)) = scalar.integer_range() {
        if scale_exp10 == 0 {
            return json!({ "type": "integer", "minimum": least, "maximum": greatest });
        }
        let scaled = |digits: String| format!("{digits}e{scale_exp10}").parse::<f64>().unwrap_or_default();
        let kind = if scale_exp10 > 0 { "integer" } else { "number" };
        return json!({
            "type": kind, "minimum": scaled(least.to_string()), "maximum": scaled(greatest.to_string()),
        });
    }
    match scalar {
        Scalar::Bool => json!({ "type": "boolean" }),
        Scalar::String => json!({ "type": "string" }),
        Scalar::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
        Scalar::Unit => json!({ "type": "null" }),
        // NaN and the infinities are null.
        _ => json!({ "type": ["number", "null"] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_has_the_range_and_the_unit_of_each_field() {
        let entries = Entry::built_in();
        let climate = entries.iter().find(|entry| entry.name == "climate").unwrap();
        let schema = schema(climate);
        let temperature = &schema["properties"]["temperature"];
        assert_eq!(
            (&temperature["type"], &temperature["minimum"], &temperature["maximum"]),
            (&json!("number"), &json!(-327.68), &json!(327.67))
        );
        assert_eq!((&temperature["x-unit"], &temperature["x-scale-exp10"]), (&json!("Cel"), &json!(-2)));
        let pressure = &schema["properties"]["pressure"];
        assert_eq!((&pressure["type"], &pressure["maximum"]), (&json!("integer"), &json!(u32::MAX)));
        assert_eq!(schema["required"], json!(["temperature", "humidity", "pressure"]));
    }

    #[test]
    fn every_shape_has_a_schema() {
        // option of a tuple of two kinds, seq of an enum with and without a value, bytes, a float
        let definition = b"\x01\x01a\x01\x11\x04\x01b\x00\xff\x0e\x10\x02\x01\x0b\
            \x01c\x00\x00\x0f\x12\x02\x01x\x0d\x01y\x00\x01d\x00\x00\x0c\x01e\x00\x00\x09";
        let schema = schema(&Entry::new(definition).unwrap());
        let of = &schema["properties"];
        assert_eq!(
            of["b"]["anyOf"][0]["items"],
            json!([
                { "type": "number", "minimum": 0.0, "maximum": 25.5 }, { "type": "string" }
            ])
        );
        assert_eq!(of["c"]["items"]["oneOf"][0], json!({ "const": "x" }));
        assert_eq!(of["c"]["items"]["oneOf"][1]["properties"]["y"], json!({ "type": "boolean" }));
        assert_eq!(of["d"]["contentEncoding"], "base64");
        assert_eq!(of["e"]["type"], json!(["number", "null"]));
    }
}
