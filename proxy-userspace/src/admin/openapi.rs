//! The API as an OpenAPI 3.1 document, made from the table of operations.

use super::{
    operations::{JSON, OPERATIONS, Operation, meaning},
    parameter::Parameter,
    status::ErrorAnswer,
};
use schemars::{
    SchemaGenerator,
    generate::{Contract, SchemaSettings},
};
use serde_json::{Map, Value, json};

const DESCRIPTION: &str = "Read and change a running Weir. Over its UNIX socket whoever may open it may do everything; over TCP \
     a token or a client certificate says who asks. Every error has what is wrong and what to do about it.";

/// The document.
pub fn openapi() -> Value {
    let mut sent = generator(Contract::Deserialize);
    let mut answered = generator(Contract::Serialize);
    let error = answered.subschema_for::<ErrorAnswer>().to_value();
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let of_path = paths.entry(operation.path).or_insert_with(|| json!({}));
        let method = operation.method.to_ascii_lowercase();
        of_path[method] = described(operation, &error, &mut sent, &mut answered);
    }
    let mut schemas = sent.take_definitions(true);
    schemas.extend(answered.take_definitions(true));
    schemas.values_mut().for_each(joined);
    schemas.sort_keys();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Weir",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "servers": [{ "url": "/" }],
        "security": [{}, { "token": [] }, { "certificate": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`admin.tokens` of the config, over TCP",
                },
                "certificate": {
                    "type": "mutualTLS",
                    "description": "A certificate that `admin.tls.client_ca` of the config vouches for, over TCP",
                },
            },
        },
    })
}

fn generator(contract: Contract) -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        settings.contract = contract;
    });
    settings.into_generator()
}

fn described(
    operation: &Operation,
    error: &Value,
    sent: &mut SchemaGenerator,
    answered: &mut SchemaGenerator,
) -> Value {
    let mut responses = Map::new();
    let answer = (operation.answer)(answered).to_value();
    responses.insert("200".into(), response("Done", operation.media, &answer));
    for status in operation.errors() {
        responses.insert(status.to_string(), response(meaning(status), JSON, error));
    }
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "responses": responses,
    });
    if !operation.parameters.is_empty() {
        described["parameters"] = operation.parameters.iter().map(parameter).collect();
    }
    if let Some(shape) = operation.body {
        let schema = shape(sent).to_value();
        described["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    described
}

fn response(description: &str, media: &str, schema: &Value) -> Value {
    json!({ "description": description, "content": { media: { "schema": schema } } })
}

fn parameter(parameter: &Parameter) -> Value {
    json!({
        "name": parameter.name,
        "in": if parameter.in_query { "query" } else { "path" },
        "required": !parameter.in_query,
        "description": parameter.description,
        "schema": { "type": "string", "pattern": parameter.pattern },
        "example": parameter.example,
    })
}

/// Descriptions without the line breaks of the source.
fn joined(schema: &mut Value) {
    match schema {
        Value::Object(entries) => {
            for (key, value) in entries {
                match value {
                    Value::String(text) if key == "description" => *text = text.replace('\n', " "),
                    other => joined(other),
                }
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(joined),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All `$ref`s of a document.
    fn references<'a>(at: &'a Value, into: &mut Vec<&'a str>) {
        match at {
            Value::Object(entries) => {
                into.extend(entries.get("$ref").and_then(Value::as_str));
                entries.values().for_each(|value| references(value, into));
            }
            Value::Array(elements) => elements.iter().for_each(|value| references(value, into)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_no_schema_is_two_things() {
        let document = openapi();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > OPERATIONS.len());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        // Bodies and answers are generated apart: a name in both would stand for one of them only.
        let (mut sent, mut answered) = (generator(Contract::Deserialize), generator(Contract::Serialize));
        for operation in OPERATIONS {
            (operation.answer)(&mut answered);
            operation.body.map(|shape| shape(&mut sent));
        }
        let answered = answered.take_definitions(true);
        for (name, schema) in sent.take_definitions(true) {
            assert!(answered.get(&name).is_none_or(|other| *other == schema), "{name}");
        }
    }
}
