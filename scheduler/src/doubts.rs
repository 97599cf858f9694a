//! What a search file probably does not mean: nothing is wrong with it, and yet.
//!
//! Each doubt names the hyperparameter and says what to write instead; `scheduler init` prints them as warnings.

use shared::search::SearchFile;
use shared::space::{HyperparameterFile, KindName, SpaceFile, Values};
use shared::{Configuration, Search, Value};

/// A float range from a positive number to so many times that is usually meant on a logarithmic scale.
const WIDE: f64 = 1000.0;

/// The doubts about a search that is valid.
pub(crate) fn doubts(file: &SearchFile, search: &Search) -> Vec<String> {
    let mut doubts = Vec::new();
    if let Some(space) = &file.space {
        for (index, hyperparameter) in space.hyperparameters.iter().enumerate() {
            let own = about_names(space, index)
                .into_iter()
                .chain(about_range(hyperparameter))
                .chain(about_condition(space, hyperparameter));
            doubts.extend(own.map(|doubt| format!("`{}` {doubt}", hyperparameter.name)));
        }
        doubts.extend(about_forbidden(space));
    }
    doubts.extend(about_priors(search));
    if search.ladder.num_rungs() == 1 && !search.method.has_one_budget() {
        let budget = search.ladder.budget(0);
        let method = search.method.as_str();
        doubts.push(format!(
            "there is one budget, {budget}, so `{method}` never compares cheap trainings: write a smaller `budget.min`"
        ));
    }
    doubts
}

fn about_names(space: &SpaceFile, index: usize) -> Vec<String> {
    let name = &space.hyperparameters[index].name;
    let mut doubts = Vec::new();
    if name.trim() != name {
        doubts.push("begins or ends with a space".to_owned());
    }
    let plain = |name: &str| name.trim().to_lowercase().replace(['-', ' ', '.'], "_");
    let others = space.hyperparameters[..index].iter();
    if let Some(other) = others.map(|h| &h.name).find(|o| plain(o) == plain(name)) {
        doubts.push(format!(
            "has nearly the name of `{other}`: if they are the same, leave one out; else give one another name"
        ));
    }
    doubts
}

fn about_range(hyperparameter: &HyperparameterFile) -> Vec<String> {
    let mut doubts = Vec::new();
    let levels = match hyperparameter.kind {
        KindName::Ordinal => hyperparameter.sequence.as_deref(),
        KindName::Categorical => hyperparameter.choices.as_deref(),
        KindName::Float | KindName::Integer | KindName::Constant => None,
    };
    let levels = levels.unwrap_or_default();
    if hyperparameter.kind == KindName::Ordinal
        && let Some(sorted) = sorted_otherwise(levels)
    {
        doubts.push(format!(
            "has a `sequence` that neither rises nor falls: write {sorted}, or make it `categorical` if the order means nothing"
        ));
    }
    let is_text = |value: &&Value| matches!(value, Value::Text(text) if is_number_or_boolean(text));
    if let Some(word) = levels.iter().chain(&hyperparameter.value).find(is_text) {
        let (quoted, plain) = (word.quoted(), word.to_string().to_lowercase());
        doubts.push(format!(
            "has the word {quoted}: write {plain} without quotes if that is meant"
        ));
    }
    let ends = (
        hyperparameter.lower.as_ref().and_then(Value::as_f64),
        hyperparameter.upper.as_ref().and_then(Value::as_f64),
    );
    if let (Some(lower), Some(upper)) = ends {
        let is_wide = lower > 0.0 && upper / lower >= WIDE;
        if hyperparameter.kind == KindName::Float && hyperparameter.log.is_none() && is_wide {
            doubts.push(format!(
                "goes from {lower} to {upper} in equal steps, so that small values are hardly ever tried: write \"log\": true, \
                 or \"log\": false if this is meant"
            ));
        }
    }
    let has_one = match ends {
        (Some(lower), Some(upper)) => upper <= lower,
        _ => levels.len() == 1,
    };
    if has_one {
        doubts.push("has one value only: make it `constant`".to_owned());
    }
    doubts
}

/// The levels in order, if all are numbers, written as such or as words, in another order.
fn sorted_otherwise(levels: &[Value]) -> Option<String> {
    let number = |value: &Value| match value {
        Value::Text(text) => text.trim().parse::<f64>().ok().filter(|x| x.is_finite()),
        value => value.as_f64(),
    };
    let numbers: Vec<f64> = levels.iter().map(number).collect::<Option<_>>()?;
    if numbers.is_sorted() || numbers.iter().rev().is_sorted() {
        return None;
    }
    let mut sorted: Vec<(f64, &Value)> = numbers.into_iter().zip(levels).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let values: Vec<String> = sorted.iter().map(|(_, value)| value.quoted()).collect();
    Some(format!("[{}]", values.join(", ")))
}

