//! `docs/reference/api.md`, from the description that `/openapi.json` serves. `BLESS=1` writes it anew.

use serde_json::{Map, Value};
use utoipa::OpenApi;

use super::Description;
use crate::cli::reference::keep_in_step;

const ABOUT: &str = "\
# HTTP API

Generated from the program, which serves the same as OpenAPI at `/openapi.json`.

Clients authenticate with HTTP Basic, id and secret form-encoded first (RFC 6749 §2.3.1); at the OAuth endpoints also by
the other ways that the metadata names. Bodies of `/v1` are JSON, those of `/oauth2` forms. Unknown members are refused.

Errors of `/v1` are problem documents (RFC 9457) with a stable `code`, those of `/oauth2` follow RFC 6749 §5.2. 503 comes
with `Retry-After`: nothing can be told, and asking again is harmless. Instants are RFC 3339 in UTC.
";

#[test]
fn the_page_on_the_api_is_in_step() {
    let description = serde_json::to_value(Description::openapi()).unwrap();
    let mut page = ABOUT.to_owned();
    for (path, item) in members(&description["paths"]) {
        for (method, operation) in members(item) {
            endpoint(&method.to_uppercase(), path, operation, &mut page);
        }
    }
    page += "\n# Bodies\n";
    for (name, schema) in members(&description["components"]["schemas"]) {
        body(name, schema, &mut page);
    }
    keep_in_step("api.md", &page);
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn endpoint(method: &str, path: &str, operation: &Value, page: &mut String) {
    let about = ["summary", "description"].map(|name| line(&operation[name]));
    *page += &format!(
        "\n## {method} {path}\n\n{}\n",
        about.iter().filter(|a| !a.is_empty()).cloned().collect::<Vec<_>>().join("\n\n")
    );
    let parameters: Vec<_> = operation["parameters"].as_array().into_iter().flatten().collect();
    if !parameters.is_empty() {
        *page += "\n| parameter | in | meaning |\n|---|---|---|\n";
    }
    for parameter in parameters {
        let (name, place) = (line(&parameter["name"]), line(&parameter["in"]));
        let required = if parameter["required"] == true { "" } else { " (optional)" };
        *page += &format!("| `{name}`{required} | {place} | {} |\n", cell(&parameter["description"]));
    }
    if let Some((kind, content)) = members(&operation["requestBody"]["content"]).next() {
        *page += &format!("\nBody: {} (`{kind}`)\n", named(&content["schema"]));
    }
    *page += "\n| status | answer |\n|---|---|\n";
    for (status, response) in members(&operation["responses"]) {
        let content = members(&response["content"]).next().map(|(_, content)| named(&content["schema"]));
        let told = cell(&response["description"]);
        let answer: Vec<_> = [content.unwrap_or_default(), told].into_iter().filter(|t| !t.is_empty()).collect();
        *page += &format!("| {status} | {} |\n", answer.join(": "));
    }
}

fn body(name: &str, schema: &Value, page: &mut String) {
    *page += &format!("\n## {name}\n\n{}\n", line(&schema["description"]));
    let parts = schema["allOf"].as_array().cloned().unwrap_or_else(|| vec![schema.clone()]);
    for part in &parts {
        if part["$ref"].is_string() {
            *page += &format!("\nAll of {}, and:\n", named(part));
        }
        let required: Vec<_> = part["required"].as_array().into_iter().flatten().collect();
        let mut fields = members(&part["properties"]).peekable();
        if fields.peek().is_some() {
            *page += "\n| member | type | meaning |\n|---|---|---|\n";
        }
        for (field, schema) in fields {
            let optional = if required.iter().any(|r| *r == field) { "" } else { " (optional)" };
            *page += &format!("| `{field}`{optional} | {} | {} |\n", named(schema), cell(&schema["description"]));
        }
    }
}

/// The name of a type: a link to a body, or the word of JSON Schema.
fn named(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    let alternatives = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
    if let Some(alternatives) = alternatives {
        return alternatives.iter().map(named).collect::<Vec<_>>().join(" or ");
    }
    match &schema["type"] {
        Value::String(kind) if kind == "array" => format!("array of {}", named(&schema["items"])),
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        _ => "any".to_owned(),
    }
}

fn line(value: &Value) -> String {
    value.as_str().unwrap_or_default().trim().to_owned()
}

fn cell(value: &Value) -> String {
    line(value).replace('\n', " ").replace('|', "\\|")
}
