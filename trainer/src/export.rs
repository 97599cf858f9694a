//! `trainer export`: the weights of a finished training as a file that PyTorch loads.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;
use shared::exit::Code;
use shared::{ConfigurationId, cli, fs};
use tracing::{info, warn};

use crate::checkpoint::{self, Arrays};
use crate::finished::Finished;

/// Arguments of `trainer export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Search directory
    #[arg(value_name = cli::DIRECTORY)]
    directory: PathBuf,
    /// Id of the configuration, such as c000123
    configuration: ConfigurationId,
    /// File to write; one that is there is replaced
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
}

/// Writes the weights of a configuration's highest rung as a safetensors file, ready for PyTorch.
///
/// Names and shapes are those of `torch.nn`'s modules; see `docs/export.md`.
///
/// # Errors
/// The training has not finished, or its weights were not kept; the file cannot be written.
pub(crate) fn run(args: &Args) -> Result<Code> {
    let finished = Finished::read(&args.directory, args.configuration)?;
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
    fs::replace(&args.out, &bytes)?;
    info!(
        "exported job={} loss={}: {num_tensors} tensors to `{}`",
        finished.job,
        finished.loss,
        args.out.display()
    );
    Ok(Code::Done)
}