fn is_number_or_boolean(text: &str) -> bool {
    let is_number = text.parse::<f64>().is_ok_and(f64::is_finite);
    is_number || ["true", "false", "null", "none"].contains(&text.to_lowercase().as_str())
}

fn about_condition(space: &SpaceFile, hyperparameter: &HyperparameterFile) -> Option<String> {
    let is_float = |name: &str| {
        let mut all = space.hyperparameters.iter();
        all.any(|h| h.name == name && h.kind == KindName::Float)
    };
    let conditions = hyperparameter.active_when.as_ref()?.single();
    let mut about_values = conditions.iter().filter(|c| c.values.is_some());
    let name =
        about_values.find_map(|c| c.hyperparameter.as_deref().filter(|name| is_float(name)))?;
    Some(format!(
        "depends on single values of the float `{name}`, which draws never hit: write a range with `min` and `max`"
    ))
}

fn about_forbidden(space: &SpaceFile) -> Vec<String> {
    let is_float = |name: &str| {
        let mut all = space.hyperparameters.iter();
        all.any(|h| h.name == name && h.kind == KindName::Float)
    };
    let mut doubts = Vec::new();
    for (number, clause) in space.forbidden.iter().enumerate() {
        for (name, values) in &clause.0 {
            let is_single = matches!(values, Values::One(_) | Values::Several(_));
            if is_single && is_float(name) {
                doubts.push(format!(
                    "`forbidden[{number}]` names single values of the float `{name}`, which draws never hit: write a range with \
                     `min` and `max`"
                ));
            }
        }
    }
    doubts
}

/// Beliefs that are forbidden together.
fn about_priors(search: &Search) -> Option<String> {
    let mut believed = Configuration::default();
    for hyperparameter in search.space.hyperparameters() {
        if let Some(belief) = &hyperparameter.user_prior {
            believed.set(hyperparameter.name.as_str(), belief.value.clone());
        }
    }
    (!search.space.allows(&believed)).then(|| {
        "the values given as `prior` are forbidden together: the nearest allowed ones are tried first".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubts_about(hyperparameters: &str, forbidden: &str, max: u32) -> Vec<String> {
        let json = format!(
            r#"{{"name":"x","space":{{"hyperparameters":[{hyperparameters}],"forbidden":[{forbidden}]}},
                "objective":{{"benchmark":"branin"}},"budget":{{"unit":"steps","min":1,"max":{max}}},"limit":{{"brackets":1}}}}"#
        );
        let file: SearchFile = serde_json::from_str(&json).unwrap();
        doubts(&file, &Search::new(&file).unwrap())
    }

    #[test]
    fn likely_mistakes_are_named_with_what_to_write() {
        insta::assert_snapshot!(
            doubts_about(
                r#"{"name":"size","type":"ordinal","sequence":[1,10,2]},
                   {"name":"Size","type":"ordinal","sequence":["1","10","2"]},
                   {"name":"learning-rate","type":"float","lower":1e-5,"upper":1},
                   {"name":"learning_rate","type":"float","lower":0.1,"upper":1,"prior":0.5},
                   {"name":" momentum","type":"float","lower":0,"upper":1,"active_when":{"hyperparameter":"learning_rate","in":[0.5]}},
                   {"name":"nesterov","type":"categorical","choices":["True","False"]},
                   {"name":"one","type":"integer","lower":3,"upper":3},
                   {"name":"only","type":"categorical","choices":["a"],"prior":"a"}"#,
                r#"{"learning_rate":[0.2,0.3]},{"learning_rate":{"min":0.4,"max":0.6},"only":"a"}"#,
                1
            )
            .join("\n")
        );
    }

    #[test]
    fn what_is_meant_is_not_doubted() {
        let meant = doubts_about(
            r#"{"name":"size","type":"ordinal","sequence":[64,16,1]},
               {"name":"word","type":"ordinal","sequence":["small","medium","large"]},
               {"name":"rate","type":"float","lower":1e-5,"upper":1,"log":true},
               {"name":"share","type":"float","lower":1e-5,"upper":1,"log":false},
               {"name":"zero","type":"float","lower":0,"upper":1e6},
               {"name":"none","type":"categorical","choices":[null,"all",3,true]},
               {"name":"k","type":"integer","lower":1,"upper":100000,"active_when":{"hyperparameter":"none","in":[null,3]}}"#,
            r#"{"none":null,"k":3}"#,
            9,
        );
        assert_eq!(meant, [""; 0]);
    }
}
