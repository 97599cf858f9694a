//! What a configuration is, layer by layer, before anything is trained: for `trainer describe`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shared::cli::{self, Format};
use shared::exit::Code;
use shared::format::Record as _;
use shared::known::KNOWN;
use shared::objective::TrainingSettings;
use shared::space::SpaceFile;
use shared::{Configuration, Error, Invalid, SearchSpace, fs};

use crate::hyperparameters;
use crate::memory::{Footprint, mib};
use crate::network::{Layer, LayerKind, Summary};
use data::ImageShape;

/// What can be said of a configuration without training it.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    summary: Summary,
    batch_size: usize,
    footprint: Footprint,
    available: Option<u64>,
}

/// Describes a configuration for images of a shape and a number of classes.
///
/// `evaluation_batch` is the number of images evaluated at once, `available` the device's free memory in bytes, as far
/// as known.
///
/// # Errors
/// The hyperparameter that is unknown or out of range.
pub fn describe(
    configuration: &Configuration,
    image: ImageShape,
    classes: usize,
    evaluation_batch: usize,
    available: Option<u64>,
) -> Result<Description, Invalid> {
    let (network, training) = hyperparameters::read(configuration, image, classes)?;
    let summary = Summary::new(&network);
    let footprint = Footprint::new(&summary, &training, training.batch_size, evaluation_batch);
    Ok(Description {
        summary,
        batch_size: training.batch_size,
        footprint,
        available,
    })
}

/// Arguments of `trainer describe`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Search space file, such as data/spaces/joint-resnet.json
    #[arg(required_unless_present = "known")]
    space: Option<PathBuf>,
    /// Configuration file: one JSON object, name to value
    #[arg(required_unless_present = "known")]
    configuration: Option<PathBuf>,
    /// List the published networks that `start_with` may name, instead
    #[arg(long, conflicts_with_all = ["space", "configuration"])]
    known: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Shape of an image: channels, height, width in pixels
    #[arg(long, value_name = "CxHxW", default_value = "3x32x32", value_parser = image_shape)]
    image: ImageShape,
    /// Number of classes
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    classes: u16,
}

fn image_shape(text: &str) -> Result<ImageShape, String> {
    let numbers: Vec<usize> = text
        .split('x')
        .filter_map(|part| part.parse().ok())
        .collect(); // counted below
    match numbers[..] {
        [channels @ 1..=1024, height @ 1..=4096, width @ 1..=4096]
            if text.matches('x').count() == 2 =>
        {
            Ok(ImageShape {
                channels,
                height,
                width,
            })
        }
        _ => Err("expected channels, height and width, such as 3x32x32".to_owned()),
    }
}

/// Describes a configuration file, or all known networks where there is none.
///
/// # Errors
/// A file that cannot be read, or a hyperparameter that is unknown, missing or out of range.
pub fn run(args: &Args) -> anyhow::Result<Code> {
    let classes = usize::from(args.classes);
    let text = match args.space.as_deref().zip(args.configuration.as_deref()) {
        None => known(args.image, classes, args.format)?,
        Some((space, configuration)) => {
            let described = read(space, configuration, args.image, classes)?;
            match args.format {
                Format::Table => described.table(),
                Format::Json => format!("{:#}\n", described.json()),
            }
        }
    };
    cli::print(&text)?;
    Ok(Code::Done)
}

/// Reads a space and a configuration file and describes the configuration.
///
/// # Errors
/// A file that cannot be read, or a hyperparameter that is unknown, missing or out of range.
pub fn read(
    space: &Path,
    configuration: &Path,
    image: ImageShape,
    classes: usize,
) -> shared::Result<Description> {
    let file: SpaceFile = fs::read_named_record(space)?;
    let wrong = |path: &Path, format| {
        let path = path.to_path_buf();
        move |source: Invalid| Error::Value {
            path,
            format,
            source: source.into(),
        }
    };
    let checked = SearchSpace::new(&file).map_err(wrong(space, SpaceFile::FORMAT))?;
    let bytes = fs::read_named(configuration)?;
    let raw: Configuration = shared::format::parse(&bytes).map_err(|source| Error::Syntax {
        path: configuration.to_path_buf(),
        source,
    })?;
    let evaluation_batch = TrainingSettings::default().evaluation_batch;
    let evaluation_batch = usize::try_from(evaluation_batch).unwrap_or(usize::MAX); // 16-bit machines
    let values = checked
        .check_configuration(&raw)
        .map_err(wrong(configuration, "configuration"))?;
    describe(
        &values,
        image,
        classes,
        evaluation_batch,
        crate::memory::available(),
    )
    .map_err(wrong(configuration, "configuration"))
}

