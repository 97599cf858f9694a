//! What a finished training gives: weights for PyTorch, scores for images.

use std::path::{Path, PathBuf};
use std::process::Output;

use data::{DataSettings, Dataset, DatasetName};
use serde_json::{Value, json};
use shared::{Outcome, fs};

use crate::{Search, said};

fn trained() -> Search {
    let search = Search::new(&json!({}));
    search.offer(
        123,
        2,
        &json!({
            "nr_residual_blocks_1": 1, "nr_residual_blocks_2": 1, "nr_residual_blocks_3": 1,
            "initial_filters": 8, "batch_size": 32, "learning_rate": 0.05,
        }),
    );
    search.work();
    search
}

fn export(search: &Search, id: &str, file: &Path) -> Output {
    let mut command = search.trainer("export");
    command.arg(id).arg("--out").arg(file).output().unwrap()
}

fn predict(search: &Search, id: &str, images: &Path, format: &str) -> Output {
    let mut command = search.trainer("predict");
    command
        .arg(id)
        .arg(images)
        .args(["--format", format])
        .output()
        .unwrap()
}

/// Writes the test images of the digits as binary-level grey PNG files, one folder a class.
fn write_test_images(folder: &Path) -> usize {
    let splits = Dataset::load(&DataSettings::new(DatasetName::Digits)).unwrap();
    let test = splits.test.unwrap();
    for (index, (pixels, label)) in test.pixels.chunks(64).zip(&test.labels).enumerate() {
        let class = folder.join(&splits.class_names[usize::from(*label)]);
        fs::make_folder(&class).unwrap();
        fs::replace(&class.join(format!("{index:03}.png")), &png(pixels)).unwrap();
    }
    test.len()
}

fn png(pixels: &[u8]) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let image = image::GrayImage::from_raw(8, 8, pixels.to_vec()).unwrap();
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[test]
fn predictions_make_the_errors_that_the_result_counts() {
    let search = trained();
    let images = search.beside("images");
    let num_images = write_test_images(&images);
    let output = predict(&search, "c000123", &images, "json");
    assert!(output.status.success(), "{}", said(&output));
    let predictions: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(predictions.len(), num_images);
    let mut num_errors = 0.0;
    for prediction in &predictions {
        let path = PathBuf::from(prediction["image"].as_str().unwrap());
        let truth = path
            .parent()
            .unwrap()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap();
        let class = prediction["class"].as_str().unwrap();
        num_errors += f64::from(u8::from(class != truth));
        let numbers = |field: &str| -> Vec<(String, f64)> {
            let all = prediction[field].as_object().unwrap();
            all.iter()
                .map(|(class, n)| (class.clone(), n.as_f64().unwrap()))
                .collect()
        };
        let (scores, probabilities) = (numbers("scores"), numbers("probabilities"));
        assert_eq!((scores.len(), probabilities.len()), (10, 10));
        let sum: f64 = probabilities
            .iter()
            .map(|(_, probability)| probability)
            .sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        let best = |numbers: &[(String, f64)]| {
            numbers
                .iter()
                .max_by(|a, b| a.1.total_cmp(&b.1))
                .unwrap()
                .0
                .clone()
        };
        assert_eq!(
            (best(&scores), best(&probabilities)),
            (class.to_owned(), class.to_owned())
        );
    }
    let job = shared::ConfigurationId(123).job(2);
    let measured = search.result(job).measures["test_error"];
    let found = num_errors / predictions.len() as f64;
    assert!(
        (measured - found).abs() < 1e-9,
        "{found} instead of {measured}"
    );
    assert!(measured < 0.1, "it has learnt something: {measured}");
}

#[test]
fn an_image_of_another_size_and_in_colour_is_the_same_digit() {
    let search = trained();
    let images = search.beside("images");
    write_test_images(&images);
    let one = images.join("7/");
    let one = one.join(&fs::list(&one).unwrap()[0]);
    let table = |path: &Path| {
        let output = predict(&search, "c000123", path, "table");
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let small = table(&one);
    let lines: Vec<Vec<&str>> = small
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines.len(), 2, "{small}");
    assert_eq!(lines[0][..3], ["image", "class", "probability"]);
    assert_eq!(lines[1].len(), 13);
    assert_eq!(lines[1][1], "7");
    let large = search.beside("large.png");
    let image =
        image::open(&one)
            .unwrap()
            .resize_exact(24, 24, image::imageops::FilterType::Nearest);
    let mut bytes = std::io::Cursor::new(Vec::new());
    image
        .to_rgb8()
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    fs::replace(&large, &bytes.into_inner()).unwrap();
    let large = table(&large);
    assert_eq!(
        large.lines().nth(1).unwrap().split_whitespace().nth(1),
        Some("7"),
        "{large}"
    );
}

