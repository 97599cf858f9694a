//! The flat table of all results, for pandas, polars, R or a spreadsheet: one row a result, as CSV or Parquet.
//!
//! Columns: `job`, `configuration`, `foreign_id`, `bracket`, `rung`, `budget`, `unit`, `outcome`, `loss`, `test_loss`,
//! `spent` (in the budget's unit), `started_s` and `finished_s` (seconds since 1970), `elapsed_s`, `owner`, `origin`
//! (`model`, `prior`, `other`), `message`; then `values.NAME` for every hyperparameter and `measures.NAME` for every
//! measure, in alphabetical order. What does not exist is an empty field in CSV and a null in Parquet.
//!
//! A hyperparameter's column has the type of the hyperparameter, whatever values occur: float, integer; of ordinals,
//! categories and constants the one that all their levels have (numbers of both kinds are floats), else words. Where the
//! space was guessed or is not known, all values that occur decide.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use parquet::basic::{LogicalType, Repetition, Type as PhysicalType};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use shared::budget::short;
use shared::{ConfigurationId, Kind, Outcome, SearchSpace, Value};

use crate::history::{Evaluation, History};
use crate::table::{Cell, Table};

/// A named column.
#[derive(Debug, Clone, PartialEq)]
struct Column {
    name: String,
    data: Data,
}

/// The values of a column, one a row.
#[derive(Debug, Clone, PartialEq)]
enum Data {
    Words(Vec<Option<String>>),
    Numbers(Vec<Option<f64>>),
    Whole(Vec<Option<i64>>),
    Booleans(Vec<Option<bool>>),
}

impl Data {
    fn text(&self, row: usize) -> String {
        let text = match self {
            Self::Words(words) => words[row].clone(),
            Self::Numbers(numbers) => numbers[row].map(|x| Cell::Number(x).plain()),
            Self::Whole(whole) => whole[row].map(|x| x.to_string()),
            Self::Booleans(booleans) => booleans[row].map(|b| b.to_string()),
        };
        text.unwrap_or_default() // an empty field
    }
}

/// The table as CSV with a header.
pub fn csv(history: &History) -> Result<String> {
    let columns = columns(history);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns.iter().map(|column| &column.name))?;
    for row in 0..history.results.len() {
        writer.write_record(columns.iter().map(|column| column.data.text(row)))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

/// The table as a Parquet file: words as UTF-8, numbers as doubles, whole numbers as 64-bit integers, booleans as
/// BOOLEAN, all optional; not compressed, in one row group.
///
/// # Panics
/// Never: the schema has a field for each column.
pub fn parquet(history: &History) -> Result<Vec<u8>> {
    let columns = columns(history);
    let field = |column: &Column| {
        let (kind, logical) = match column.data {
            Data::Words(_) => (PhysicalType::BYTE_ARRAY, Some(LogicalType::String)),
            Data::Numbers(_) => (PhysicalType::DOUBLE, None),
            Data::Whole(_) => (PhysicalType::INT64, None),
            Data::Booleans(_) => (PhysicalType::BOOLEAN, None),
        };
        let builder = Type::primitive_type_builder(&column.name, kind);
        let builder = builder.with_repetition(Repetition::OPTIONAL);
        Ok(Arc::new(builder.with_logical_type(logical).build()?))
    };
    let fields: Vec<Arc<Type>> = columns.iter().map(field).collect::<Result<_>>()?;
    let schema = Type::group_type_builder("results").with_fields(fields);
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema.build()?), properties)?;
    let mut group = writer.next_row_group()?;
    for column in &columns {
        let mut out = group
            .next_column()?
            .expect("the schema has a field for each column");
        match &column.data {
            Data::Words(words) => {
                let (bytes, levels) = present(words, |word| ByteArray::from(word.as_str()));
                out.typed::<ByteArrayType>()
                    .write_batch(&bytes, Some(&levels), None)?;
            }
            Data::Numbers(numbers) => {
                let (numbers, levels) = present(numbers, |x| *x);
                out.typed::<DoubleType>()
                    .write_batch(&numbers, Some(&levels), None)?;
            }
            Data::Whole(whole) => {
                let (whole, levels) = present(whole, |x| *x);
                out.typed::<Int64Type>()
                    .write_batch(&whole, Some(&levels), None)?;
            }
            Data::Booleans(booleans) => {
                let (booleans, levels) = present(booleans, |b| *b);
                out.typed::<BoolType>()
                    .write_batch(&booleans, Some(&levels), None)?;
            }
        }
        out.close()?;
    }
    group.close()?;
    Ok(writer.into_inner()?)
}

