//! Trainings that have come to their end in a search directory: `trainer export` and `trainer predict`.
//!
//! Reads only. A training keeps its last checkpoint if it had the full budget, or if a higher rung goes on from it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use data::{Dataset, Splits};
use serde_json::{Value, json};
use shared::directory::Directory;
use shared::exit::{Code, Failure};
use shared::objective::{NetworkObjective, Objective};
use shared::{Claim, Configuration, ConfigurationId, JobId, JobResult, Outcome, fs};
use tracing::{info, warn};

use crate::batch::{TrainingData, plain_pixels};
use crate::checkpoint::{self, Arrays};
use crate::resume::largest_checkpoint;
use crate::train::{Learnt, learnt};
use crate::trained::Trained;

/// A training that was evaluated at its budget, with its weights.
#[derive(Debug)]
struct Finished {
    job: JobId,
    configuration: Configuration,
    loss: f64,
    objective: NetworkObjective,
    learnt: Learnt,
}

/// Writes the weights of a configuration's highest rung as a safetensors file, ready for PyTorch.
///
/// Names and shapes are those of `torch.nn`'s modules; see `docs/export.md`.
///
/// # Errors
/// The training has not finished, or its weights were not kept; the file cannot be written.
pub fn export(root: &Path, id: ConfigurationId, file: &Path) -> Result<()> {
    let finished = Finished::read(root, id)?;
    let mut metadata = BTreeMap::from([
        ("format", "pt".to_owned()),
        ("job", finished.job.to_string()),
        ("loss", finished.loss.to_string()),
        ("configuration", json!(finished.configuration).to_string()),
    ]);
    match finished.data() {
        Ok(splits) => {
            let shape = splits.shape;
            let normalisation = &splits.normalisation;
            let image = json!([shape.channels, shape.height, shape.width]);
            metadata.insert("image", image.to_string());
            metadata.insert("classes", json!(splits.class_names).to_string());
            metadata.insert("mean", json!(normalisation.mean).to_string());
            metadata.insert("std", json!(normalisation.std).to_string());
        }
        // The weights are whole without: the user may have the data elsewhere.
        Err(error) => {
            warn!("classes and normalisation are left out of the file: {error:#}");
        }
    }
    let num_tensors = finished.learnt.arrays.len();
    let bytes = checkpoint::write(&Arrays(finished.learnt.arrays), json!(metadata));
    fs::replace(file, &bytes)?;
    info!(
        "exported job={} loss={}: {num_tensors} tensors to `{}`",
        finished.job,
        finished.loss,
        file.display()
    );
    Ok(())
}

/// What a network makes of some images.
#[derive(Debug)]
pub struct Predictions {
    /// The names of the classes, in the order of the scores.
    pub classes: Vec<String>,
    /// Each image with its scores, one per class.
    pub images: Vec<(PathBuf, Vec<f32>)>,
}

/// Computes the scores of an image, or of all in a folder, with the network of a configuration's highest rung.
///
/// # Errors
/// As [`export`]; the data set that was trained on, whose normalisation the images need, cannot be had; an image cannot
/// be read.
pub fn predict(root: &Path, id: ConfigurationId, images: &Path) -> Result<Predictions> {
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

impl Finished {
    fn read(root: &Path, id: ConfigurationId) -> Result<Self> {
        let directory = Directory::observe(root)?;
        let search = directory.search();
        let Objective::Network(objective) = &search.objective else {
            let message = format!("the objective of `{}` is no network", root.display());
            return Err(Failure::new(Code::BadInput, message).into());
        };
        let mut highest = None;
        for rung in (0..=search.ladder.top()).rev() {
            highest = directory.last_result(id.job(rung))?;
            if highest.is_some() {
                break;
            }
        }
        let Some(result) = highest else {
            return Err(refused(format!(
                "{id} has no result in `{}`",
                root.display()
            )));
        };
        let job = result.job();
        let Outcome::Evaluated { loss } = result.outcome else {
            let outcome = result.outcome.as_str();
            return Err(refused(format!(
                "{job} has no weights: its outcome is `{outcome}`"
            )));
        };
        let learnt = kept(&directory, &result)?.ok_or_else(|| {
            let top = search.ladder.top();
            refused(format!(
                "the weights of {job} were not kept: only those of rung {top}, the full budget, are \
                 (and of lower rungs while a higher one may go on from them)"
            ))
        })?;
        Ok(Self {
            job,
            configuration: result.configuration,
            loss,
            objective: objective.clone(),
            learnt,
        })
    }

    /// The data set that was learnt.
    fn data(&self) -> Result<Splits> {
        let splits = Dataset::load(&self.objective.data).map_err(Failure::from)?;
        if splits.digest.to_string() != self.learnt.data_digest {
            let message = "the data set has changed since the training: its digest is another";
            return Err(refused(message));
        }
        Ok(splits)
    }
}

/// What the attempt that gave a result had learnt at its end, if it was kept.
fn kept(directory: &Directory, result: &JobResult) -> Result<Option<Learnt>> {
    let claim = Claim {
        attempt: result.attempt,
        owner: result.owner.clone(),
    };
    let Some(bytes) = directory.read_checkpoint(&claim, largest_checkpoint())? else {
        return Ok(None);
    };
    let path = directory.layout().checkpoint(&claim);
    let learnt = learnt(&bytes).map_err(|error| {
        let message = format!("cannot use the checkpoint `{}`", path.display());
        Failure::because(Code::BadInput, message, error)
    })?;
    // One from the middle of the training gives other scores than its result says.
    Ok((learnt.spent >= result.budget.amount).then_some(learnt))
}

fn refused(message: impl Into<String>) -> anyhow::Error {
    Failure::new(Code::BadInput, message).into()
}

impl Predictions {
    /// A table for people: image, class, how sure (softmax), scores; ends with a line break.
    pub fn table(&self) -> String {
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
    pub fn json(&self) -> Value {
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