/// The published networks that `start_with` may name, with what they are made of for images of a shape: a table for
/// people, or JSON for programs.
pub fn known(image: ImageShape, classes: usize, format: Format) -> Result<String, Invalid> {
    let mut rows = Vec::new();
    for known in &KNOWN {
        let (network, _) = hyperparameters::read(&known.configuration(), image, classes)?;
        rows.push((known, Summary::new(&network)));
    }
    Ok(match format {
        Format::Table => {
            let title = ("name", "parameters", "multiply-adds", "published by");
            let line = |(name, parameters, work, source): (&str, &str, &str, &str)| {
                format!("{name:21} {parameters:>12} {work:>15}  {source}\n")
            };
            let rows = rows.iter().map(|(known, summary)| {
                let parameters = number(summary.parameters());
                let work = number(summary.multiply_adds());
                line((known.name, &parameters, &work, known.source))
            });
            std::iter::once(line(title)).chain(rows).collect()
        }
        Format::Json => {
            let rows = rows.iter().map(|(known, summary)| {
                json!({
                    "name": known.name,
                    "source": known.source,
                    "parameters": summary.parameters(),
                    "multiply_adds": summary.multiply_adds(),
                    "configuration": known.configuration(),
                })
            });
            format!("{:#}\n", rows.collect::<Value>())
        }
    })
}

impl Description {
    /// Whether the training fits into the memory there is; true where that is not known.
    pub fn fits(&self) -> bool {
        self.available
            .is_none_or(|available| self.footprint.total() <= available)
    }

    /// A table for people; ends with a line break.
    pub fn table(&self) -> String {
        let Footprint {
            weights,
            optimizer,
            gradients,
            activations,
        } = self.footprint;
        let layers = &self.summary.layers;
        let name_width = layers
            .iter()
            .map(|layer| layer.name.len())
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        let mut line = |name: &str, output: &str, parameters: &str, work: &str| {
            let line = format!("{name:name_width$}  {output:>14}  {parameters:>14}  {work:>16}");
            text.push_str(line.trim_end());
            text.push('\n');
        };
        line("layer", "output", "parameters", "multiply-adds");
        for layer in layers {
            let ImageShape {
                channels,
                height,
                width,
            } = layer.output;
            let output = format!("{channels}×{height}×{width}");
            line(
                &layer.name,
                &output,
                &number(layer.parameters),
                &number(layer.multiply_adds),
            );
        }
        let total = |layers: u64| number(layers);
        line(
            "total",
            "",
            &total(self.summary.parameters()),
            &total(self.summary.multiply_adds()),
        );
        write!(
            text,
            "\nmemory with batches of {}: {:.1} MiB (weights {:.1}, optimizer {:.1}, gradients and checkpoints {:.1}, \
             activations {:.1}, program {:.1})\n",
            self.batch_size,
            mib(self.footprint.total()),
            mib(weights),
            mib(optimizer),
            mib(gradients),
            mib(activations),
            mib(self.footprint.total() - weights - optimizer - gradients - activations),
        )
        .expect("a string takes everything");
        for (group, [height, width]) in &self.summary.unhalved {
            writeln!(
                text,
                "note: group {group} gets images of {height}×{width} and leaves that size as it is (stride 1)"
            )
            .expect("a string takes everything");
        }
        if let (false, Some(available)) = (self.fits(), self.available) {
            writeln!(
                text,
                "warning: only {:.1} MiB are available",
                mib(available)
            )
            .expect("a string takes everything");
        }
        text
    }

    /// The same for programs. Work is for one image's forward pass, memory in MiB.
    pub fn json(&self) -> Value {
        let layer = |layer: &Layer| {
            let ImageShape {
                channels,
                height,
                width,
            } = layer.output;
            json!({
                "name": layer.name,
                "kind": kind(layer.kind),
                "output": [channels, height, width],
                "parameters": layer.parameters,
                "multiply_adds": layer.multiply_adds,
            })
        };
        json!({
            "parameters": self.summary.parameters(),
            "multiply_adds": self.summary.multiply_adds(),
            "batch_size": self.batch_size,
            "memory_mib": mib(self.footprint.total()),
            "available_mib": self.available.map(mib),
            "fits": self.fits(),
            "unhalved_groups": self.summary.unhalved.iter().map(|(group, _)| group).collect::<Vec<_>>(),
            "layers": self.summary.layers.iter().map(layer).collect::<Vec<_>>(),
        })
    }
}

fn kind(kind: LayerKind) -> &'static str {
    match kind {
        LayerKind::Convolution => "convolution",
        LayerKind::Norm => "norm",
        LayerKind::Activation => "activation",
        LayerKind::Join => "join",
        LayerKind::SqueezeExcitation => "gate",
        LayerKind::Head => "head",
    }
}