#[test]
fn exported_weights_are_a_safetensors_file_with_all_that_is_needed_to_use_it() {
    let search = trained();
    let file = search.beside("weights.safetensors");
    let output = export(&search, "c000123", &file);
    assert!(output.status.success(), "{}", said(&output));
    let bytes = fs::read(&file).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    assert_eq!(header["head.weight"]["shape"], json!([10, 32]));
    assert_eq!(header["stem.weight"]["shape"], json!([8, 1, 3, 3]));
    assert!(
        header
            .get("groups.2.blocks.0.branches.0.norm2.running_var")
            .is_some()
    );
    // No optimizer, no state of the training.
    assert!(
        header
            .as_object()
            .unwrap()
            .keys()
            .all(|name| !name.contains("velocity"))
    );
    let metadata = &header["__metadata__"];
    let parsed =
        |name: &str| -> Value { serde_json::from_str(metadata[name].as_str().unwrap()).unwrap() };
    assert_eq!(metadata["format"], "pt");
    assert_eq!(metadata["job"], "c000123-r2");
    let job = shared::ConfigurationId(123).job(2);
    assert_eq!(parsed("loss"), search.loss(job));
    assert_eq!(parsed("configuration")["initial_filters"], 8);
    assert_eq!(parsed("image"), json!([1, 8, 8]));
    assert_eq!(parsed("classes").as_array().unwrap().len(), 10);
    let splits = Dataset::load(&DataSettings::new(DatasetName::Digits)).unwrap();
    assert_eq!(parsed("mean"), json!(splits.normalisation.mean));
    assert_eq!(parsed("std"), json!(splits.normalisation.std));
}

#[test]
fn what_has_no_weights_is_refused_with_the_reason() {
    let search = Search::new(&json!({}));
    let small = json!({ "nr_residual_blocks_1": 1, "initial_filters": 4 });
    search.offer(1, 0, &small);
    let broken = search.offer(2, 2, &json!({ "kernel_size": 2 }));
    search.work();
    assert!(matches!(
        search.result(broken).outcome,
        Outcome::Crashed { .. }
    ));
    let file = search.beside("weights.safetensors");
    for (id, reason) in [
        ("c000000", "c000000 has no result"),
        (
            "c000001",
            "the weights of c000001-r0 were not kept: only those of rung 2",
        ),
        (
            "c000002",
            "c000002-r2 has no weights: its outcome is `crashed`",
        ),
    ] {
        for output in [
            export(&search, id, &file),
            predict(&search, id, &file, "table"),
        ] {
            assert_eq!(output.status.code(), Some(3), "{}", said(&output));
            assert!(said(&output).contains(reason), "{}", said(&output));
        }
    }
    assert!(!file.exists());
    assert_eq!(export(&search, "123", &file).status.code(), Some(2));

    let benchmark = Search::new(&json!({
        "space": { "hyperparameters": [
            { "name": "x1", "type": "float", "lower": -5, "upper": 10 },
            { "name": "x2", "type": "float", "lower": 0, "upper": 15 },
        ] },
        "objective": { "benchmark": "branin" },
    }));
    let output = export(&benchmark, "c000000", &file);
    assert_eq!(output.status.code(), Some(3));
    assert!(said(&output).contains("is no network"), "{}", said(&output));
}

#[test]
fn images_that_cannot_be_read_are_named() {
    let search = trained();
    let folder = search.beside("images");
    fs::make_folder(&folder).unwrap();
    let output = predict(&search, "c000123", &folder, "table");
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(
        said(&output).contains("no .png, .jpg or .jpeg images in"),
        "{}",
        said(&output)
    );
    fs::replace(&folder.join("bad.png"), b"nothing").unwrap();
    for path in [
        folder.clone(),
        folder.join("bad.png"),
        folder.join("missing.png"),
    ] {
        let output = predict(&search, "c000123", &path, "table");
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        assert!(
            said(&output).contains("cannot use 1 of the 1 images"),
            "{}",
            said(&output)
        );
    }
}