/// The values that are there, and for each row whether one is.
fn present<T, U>(values: &[Option<T>], write: impl Fn(&T) -> U) -> (Vec<U>, Vec<i16>) {
    let levels = values.iter().map(|value| i16::from(value.is_some()));
    (
        values.iter().flatten().map(write).collect(),
        levels.collect(),
    )
}

fn columns(history: &History) -> Vec<Column> {
    let mut columns = fixed_columns(history);
    columns.extend(value_columns(history));
    let mut measures: Vec<usize> = (0..history.measures.len()).collect();
    measures.sort_by_key(|&index| &history.measures[index]);
    for measure in measures {
        let number = |result: &Evaluation| {
            let found = result.measures.iter().find(|(index, _)| *index == measure);
            found.map(|(_, number)| *number)
        };
        columns.push(Column {
            name: format!("measures.{}", history.measures[measure]),
            data: Data::Numbers(history.results.iter().map(number).collect()),
        });
    }
    columns
}

fn fixed_columns(history: &History) -> Vec<Column> {
    let tried = |result: &Evaluation| &history.configurations[result.configuration];
    let words = |name: &str, word: &dyn Fn(&Evaluation) -> Option<String>| Column {
        name: name.to_owned(),
        data: Data::Words(history.results.iter().map(word).collect()),
    };
    let numbers = |name: &str, number: &dyn Fn(&Evaluation) -> Option<f64>| Column {
        name: name.to_owned(),
        data: Data::Numbers(history.results.iter().map(number).collect()),
    };
    let whole = |name: &str, number: &dyn Fn(&Evaluation) -> i64| Column {
        name: name.to_owned(),
        data: Data::Whole(history.results.iter().map(|r| Some(number(r))).collect()),
    };
    let unit = history.unit.map(|unit| unit.symbol().to_owned());
    vec![
        words("job", &|result| Some(result.job.to_string())),
        words("configuration", &|result| {
            Some(tried(result).id.to_string())
        }),
        words("foreign_id", &|result| tried(result).foreign_id.clone()),
        whole("bracket", &|result| i64::from(result.bracket)),
        whole("rung", &|result| i64::from(result.job.rung)),
        numbers("budget", &|result| Some(history.budgets[result.budget])),
        words("unit", &|_| unit.clone()),
        words("outcome", &|result| Some(result.outcome.as_str().into())),
        numbers("loss", &Evaluation::loss),
        numbers("test_loss", &|result| result.test_loss),
        numbers("spent", &|result| Some(result.spent)),
        numbers("started_s", &|result| result.started_s),
        numbers("finished_s", &|result| result.finished_s),
        numbers("elapsed_s", &|result| Some(result.elapsed_s)),
        words("owner", &|result| {
            Some(history.owners[result.owner].clone())
        }),
        words("origin", &|result| {
            tried(result).origin.map(|o| o.as_str().into())
        }),
        words("message", &|result| {
            Some(message(&result.outcome)).filter(|message| !message.is_empty())
        }),
    ]
}

