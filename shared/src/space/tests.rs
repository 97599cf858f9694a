use super::*;

fn space(json: &str) -> Result<SearchSpace, Invalid> {
    SearchSpace::new(&serde_json::from_str(json).unwrap())
}

fn refused(hyperparameter: &str) -> String {
    space(&format!(r#"{{"hyperparameters":[{hyperparameter}]}}"#))
        .unwrap_err()
        .to_string()
}

#[test]
fn complaints_name_place_expectation_and_finding() {
    insta::assert_snapshot!(
        [
            refused(r#"{"name":"a","type":"float","lower":2,"upper":1}"#),
            refused(r#"{"name":"a","type":"float","lower":0,"upper":1,"log":true}"#),
            refused(r#"{"name":"a","type":"integer","lower":0,"upper":4,"log":true}"#),
            refused(r#"{"name":"a","type":"integer","lower":0.5,"upper":4}"#),
            refused(r#"{"name":"a","type":"float","upper":1}"#),
            refused(r#"{"name":"a","type":"categorical","choices":[]}"#),
            refused(r#"{"name":"a","type":"ordinal","sequence":[1,2,1.0]}"#),
            refused(r#"{"name":"a","type":"categorical","choices":["x"],"log":true}"#),
            refused(r#"{"name":"a","type":"constant"}"#),
            refused(r#"{"name":"a","type":"constant","value":1,"prior":1}"#),
            refused(r#"{"name":"a","type":"float","lower":0,"upper":1,"prior":2}"#),
            refused(r#"{"name":"a","type":"float","lower":0,"upper":1,"confidence":"low"}"#),
            refused(r#"{"name":"a","type":"float","lower":0,"upper":1,"prior":1,"confidence":0}"#),
            refused(r#"{"name":"","type":"constant","value":1}"#),
            refused(r#"{"name":"a","type":"constant","value":1},{"name":"a","type":"constant","value":1}"#),
            refused(
                r#"{"name":"a","type":"float","lower":0,"upper":1,"active_when":{"hyperparameter":"b","in":[1]}}"#
            ),
            refused(
                r#"{"name":"b","type":"integer","lower":0,"upper":1},{"name":"a","type":"float","lower":0,"upper":1,"active_when":{"hyperparameter":"b","in":[0,2]}}"#
            ),
            condition(r#"{"hyperparameter":"n"}"#),
            condition(r#"{"hyperparameter":"n","in":[]}"#),
            condition(r#"{"hyperparameter":"n","in":[1],"min":1}"#),
            condition(r#"{"hyperparameter":"n","min":2.5}"#),
            condition(r#"{"hyperparameter":"n","min":3,"max":2}"#),
            condition(r#"{"hyperparameter":"w","min":3}"#),
            condition(r#"{"in":[1]}"#),
            condition("{}"),
            condition(r#"{"all":[]}"#),
            condition(r#"{"hyperparameter":"n","min":1,"any":[]}"#),
            condition(r#"{"any":[{"hyperparameter":"n","min":1},{"all":[{"hyperparameter":"n","max":9}]}]}"#),
            condition(r#"{"any":[{"hyperparameter":"n","min":1},{"all":[{"hyperparameter":"x","max":9}]}]}"#),
            space(r#"{"hyperparameters":[]}"#).unwrap_err().to_string(),
        ]
        .join("\n")
    );
}

fn condition(json: &str) -> String {
    refused(&format!(
        r#"{{"name":"n","type":"integer","lower":1,"upper":4}},{{"name":"w","type":"ordinal","sequence":[3,4]}},
           {{"name":"a","type":"constant","value":1,"active_when":{json}}}"#
    ))
}

#[test]
fn conditions_on_several_others_and_on_ranges_hold_where_they_say() {
    let space = space(
        r#"{"hyperparameters":[
            {"name":"optimizer","type":"categorical","choices":["sgd","adam"]},
            {"name":"layers","type":"integer","lower":1,"upper":9},
            {"name":"rate","type":"float","lower":0,"upper":1,"active_when":{"hyperparameter":"optimizer","in":["sgd"]}},
            {"name":"both","type":"constant","value":1,"active_when":{"all":[
                {"hyperparameter":"optimizer","in":["sgd"]},{"hyperparameter":"layers","min":3,"max":5}]}},
            {"name":"either","type":"constant","value":1,"active_when":{"any":[
                {"hyperparameter":"rate","min":0.5},{"all":[{"hyperparameter":"layers","max":2},{"hyperparameter":"optimizer","in":["adam"]}]}]}},
            {"name":"below","type":"constant","value":1,"active_when":{"hyperparameter":"either","in":[1]}}]}"#,
    )
    .unwrap();
    let active = |json: &str| {
        let checked = space.check_configuration(&serde_json::from_str(json).unwrap());
        let checked = checked.unwrap();
        let names = ["both", "either", "below"].into_iter();
        names
            .filter(|name| checked.get(name).is_some())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        active(r#"{"optimizer":"sgd","layers":3,"rate":0.4}"#),
        "both"
    );
    assert_eq!(
        active(r#"{"optimizer":"sgd","layers":5,"rate":0.5}"#),
        "both either below"
    );
    assert_eq!(active(r#"{"optimizer":"sgd","layers":6,"rate":0.4}"#), "");
    assert_eq!(active(r#"{"optimizer":"adam","layers":4}"#), "");
    assert_eq!(active(r#"{"optimizer":"adam","layers":2}"#), "either below");
    assert_eq!(SearchSpace::new(&space.to_file()).unwrap(), space);
    // What is left with some values fixed says the same of the others.
    let fixed = |json: &str| {
        let fixed = space.fix(&serde_json::from_str(json).unwrap()).unwrap();
        let conditions = fixed.to_file().hyperparameters.into_iter();
        let conditions =
            conditions.filter(|h| h.kind == KindName::Constant && h.name != "optimizer");
        let conditions = conditions.map(|h| {
            format!(
                "{} {}",
                h.name,
                serde_json::to_string(&h.active_when).unwrap()
            )
        });
        conditions.collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!([
        fixed(r#"{"optimizer":"sgd"}"#),
        fixed(r#"{"optimizer":"adam"}"#),
        fixed(r#"{"optimizer":"sgd","rate":0.9}"#),
        fixed(r#"{"rate":0.9}"#),
    ].join("\n\n"), @r#"
    both {"hyperparameter":"layers","min":3,"max":5}
    either {"hyperparameter":"rate","min":0.5}
    below {"hyperparameter":"either","in":[1]}

    either {"hyperparameter":"layers","max":2}
    below {"hyperparameter":"either","in":[1]}

    rate null
    both {"hyperparameter":"layers","min":3,"max":5}
    either null
    below null

    rate {"hyperparameter":"optimizer","in":["sgd"]}
    both {"all":[{"hyperparameter":"optimizer","in":["sgd"]},{"hyperparameter":"layers","min":3,"max":5}]}
    either {"any":[{"hyperparameter":"rate","in":[0.9]},{"all":[{"hyperparameter":"layers","max":2},{"hyperparameter":"optimizer","in":["adam"]}]}]}
    below {"hyperparameter":"either","in":[1]}
    "#);
}

#[test]
fn configurations_are_checked_and_typed() {
    let space = space(
        r#"{"hyperparameters":[
            {"name":"optimizer","type":"categorical","choices":["sgd","adam"]},
            {"name":"rate","type":"float","lower":0,"upper":1},
            {"name":"momentum","type":"float","lower":0,"upper":1,"active_when":{"hyperparameter":"optimizer","in":["sgd"]}},
            {"name":"nesterov","type":"categorical","choices":[true,false],"active_when":{"hyperparameter":"momentum","in":[1]}},
            {"name":"version","type":"constant","value":3}]}"#,
    )
    .unwrap();
    let check = |json: &str| space.check_configuration(&serde_json::from_str(json).unwrap());
    let checked = check(r#"{"optimizer":"adam","rate":1}"#).unwrap();
    assert_eq!(
        serde_json::to_string(&checked).unwrap(),
        r#"{"optimizer":"adam","rate":1.0,"version":3}"#
    );
    assert_eq!(
        check(r#"{"optimizer":"sgd","rate":1,"momentum":1,"nesterov":true}"#)
            .unwrap()
            .0
            .len(),
        5
    );
    let place = |json: &str| check(json).unwrap_err().at;
    assert_eq!(place(r#"{"optimizer":"adam","rate":2}"#), "rate");
    assert_eq!(place(r#"{"optimizer":"adam"}"#), "rate");
    assert_eq!(
        place(r#"{"optimizer":"adam","rate":1,"momentum":0.5}"#),
        "momentum"
    );
    assert_eq!(place(r#"{"optimizer":"sgd","rate":1}"#), "momentum");
    assert_eq!(place(r#"{"optimizer":"adam","rate":1,"x":0}"#), "x");
    // An inactive parent makes its children inactive.
    assert_eq!(
        place(r#"{"optimizer":"adam","rate":1,"nesterov":true}"#),
        "nesterov"
    );
}

#[test]
fn unknown_fields_are_refused() {
    let json = r#"{"hyperparameters":[{"name":"a","type":"float","lower":0,"upper":1,"q":1}]}"#;
    assert!(
        serde_json::from_str::<SpaceFile>(json)
            .unwrap_err()
            .to_string()
            .contains("unknown field `q`")
    );
}
