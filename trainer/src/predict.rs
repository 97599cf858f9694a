//! `trainer predict`: images classified with the network of a finished training.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use shared::ConfigurationId;
use shared::cli::{self, Format};
use shared::exit::{Code, Failure};

use crate::finished::Finished;
use crate::minibatch::{TrainingData, plain_pixels};
use crate::trained::Trained;

/// Arguments of `trainer predict`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Search directory
    #[arg(value_name = cli::DIRECTORY)]
    directory: PathBuf,
    /// Id of the configuration, such as c000123
    configuration: ConfigurationId,
    /// An image, or a folder that is searched recursively (.png, .jpg, .jpeg)
    images: PathBuf,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// What a network makes of some images.
#[derive(Debug)]
struct Predictions {
    /// The names of the classes, in the order of the scores.
    classes: Vec<String>,
    /// Each image with its scores, one per class.
    images: Vec<(PathBuf, Vec<f32>)>,
}

/// Prints the classes of an image, or of all in a folder, by the network of a configuration's highest rung.
///
/// # Errors
/// The training has not finished, or its weights were not kept; the data set that was trained on, whose normalisation the
/// images need, cannot be had; an image cannot be read.
pub(crate) fn run(args: &Args) -> Result<Code> {
    let predictions = predict(&args.directory, args.configuration, &args.images)?;
    cli::print(&match args.format {
        Format::Table => predictions.table(),
        Format::Json => format!("{:#}\n", predictions.json()),
    })?;
    Ok(Code::Done)
}

fn predict(root: &Path, id: ConfigurationId, images: &Path) -> Result<Predictions> {
    let finished = Finished::read(root, id)?;
    let splits = finished.data()?;
    let bad_input = |error: data::Error| Failure::from(error);
    let (paths, pixels) = data::read_images(images, splits.shape).map_err(bad_input)?;
    let shape = splits.shape;
    let classes = splits.num_classes();
    let arrays = finished.learnt.arrays;
    let network = Trained::new(&finished.configuration, shape, classes, arrays)?;
    let values = TrainingData::new(&splits).pixel_values;
    let at_once = finished.objective.training.evaluation_batch;
    let at_once = usize::try_from(at_once).context("more images at once than memory can hold")?;
    let mut scores = Vec::with_capacity(paths.len() * classes);
    for pixels in pixels.chunks(at_once * shape.image_len()) {
        scores.extend(network.scores(plain_pixels(pixels, shape, &values)));
    }
    let scores = scores.chunks_exact(classes).map(<[f32]>::to_vec);
    Ok(Predictions {
        images: paths.into_iter().zip(scores).collect(),
        classes: splits.class_names,
    })
}

impl Predictions {
    /// A table for people: image, class, how sure (softmax), scores; ends with a line break.
    fn table(&self) -> String {
        let names: Vec<String> = self
            .images
            .iter()
            .map(|(path, _)| path.display().to_string())
            .collect();
        let width = |texts: &mut dyn Iterator<Item = &String>, least: usize| {
            texts.fold(least, |width, text| width.max(text.chars().count()))
        };
        let name_width = width(&mut names.iter(), "image".len());
        let class_width = width(&mut self.classes.iter(), "class".len());
        let mut text = format!(
            "{:name_width$}  {:class_width$}  probability",
            "image", "class"
        );
        for class in &self.classes {
            // Writing to a string cannot fail.
            let _done = write!(text, "  {class:>8}");
        }
        text.push('\n');
        for (name, (_, scores)) in names.iter().zip(&self.images) {
            let best = best(scores);
            let (class, probability) = (&self.classes[best], softmax(scores)[best]);
            let _done = write!(
                text,
                "{name:name_width$}  {class:class_width$}  {probability:>11.4}"
            );
            for (score, class) in scores.iter().zip(&self.classes) {
                let width = class.chars().count().max(8);
                let _done = write!(text, "  {score:>width$.4}");
            }
            text.push('\n');
        }
        text
    }

    /// The same for programs: a list, with probabilities and scores of all classes.
    fn json(&self) -> Value {
        let by_class = |values: &[f32]| -> Value {
            let values = values.iter().map(|value| json!(value));
            Value::Object(self.classes.iter().cloned().zip(values).collect())
        };
        let image = |(path, scores): &(PathBuf, Vec<f32>)| {
            json!({
                "image": path,
                "class": self.classes[best(scores)],
                "probabilities": by_class(&softmax(scores)),
                "scores": by_class(scores),
            })
        };
        self.images.iter().map(image).collect()
    }
}

/// The place of the highest score, of equal ones the first.
fn best(scores: &[f32]) -> usize {
    (0..scores.len())
        .rev()
        .max_by(|a, b| scores[*a].total_cmp(&scores[*b]))
        .unwrap_or(0) // a network has at least one class
}

/// The probabilities that scores stand for; computed from differences to the highest, which cannot overflow.
fn softmax(scores: &[f32]) -> Vec<f32> {
    let highest = scores[best(scores)];
    let shares: Vec<f32> = scores
        .iter()
        .map(|score| libm::expf(score - highest))
        .collect();
    let sum: f32 = shares.iter().sum();
    shares.into_iter().map(|share| share / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predictions() -> Predictions {
        Predictions {
            classes: vec!["cat".to_owned(), "dog".to_owned()],
            images: vec![
                ("a.png".into(), vec![1.0, 0.0]),
                ("folder/b.png".into(), vec![-2.0, 200.0]),
            ],
        }
    }

    #[test]
    fn the_table_has_a_line_per_image() {
        let expected = "\
image         class  probability       cat       dog
a.png         cat         0.7311    1.0000    0.0000
folder/b.png  dog         1.0000   -2.0000  200.0000
";
        assert_eq!(predictions().table(), expected);
    }

    #[test]
    fn the_json_has_the_scores_by_class() {
        let json = predictions().json();
        assert_eq!(json[1]["class"], "dog");
        assert_eq!(json[1]["scores"]["cat"], -2.0);
        assert_eq!(json[1]["probabilities"], json!({"cat": 0.0, "dog": 1.0}));
    }

    #[test]
    fn of_equal_scores_the_first_counts() {
        assert_eq!(best(&[0.5, 1.0, 1.0]), 1);
        assert_eq!(softmax(&[3.0, 3.0]), [0.5, 0.5]);
    }
}