/// A column for each hyperparameter of the space, and for each other one that occurs.
fn value_columns(history: &History) -> Vec<Column> {
    let known = history
        .space
        .as_ref()
        .filter(|_| !history.space_is_inferred);
    let mut by_name: BTreeMap<&str, Vec<(usize, &Value)>> = BTreeMap::new();
    for hyperparameter in known.map_or(&[][..], SearchSpace::hyperparameters) {
        by_name.insert(&hyperparameter.name, Vec::new());
    }
    for (row, result) in history.results.iter().enumerate() {
        for (name, value) in history.configurations[result.configuration].values.iter() {
            by_name.entry(name).or_default().push((row, value));
        }
    }
    let num_rows = history.results.len();
    let column = |(name, values): (&str, Vec<(usize, &Value)>)| {
        let kind = known.and_then(|space| space.find(name)).map(|h| &h.kind);
        let data = match sort_of(kind, &values) {
            Sort::Whole => Data::Whole(placed(num_rows, &values, Value::as_i64)),
            Sort::Numbers => Data::Numbers(placed(num_rows, &values, Value::as_f64)),
            Sort::Booleans => Data::Booleans(placed(num_rows, &values, |value| match value {
                Value::Boolean(b) => Some(*b),
                _ => None,
            })),
            Sort::Words => Data::Words(placed(num_rows, &values, |value| Some(value.to_string()))),
        };
        Column {
            name: format!("values.{name}"),
            data,
        }
    };
    by_name.into_iter().map(column).collect()
}

/// What a column holds.
enum Sort {
    Words,
    Numbers,
    Whole,
    Booleans,
}

/// What the column of a hyperparameter holds: by its kind where that is known, else by its values.
fn sort_of(kind: Option<&Kind>, values: &[(usize, &Value)]) -> Sort {
    match kind {
        Some(Kind::Float { .. }) => Sort::Numbers,
        Some(Kind::Integer { .. }) => Sort::Whole,
        Some(Kind::Ordinal { sequence: levels } | Kind::Categorical { choices: levels }) => {
            common_sort(&levels.iter())
        }
        Some(Kind::Constant { value }) => common_sort(&std::iter::once(value)),
        None => common_sort(&values.iter().map(|(_, value)| *value)),
    }
}

/// The narrowest sort that holds all these values.
fn common_sort<'a>(values: &(impl Iterator<Item = &'a Value> + Clone)) -> Sort {
    let all = |is: fn(&Value) -> bool| values.clone().all(is);
    if all(|value| matches!(value, Value::Integer(_))) {
        Sort::Whole
    } else if all(|value| value.as_f64().is_some()) {
        Sort::Numbers
    } else if all(|value| matches!(value, Value::Boolean(_))) {
        Sort::Booleans
    } else {
        Sort::Words
    }
}

fn placed<T: Clone>(
    num_rows: usize,
    values: &[(usize, &Value)],
    convert: impl Fn(&Value) -> Option<T>,
) -> Vec<Option<T>> {
    let mut column = vec![None; num_rows];
    for (row, value) in values {
        column[*row] = convert(value);
    }
    column
}

/// Learning curves, one row a point. Columns: `job`, `configuration`, `budget` (of the job), `spent` (so far),
/// `training_loss`, `loss`.
pub fn curves(history: &History, only: Option<ConfigurationId>) -> Table {
    let mut table = Table::new(&[
        "job",
        "configuration",
        "budget",
        "spent",
        "training_loss",
        "loss",
    ]);
    for result in &history.results {
        let id = result.job.configuration;
        if only.is_some_and(|only| only != id) {
            continue;
        }
        for point in &result.curve {
            table.push(vec![
                Cell::text(result.job.to_string()),
                Cell::text(id.to_string()),
                Cell::Number(history.budgets[result.budget]),
                Cell::Number(point.spent),
                Cell::number(point.training_loss),
                Cell::number(point.loss),
            ]);
        }
    }
    table
}

