//! JSON Schemas of the files that people write, for editors that complete and check them while they are typed.
//!
//! They come from the types that the files are read into, so they name the same fields; what only the programs check
//! (names that must exist, ends of ranges) is not in them.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value as Json, json};

use crate::format::Record;

/// The schema of a format.
pub fn schema<R: Record + JsonSchema>() -> Json {
    let settings = SchemaSettings::draft2020_12();
    let mut json = settings
        .into_generator()
        .into_root_schema_for::<R>()
        .to_value();
    allow_comments(&mut json);
    json["title"] = json!(format!("Tandem {}", R::FORMAT));
    if let Some(properties) = json.get_mut("properties").and_then(Json::as_object_mut) {
        let own = std::mem::take(properties);
        properties.insert("$schema".into(), json!({ "type": "string" }));
        properties.insert("format".into(), json!({ "const": R::FORMAT }));
        let version = json!({ "type": "array", "items": { "type": "integer" }, "minItems": 2, "maxItems": 2 });
        properties.insert("version".into(), version);
        properties.extend(own);
    }
    json
}

/// Wherever only known fields may be, comments may be, too.
fn allow_comments(json: &mut Json) {
    match json {
        Json::Object(fields) => {
            if fields.get("additionalProperties") == Some(&Json::Bool(false)) {
                let comments = Map::from_iter([("^//".to_owned(), json!({}))]);
                fields.insert("patternProperties".into(), comments.into());
            }
            fields.values_mut().for_each(allow_comments);
        }
        Json::Array(items) => items.iter_mut().for_each(allow_comments),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SearchFile;
    use crate::search::MethodName;
    use crate::space::SpaceFile;

    #[test]
    fn schemas_name_every_field_its_type_and_what_it_is() {
        let search = schema::<SearchFile>();
        let properties = search["properties"].as_object().unwrap();
        for field in [
            "$schema", "format", "name", "space", "budget", "limit", "method", "trainers",
        ] {
            assert!(properties.contains_key(field), "{field}");
        }
        assert_eq!(search["additionalProperties"], json!(false));
        assert_eq!(
            search["required"],
            json!(["name", "objective", "budget", "limit"])
        );
        let unit = &search["$defs"]["BudgetUnit"];
        assert!(unit.to_string().contains("epochs"), "{unit}");
        let space = schema::<SpaceFile>();
        let hyperparameter = &space["$defs"]["HyperparameterFile"];
        for (name, field) in hyperparameter["properties"].as_object().unwrap() {
            assert!(field["description"].is_string(), "{name}: {field}");
        }
        assert_eq!(hyperparameter["patternProperties"], json!({ "^//": {} }));
    }

    #[test]
    fn every_method_is_listed() {
        let read = |name: &str| serde_json::from_value::<MethodName>(name.into());
        for method in MethodName::ALL {
            assert_eq!(read(method.as_str()).unwrap(), method);
        }
        let known = read("?").unwrap_err().to_string();
        let known = known.split_once("one of").unwrap().1.split(',').count();
        assert_eq!(known, MethodName::ALL.len());
    }
}
