//! A CSV of earlier results: one row each, with the hyperparameters, `loss` and `budget` as columns.
//!
//! A hyperparameter's column has its name, or `values.NAME` as in what `analyzer export csv` writes. Other columns are
//! passed over. An empty field is an inactive hyperparameter, or a configuration that failed.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use csv::StringRecord;
use shared::exit::{Code, Failure};
use shared::{Configuration, Hyperparameter, Kind, SearchSpace, Value, fs};

use super::Found;

/// Reads a table; configurations outside of the space are among the results.
pub(super) fn read(path: &Path, space: &SearchSpace) -> Result<Vec<Found>> {
    let bytes = fs::read_named(path)?;
    rows(&bytes, space).map_err(|error| {
        let message = format!("cannot learn from the table `{}`", path.display());
        Failure::because(Code::BadInput, message, error).into()
    })
}

fn rows(bytes: &[u8], space: &SearchSpace) -> Result<Vec<Found>> {
    let mut reader = csv::Reader::from_reader(bytes);
    let header = reader.headers()?.clone();
    let find = |name: &str| header.iter().position(|column| column.trim() == name);
    let columns: Vec<(&Hyperparameter, usize)> = space
        .hyperparameters()
        .iter()
        .filter_map(|h| {
            let column = find(&h.name).or_else(|| find(&format!("values.{}", h.name)));
            match (column, &h.kind) {
                (Some(column), _) => Some(Ok((h, column))),
                (None, Kind::Constant { .. }) => None,
                (None, _) => Some(Err(anyhow!(
                    "expected a column `{}` for each hyperparameter of the space, found: {}",
                    h.name,
                    header.iter().collect::<Vec<&str>>().join(", ")
                ))),
            }
        })
        .collect::<Result<_>>()?;
    let loss = find("loss").context("expected a column `loss`, found none")?;
    let (budget, outcome) = (find("budget"), find("outcome"));
    let mut all = Vec::new();
    for (record, line) in reader.records().zip(2..) {
        let record = record?;
        // What `analyzer export csv` says of jobs that say nothing of their configuration.
        if outcome.is_some_and(|column| &record[column] == "lost") {
            continue;
        }
        let number = |column: usize| number(&record, column, &header[column], line);
        let budget = budget.map(number).transpose()?;
        if let Some(wrong) = budget.filter(|budget| budget.is_none_or(|x| x <= 0.0)) {
            let found = wrong.map_or_else(|| "nothing".to_owned(), |x| x.to_string());
            return Err(anyhow!(
                "line {line}, column `budget`: expected a number above 0, found {found}"
            ));
        }
        all.push(Found {
            values: values(&record, &columns),
            budget: budget.flatten(),
            loss: number(loss)?,
        });
    }
    Ok(all)
}

/// A number; `None` where the field is empty or says that there is none.
fn number(record: &StringRecord, column: usize, name: &str, line: u64) -> Result<Option<f64>> {
    let field = record[column].trim();
    if field.is_empty() {
        return Ok(None);
    }
    let parsed = field.parse::<f64>().map_err(|_no_number| {
        anyhow!("line {line}, column `{name}`: expected a number or nothing, found `{field}`")
    })?;
    Ok(Some(parsed).filter(|x| x.is_finite()))
}

fn values(record: &StringRecord, columns: &[(&Hyperparameter, usize)]) -> Configuration {
    let mut values = Configuration::default();
    for (hyperparameter, column) in columns {
        let field = record[*column].trim();
        // A word that is empty is a choice where the space has it.
        let text = Value::Text(field.to_owned());
        let forms = [
            serde_json::from_str::<Value>(field).ok(), // no JSON: a word
            serde_json::from_str::<Value>(&field.to_lowercase()).ok(), // Python's True
            Some(text.clone()),
        ];
        let typed = forms
            .into_iter()
            .flatten()
            .find_map(|form| hyperparameter.kind.typed(&form));
        match typed {
            Some(value) => values.set(hyperparameter.name.as_str(), value),
            None if field.is_empty() => {}
            // It is none of the space, and is counted as such.
            None => values.set(hyperparameter.name.as_str(), text),
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> SearchSpace {
        let json = r#"{"hyperparameters":[
            {"name":"rate","type":"float","lower":0.001,"upper":1,"log":true},
            {"name":"flip","type":"categorical","choices":[true,false]},
            {"name":"kind","type":"categorical","choices":["a","b"]},
            {"name":"depth","type":"integer","lower":1,"upper":9,"active_when":{"hyperparameter":"kind","in":["b"]}},
            {"name":"fixed","type":"constant","value":3}]}"#;
        SearchSpace::new(&serde_json::from_str(json).unwrap()).unwrap()
    }

    #[test]
    fn fields_are_values_of_the_space_empty_ones_inactive_or_failed() {
        let text = "values.rate,flip,kind,depth,budget,loss,note\n\
                    0.1,True,b,3,9,0.25,x\n0.5,false,a,,3,,y\n2,false,c,,3,inf,\n";
        let found = rows(text.as_bytes(), &space()).unwrap();
        let (checked, losses): (Vec<bool>, Vec<Option<f64>>) = found
            .iter()
            .map(|row| (space().check_configuration(&row.values).is_ok(), row.loss))
            .unzip();
        assert_eq!(checked, [true, true, false]);
        assert_eq!(losses, [Some(0.25), None, None]);
        assert_eq!(found[0].budget, Some(9.0));
        assert_eq!(found[0].values.integer("depth"), Some(3));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, said) in [
            ("rate,flip,kind,loss\n", "expected a column `depth`"),
            ("rate,flip,kind,depth\n", "expected a column `loss`"),
            (
                "rate,flip,kind,depth,loss\n0.1,true,a,,low\n",
                "line 2, column `loss`: expected a number or nothing, found `low`",
            ),
            (
                "rate,flip,kind,depth,loss,budget\n0.1,true,a,,1,0\n",
                "line 2, column `budget`: expected a number above 0",
            ),
        ] {
            let error = format!("{:#}", rows(text.as_bytes(), &space()).unwrap_err());
            assert!(error.contains(said), "{error}");
        }
    }
}
