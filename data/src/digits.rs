//! The built-in digits: 1,797 images of 8×8 pixels; see `sets/digits/README.md`.

use std::path::Path;

use flate2::read::GzDecoder;
use shared::dataset::DatasetName;

use crate::dataset::{Dataset, ImageShape, Images};
use crate::error::Error;
use crate::split;

const FILE: &str = "data/sets/digits/digits.csv.gz";
static BYTES: &[u8] = include_bytes!("../sets/digits/digits.csv.gz");

const SHAPE: ImageShape = ImageShape {
    channels: 1,
    height: 8,
    width: 8,
};
const NUM_CLASSES: u16 = 10;

/// The highest grey value in the file.
const WHITE: u32 = 16;

/// Images kept as the test side: a sixth, which leaves 1,500. Chosen once and for all searches.
const NUM_TEST: usize = 297;
const TEST_SEED: u64 = 1998;

/// Reads the digits out of the program.
pub(crate) fn read() -> Result<Dataset, Error> {
    let mut train = parse(BYTES)?;
    let test = split::choose_stratified(&train.labels, NUM_TEST, TEST_SEED);
    let test = train.take_out(&test, SHAPE.image_len());
    let class_names = (0..NUM_CLASSES).map(|digit| digit.to_string()).collect();
    Ok(Dataset::new(
        DatasetName::Digits,
        train,
        Some(test),
        SHAPE,
        class_names,
    ))
}

/// Parses rows of 64 pixels and a label.
fn parse(bytes: &[u8]) -> Result<Images, Error> {
    let wrong = |found: String| Error::WrongFormat {
        path: Path::new(FILE).to_owned(),
        expected: "rows of 64 pixels 0..=16 and a label 0..=9",
        found,
    };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(GzDecoder::new(bytes));
    let mut images = Images::default();
    for row in reader.deserialize() {
        let row: Vec<u16> = row.map_err(|error| wrong(error.to_string()))?;
        let item = images.len();
        let Some((&label, pixels)) = row
            .split_last()
            .filter(|row| row.1.len() == SHAPE.image_len())
        else {
            return Err(wrong(format!("{} values in row {item}", row.len())));
        };
        for &pixel in pixels {
            // 255 · 16 / 16 is the largest: only a value above 16 does not fit.
            let scaled = u8::try_from((u32::from(pixel) * 255 + WHITE / 2) / WHITE);
            images
                .pixels
                .push(scaled.map_err(|_large| wrong(format!("pixel {pixel} in row {item}")))?);
        }
        if label >= NUM_CLASSES {
            return Err(wrong(format!("label {label} in row {item}")));
        }
        images.labels.push(label);
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::fixture::gzip;

    #[test]
    fn the_file_is_the_one_its_readme_describes() {
        let digest = crate::Digest::of(Sha256::new_with_prefix(BYTES)).to_string();
        assert_eq!(
            digest,
            "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
        );
    }

    /// Counted by `zcat digits.csv.gz | awk -F, '{c[$NF]++} END {for (k in c) print k, c[k]}'`.
    #[test]
    fn every_digit_is_there_as_often_as_in_the_file() {
        let mut counts = [0; 10];
        parse(BYTES)
            .unwrap()
            .labels
            .iter()
            .for_each(|&label| counts[usize::from(label)] += 1);
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    }

    #[test]
    fn the_first_image_is_the_first_row_scaled_to_255() {
        let images = parse(BYTES).unwrap();
        // The row starts 0,0,5,13,9,1,0,0, 0,0,13,15,10,15,5,0: v · 255 / 16, rounded.
        assert_eq!(
            images.pixels[..16],
            [
                0, 0, 80, 207, 143, 16, 0, 0, 0, 0, 207, 239, 159, 239, 80, 0
            ]
        );
        assert_eq!(images.labels[0], 0);
        assert_eq!(images.pixels.iter().max(), Some(&255));
    }

    #[test]
    fn the_test_side_has_297_images_with_every_class_in_its_share() {
        let set = read().unwrap();
        let test = set.test.unwrap();
        assert_eq!((set.train.len(), test.len()), (1_500, 297));
        let mut counts = [0; 10];
        test.labels
            .iter()
            .for_each(|&label| counts[usize::from(label)] += 1);
        assert!(
            counts.iter().all(|count| (28..=31).contains(count)),
            "{counts:?}"
        );
    }

    fn parse_text(text: &str) -> String {
        parse(&gzip(text.as_bytes())).unwrap_err().to_string()
    }

    #[test]
    fn a_damaged_file_is_refused_with_the_row() {
        let row = |pixel: u16, label: u16| format!("{}{pixel},{label}\n", "0,".repeat(63));
        assert!(parse_text("1,2,3\n").ends_with("found 3 values in row 0"));
        assert!(parse_text(&(row(16, 9) + &row(17, 1))).ends_with("found pixel 17 in row 1"));
        assert!(parse_text(&row(16, 10)).ends_with("found label 10 in row 0"));
        assert!(parse_text("a,b\n").contains("invalid digit"));
    }
}