/// What an outcome says beyond its kind.
pub fn message(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Evaluated { .. } => String::new(),
        Outcome::Stopped { spent, loss, limit } => {
            format!(
                "stopped after {}: loss {loss}, at most {limit} goes on",
                short(*spent)
            )
        }
        Outcome::Diverged { message, .. } | Outcome::Crashed { message, .. } => message.clone(),
        Outcome::OutOfMemory {
            needed_mib,
            available_mib,
        } => format!("{needed_mib} MiB needed, {available_mib} MiB free"),
        Outcome::Infeasible { violations, .. } => shared::constraint::in_words(violations),
        Outcome::Lost { attempts, fate } => {
            format!("{attempts} attempts, the last: {}", fate.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::RowAccessor as _;

    use super::*;
    use crate::load::{self, Wanted};
    use crate::testing::{evaluated, history, result, search_file};

    #[test]
    fn parquet_holds_the_same_table_with_types_and_nulls() {
        let history = history(&[&[0.5, 0.25], &[f64::NAN], &[0.75]]);
        let bytes = bytes::Bytes::from(parquet(&history).unwrap());
        let reader = SerializedFileReader::new(bytes).unwrap();
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let names: Vec<String> = schema
            .columns()
            .iter()
            .map(|c| c.name().to_owned())
            .collect();
        let csv = csv(&history).unwrap();
        assert_eq!(names.join(","), csv.lines().next().unwrap());
        let place = |name: &str| names.iter().position(|n| n == name).unwrap();
        let rows: Vec<_> = reader
            .get_row_iter(None)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(rows.len(), 4);
        assert_eq!(rows[1].get_string(place("job")).unwrap(), "c000000-r1");
        assert!((rows[1].get_double(place("loss")).unwrap() - 0.25).abs() < f64::EPSILON);
        assert!(rows[2].get_double(place("loss")).is_err(), "null");
        assert_eq!(rows[2].get_string(place("message")).unwrap(), "loss NaN");
        assert_eq!(rows[3].get_long(place("values.blocks")).unwrap(), 3);
        assert!(
            rows[3].get_long(place("values.size")).is_err(),
            "inactive: null"
        );
    }
    #[test]
    fn columns_have_the_types_of_their_hyperparameters() {
        let mut file = search_file();
        file.space = serde_json::from_value(serde_json::json!({"hyperparameters": [
            {"name": "float", "type": "float", "lower": 0, "upper": 2},
            {"name": "integer", "type": "integer", "lower": 0, "upper": 2},
            {"name": "flag", "type": "categorical", "choices": [true, false]},
            {"name": "sizes", "type": "ordinal", "sequence": [8, 16]},
            {"name": "shares", "type": "ordinal", "sequence": [0.5, 1]},
            {"name": "mixed", "type": "categorical", "choices": ["none", 1, true]},
            {"name": "words", "type": "categorical", "choices": ["a", "b"]},
            {"name": "never", "type": "constant", "value": true,
             "active_when": {"hyperparameter": "words", "in": ["b"]}},
        ]}))
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = std::path::Path::new("search.json");
        let directory = shared::Directory::create(folder.path(), &file, path).unwrap();
        let mut row = result(0, 0, evaluated(0.5));
        // Without their kinds, values such as these say little of the types.
        row.configuration = serde_json::from_str(
            r#"{"float": 1, "integer": 1, "flag": true, "sizes": 8, "shares": 1, "mixed": 1, "words": "a"}"#,
        )
        .unwrap();
        directory.publish_result(&row).unwrap();
        let history = load::open(folder.path(), Wanted::ALL).unwrap();
        let bytes = bytes::Bytes::from(parquet(&history).unwrap());
        let reader = SerializedFileReader::new(bytes).unwrap();
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let types: Vec<String> = schema
            .columns()
            .iter()
            .filter_map(|c| {
                Some(format!(
                    "{}: {}",
                    c.name().strip_prefix("values.")?,
                    c.physical_type()
                ))
            })
            .collect();
        assert_eq!(
            types,
            [
                "flag: BOOLEAN",
                "float: DOUBLE",
                "integer: INT64",
                "mixed: BYTE_ARRAY",
                "never: BOOLEAN",
                "shares: DOUBLE",
                "sizes: INT64",
                "words: BYTE_ARRAY"
            ]
        );
        let row = reader.get_row_iter(None).unwrap().next().unwrap().unwrap();
        let place = |name: &str| {
            let columns = schema.columns();
            columns
                .iter()
                .position(|c| c.name() == format!("values.{name}"))
                .unwrap()
        };
        assert!(row.get_bool(place("flag")).unwrap());
        assert!((row.get_double(place("shares")).unwrap() - 1.0).abs() < f64::EPSILON);
        assert_eq!(row.get_string(place("mixed")).unwrap(), "1");
        assert!(row.get_bool(place("never")).is_err(), "null");
        assert!(csv(&history).unwrap().contains(",true,1.0,1,1,,1.0,8,a"));
    }
}