/// A number with a space between thousands; nothing for 0.
fn number(number: u64) -> String {
    if number == 0 {
        return String::new();
    }
    shared::wording::grouped(number, ' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(available: Option<u64>) -> Description {
        let json = r#"{"nr_residual_blocks_1": 1, "nr_residual_blocks_2": 1, "initial_filters": 4,
            "groups": 2, "res_branches_2": 2, "batch_size": 32}"#;
        let configuration = serde_json::from_str(json).unwrap();
        let image = ImageShape {
            channels: 1,
            height: 8,
            width: 8,
        };
        describe(&configuration, image, 10, 256, available).unwrap()
    }

    #[test]
    fn the_table_lists_every_layer() {
        insta::assert_snapshot!(description(None).table());
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let tight = description(Some(1 << 20));
        assert!(!tight.fits());
        assert!(
            tight
                .table()
                .ends_with("warning: only 1.0 MiB are available\n")
        );
        assert_eq!(tight.json()["fits"], false);
        assert!(description(Some(1 << 40)).fits());
    }

    #[test]
    fn groups_that_keep_stride_1_are_named() {
        let configuration = serde_json::from_str(r#"{"groups": 5, "initial_filters": 1}"#).unwrap();
        let described = |height, width| {
            let image = ImageShape {
                channels: 1,
                height,
                width,
            };
            describe(&configuration, image, 2, 1, None).unwrap()
        };
        // 8, 4, 2, 1 pixels behind the first four groups.
        assert_eq!(described(8, 9).json()["unhalved_groups"], json!([5]));
        assert_eq!(described(5, 2).json()["unhalved_groups"], json!([3, 4, 5]));
        assert_eq!(described(16, 16).json()["unhalved_groups"], json!([]));
        assert!(described(8, 9).table().ends_with(
            "\nnote: group 5 gets images of 1×2 and leaves that size as it is (stride 1)\n"
        ));
    }

    #[test]
    fn the_json_has_totals_that_are_the_sums_of_the_layers() {
        let json = description(None).json();
        for field in ["parameters", "multiply_adds"] {
            let layers = json["layers"].as_array().unwrap();
            let sum: u64 = layers
                .iter()
                .map(|layer| layer[field].as_u64().unwrap())
                .sum();
            assert_eq!(json[field], sum);
        }
    }

    #[test]
    fn known_networks_have_the_parameters_of_their_publications_but_for_their_skips() {
        let image = ImageShape {
            channels: 3,
            height: 32,
            width: 32,
        };
        let table = known(image, 10, Format::Table).unwrap();
        insta::assert_snapshot!(table);
        let json: Vec<Value> =
            serde_json::from_str(&known(image, 10, Format::Json).unwrap()).unwrap();
        let parameters = |name: &str| {
            let known = json.iter().find(|known| known["name"] == name).unwrap();
            known["parameters"].as_u64().unwrap()
        };
        // Convolutions and their norms, by hand: stem, groups of `blocks` with `branches`, skips of 1×1, head.
        let by_hand = |blocks: u64, branches: u64, widths: [u64; 3]| {
            let (mut sum, mut before) = (27 * 16 + 2 * 16, 16);
            for width in widths {
                let branch = |input: u64| 9 * input * width + 9 * width * width + 4 * width;
                sum += branches * (branch(before) + (blocks - 1) * branch(width));
                if before != width {
                    sum += before * width + 2 * width;
                }
                before = width;
            }
            sum + 10 * before + 10
        };
        assert_eq!(parameters("resnet-20"), by_hand(3, 1, [16, 32, 64]));
        assert_eq!(
            parameters("wide-resnet-28-8"),
            by_hand(4, 1, [128, 256, 512])
        );
        assert_eq!(
            parameters("shake-shake-26-2x32d"),
            by_hand(4, 2, [32, 64, 128])
        );
        // He et al. give 0.27 million, Zagoruyko and Komodakis 23.4 and 36.5, Gastaldi 2.9, 11.7 and 26.2.
        for (name, millions) in [
            ("resnet-20", 0.27),
            ("wide-resnet-28-8", 23.4),
            ("wide-resnet-28-10", 36.5),
            ("shake-shake-26-2x32d", 2.9),
            ("shake-shake-26-2x64d", 11.7),
            ("shake-shake-26-2x96d", 26.2),
        ] {
            let share = parameters(name) as f64 / 1e6 / millions;
            assert!((0.97..1.03).contains(&share), "{name}: {share}");
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(number(0), "");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_000), "1 000");
        assert_eq!(number(25_198_304_266), "25 198 304 266");
    }
}
