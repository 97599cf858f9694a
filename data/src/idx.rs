//! IDX, the format of MNIST and its kin: a header with the sizes, big-endian, then the bytes.
//!
//! # Source
//! "The IDX file format", at the foot of MNIST's page, <http://yann.lecun.com/exdb/mnist/>.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use shared::dataset::DatasetName;

use crate::dataset::{Dataset, ImageShape, Images};
use crate::error::{self, Error};
use crate::exact;

/// The type byte of unsigned bytes, the only one image sets use.
const UNSIGNED_BYTE: u8 = 0x08;

const NUM_CLASSES: usize = 10;

/// What one IDX file holds: its sizes, first the number of items, and its bytes.
struct Array {
    path: PathBuf,
    sizes: Vec<usize>,
    bytes: Vec<u8>,
}

/// The names of the two files of one side, without `.gz`.
struct Side {
    images: &'static str,
    labels: &'static str,
}

const TRAIN: Side = Side {
    images: "train-images-idx3-ubyte",
    labels: "train-labels-idx1-ubyte",
};
const TEST: Side = Side {
    images: "t10k-images-idx3-ubyte",
    labels: "t10k-labels-idx1-ubyte",
};

/// Reads the 10,000 images of MNIST built into the program; see `sets/mnist-10k/README.md`.
pub(crate) fn read_built_in() -> Result<Dataset, Error> {
    let folder = Path::new("data/sets/mnist-10k");
    assemble(DatasetName::Mnist10k, |name, dimensions| {
        parse(
            built_in(name),
            &folder.join(format!("{name}.gz")),
            dimensions,
        )
    })
}

fn built_in(name: &str) -> &'static [u8] {
    match name {
        "train-images-idx3-ubyte" => {
            include_bytes!("../sets/mnist-10k/train-images-idx3-ubyte.gz")
        }
        "train-labels-idx1-ubyte" => {
            include_bytes!("../sets/mnist-10k/train-labels-idx1-ubyte.gz")
        }
        "t10k-images-idx3-ubyte" => include_bytes!("../sets/mnist-10k/t10k-images-idx3-ubyte.gz"),
        "t10k-labels-idx1-ubyte" => include_bytes!("../sets/mnist-10k/t10k-labels-idx1-ubyte.gz"),
        // Read as an empty file, which the caller reports by its name.
        _ => &[],
    }
}

/// Reads a folder with the four files of MNIST or Fashion-MNIST.
pub(crate) fn read(name: DatasetName, folder: &Path) -> Result<Dataset, Error> {
    assemble(name, |file, dimensions| {
        let path = find(name, folder, file)?;
        let read_error = |source| Error::Read {
            path: path.clone(),
            source,
        };
        let opened = File::open(&path).map_err(read_error)?;
        parse(BufReader::new(opened), &path, dimensions)
    })
}

/// Finds a file under one of the names it goes by: unpacked or not, and with a dot as some mirrors have it.
fn find(dataset: DatasetName, folder: &Path, name: &str) -> Result<PathBuf, Error> {
    let dotted = name.replace("-idx", ".idx");
    let candidates = [
        name.to_owned(),
        format!("{name}.gz"),
        dotted.clone(),
        format!("{dotted}.gz"),
    ];
    let found = candidates
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file());
    found.ok_or_else(|| Error::NotFound {
        dataset,
        path: folder.to_owned(),
        looked_for: format!("{name} or {name}.gz"),
        origin: error::origin(dataset),
    })
}

fn assemble(
    name: DatasetName,
    read: impl Fn(&str, usize) -> Result<Array, Error>,
) -> Result<Dataset, Error> {
    let (train_path, train, shape) = read_side(&TRAIN, &read)?;
    let (test_path, test, test_shape) = read_side(&TEST, &read)?;
    if test_shape != shape {
        let text = |shape: ImageShape| format!("images of {}×{}", shape.height, shape.width);
        return Err(Error::Mismatch {
            path: train_path,
            other: test_path,
            found: text(shape),
            other_found: text(test_shape),
        });
    }
    let class_names = match name {
        DatasetName::FashionMnist => FASHION.map(str::to_owned).to_vec(),
        _ => (0..NUM_CLASSES).map(|digit| digit.to_string()).collect(),
    };
    Ok(Dataset::new(name, train, Some(test), shape, class_names))
}

/// Fashion-MNIST's classes, in the order of their labels.
const FASHION: [&str; NUM_CLASSES] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

fn read_side(
    side: &Side,
    read: &impl Fn(&str, usize) -> Result<Array, Error>,
) -> Result<(PathBuf, Images, ImageShape), Error> {
    let images = read(side.images, 3)?;
    let labels = read(side.labels, 1)?;
    if images.sizes[0] != labels.sizes[0] {
        return Err(Error::Mismatch {
            path: images.path,
            other: labels.path,
            found: format!("{} images", images.sizes[0]),
            other_found: format!("{} labels", labels.sizes[0]),
        });
    }
    let shape = ImageShape {
        channels: 1,
        height: images.sizes[1],
        width: images.sizes[2],
    };
    let values: Vec<u16> = labels.bytes.iter().map(|&label| u16::from(label)).collect();
    if let Some(item) = values
        .iter()
        .position(|&label| usize::from(label) >= NUM_CLASSES)
    {
        return Err(Error::UnknownLabel {
            path: labels.path,
            item,
            label: values[item],
            num_classes: NUM_CLASSES,
        });
    }
    Ok((
        images.path,
        Images {
            pixels: images.bytes,
            labels: values,
        },
        shape,
    ))
}

/// Reads one file, gzipped or not, and checks that it holds exactly what its header announces.
fn parse(mut reader: impl BufRead, path: &Path, dimensions: usize) -> Result<Array, Error> {
    let start = reader.fill_buf().map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    if start.starts_with(&[0x1f, 0x8b]) {
        parse_plain(GzDecoder::new(reader), path, dimensions)
    } else {
        parse_plain(reader, path, dimensions)
    }
}

fn parse_plain(mut reader: impl Read, path: &Path, dimensions: usize) -> Result<Array, Error> {
    let header = exact::read(&mut reader, path, "header", 4 + 4 * dimensions as u64)?;
    let wrong = |found: String| Error::WrongFormat {
        path: path.to_owned(),
        expected: if dimensions == 3 {
            "an IDX file of images"
        } else {
            "an IDX file of labels"
        },
        found,
    };
    let (magic, sizes) = header.split_at(4);
    if magic[..3] != [0, 0, UNSIGNED_BYTE] || usize::from(magic[3]) != dimensions {
        return Err(wrong(format!("its first four bytes are {magic:02x?}")));
    }
    let sizes: Vec<u32> = sizes
        .chunks_exact(4)
        .map(|bytes| u32::from_be_bytes(bytes.try_into().expect("chunks have four bytes")))
        .collect();
    let announced = sizes
        .iter()
        .try_fold(1_u64, |all, &size| all.checked_mul(u64::from(size)));
    // One byte more than announced must still be a number, to look for it.
    let announced = announced.filter(|&all| all < u64::MAX && !sizes[1..].contains(&0));
    let announced = announced.ok_or_else(|| wrong(format!("its sizes are {sizes:?}")))?;
    let bytes = exact::read_to_end(&mut reader, path, "items", announced)?;
    let sizes = sizes
        .iter()
        .map(|&size| usize::try_from(size).expect("u32 fits"))
        .collect();
    Ok(Array {
        path: path.to_owned(),
        sizes,
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::dataset::DataSettings;
    use tempfile::TempDir;

    use super::*;
    use crate::error::Found;
    use crate::fixture::{gzip, write};

    fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
        let mut all = vec![0, 0, UNSIGNED_BYTE, u8::try_from(sizes.len()).unwrap()];
        all.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        all.extend_from_slice(bytes);
        all
    }

    /// A folder with three images of 2×2 to train on and one to test on.
    fn folder() -> TempDir {
        let folder = TempDir::new().unwrap();
        let put = |name: &str, bytes: &[u8]| write(&folder.path().join(name), bytes);
        put(
            "train-images-idx3-ubyte",
            &idx(&[3, 2, 2], &(0..12).collect::<Vec<u8>>()),
        );
        put("train-labels-idx1-ubyte", &idx(&[3], &[7, 0, 9]));
        put(
            "t10k-images-idx3-ubyte.gz",
            &gzip(&idx(&[1, 2, 2], &[100, 101, 102, 103])),
        );
        put("t10k-labels-idx1-ubyte.gz", &gzip(&idx(&[1], &[5])));
        folder
    }

    fn read_mnist(folder: &TempDir) -> Result<Dataset, Error> {
        let path = Some(folder.path().to_owned());
        Dataset::read(&DataSettings {
            path,
            ..DataSettings::new(DatasetName::Mnist)
        })
    }

    /// The error after one file of a good folder was replaced, and the path of that file.
    fn error_with(name: &str, bytes: &[u8]) -> (Error, PathBuf) {
        let folder = folder();
        let path = folder.path().join(name);
        write(&path, bytes);
        (read_mnist(&folder).unwrap_err(), path)
    }

    #[test]
    fn a_folder_of_plain_and_gzipped_files_is_read() {
        let set = read_mnist(&folder()).unwrap();
        assert_eq!(
            set.train,
            Images {
                pixels: (0..12).collect(),
                labels: vec![7, 0, 9]
            }
        );
        let test = Images {
            pixels: vec![100, 101, 102, 103],
            labels: vec![5],
        };
        assert_eq!(set.test, Some(test));
        assert_eq!(
            set.shape,
            ImageShape {
                channels: 1,
                height: 2,
                width: 2
            }
        );
        assert_eq!(set.class_names[9], "9");
    }

    #[test]
    fn files_named_with_a_dot_are_found() {
        let folder = folder();
        let bytes = idx(&[1, 2, 2], &[1, 2, 3, 4]);
        let new = "t10k-images.idx3-ubyte";
        write(&folder.path().join(new), &bytes);
        // The dashed name comes first while it is there.
        assert_eq!(read_mnist(&folder).unwrap().test.unwrap().pixels[0], 100);
        let dotted = TempDir::new().unwrap();
        for name in [
            "train-images-idx3-ubyte",
            "train-labels-idx1-ubyte",
            "t10k-labels-idx1-ubyte.gz",
        ] {
            std::fs::copy(folder.path().join(name), dotted.path().join(name)).unwrap();
        }
        write(&dotted.path().join(new), &bytes);
        assert_eq!(
            read_mnist(&dotted).unwrap().test.unwrap().pixels,
            [1, 2, 3, 4]
        );
    }

    proptest! {
        #[test]
        fn what_is_written_as_idx_is_read_back(
            (height, width) in (1_u32..6, 1_u32..6), labels in prop::collection::vec(0_u8..10, 0..20), seed: u8,
        ) {
            let num = u32::try_from(labels.len()).unwrap();
            let pixels: Vec<u8> = (0..num * height * width).map(|i| (i % 251) as u8 ^ seed).collect();
            let sizes = [num, height, width];
            let bytes = idx(&sizes, &pixels);
            for bytes in [gzip(&bytes), bytes] {
                let array = parse(&bytes[..], Path::new("images"), 3).unwrap();
                prop_assert_eq!(&array.bytes, &pixels);
                prop_assert_eq!(array.sizes, sizes.map(|size| size as usize));
            }
            let array = parse(&idx(&[num], &labels)[..], Path::new("labels"), 1).unwrap();
            prop_assert_eq!(array.bytes, labels);
        }

        #[test]
        fn no_prefix_of_a_file_is_taken_for_the_file(cut in 0_usize..28) {
            let bytes = idx(&[3, 2, 2], &[9; 12]);
            let error = parse(&bytes[..cut], Path::new("images"), 3).err().unwrap();
            prop_assert!(matches!(error, Error::WrongSize { .. }), "{}", error);
        }
    }

    #[test]
    fn fashion_mnist_has_the_names_of_its_classes() {
        let folder = folder();
        let set = read(DatasetName::FashionMnist, folder.path()).unwrap();
        assert_eq!(
            (set.class_names[0].as_str(), set.class_names[9].as_str()),
            ("T-shirt/top", "Ankle boot")
        );
    }

    #[test]
    fn mnist_10k_is_whole() {
        let set = read_built_in().unwrap();
        let test = set.test.unwrap();
        assert_eq!((set.train.len(), test.len()), (9_000, 1_000));
        assert_eq!(
            set.shape,
            ImageShape {
                channels: 1,
                height: 28,
                width: 28
            }
        );
        // The first labels, as `zcat t10k-labels-idx1-ubyte.gz | xxd` prints them.
        assert_eq!(test.labels[..8], [1, 2, 0, 7, 6, 1, 9, 6]);
        assert_eq!(set.train.labels[..8], [0, 4, 9, 1, 7, 9, 1, 4]);
    }

    #[test]
    fn a_missing_file_is_named_with_where_to_get_it() {
        let folder = TempDir::new().unwrap();
        let text = read_mnist(&folder).unwrap_err().to_string();
        for part in [
            "`mnist`",
            "train-images-idx3-ubyte",
            &folder.path().display().to_string(),
            "https://",
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }

    #[test]
    fn a_truncated_file_is_refused_with_both_sizes() {
        let whole = idx(&[3, 2, 2], &[0; 12]);
        let (error, path) = error_with("train-images-idx3-ubyte", &whole[..20]);
        let path = path.display();
        assert_eq!(
            error.to_string(),
            format!("`{path}` has the wrong size: expected 12 bytes of items, found 4")
        );
        let (error, _) = error_with("train-images-idx3-ubyte", &whole[..9]);
        assert!(
            error
                .to_string()
                .ends_with("expected 16 bytes of header, found 9"),
            "{error}"
        );
    }

    #[test]
    fn a_truncated_gzip_file_is_refused_with_both_sizes() {
        let pixels: Vec<u8> = (0..3000_u32).map(|i| (i * i % 255) as u8).collect();
        let whole = gzip(&idx(&[1, 60, 50], &pixels));
        let (error, _) = error_with("t10k-images-idx3-ubyte.gz", &whole[..whole.len() / 2]);
        match error {
            Error::WrongSize {
                expected: 3000,
                found: Found::Exactly(found),
                ..
            } => {
                assert!(found < 3000);
            }
            error => panic!("{error}"),
        }
    }

    #[test]
    fn bytes_after_the_last_item_are_refused() {
        let (error, _) = error_with("train-labels-idx1-ubyte", &idx(&[3], &[1, 2, 3, 4]));
        assert!(
            error
                .to_string()
                .ends_with("expected 3 bytes of items, found more"),
            "{error}"
        );
    }

    #[test]
    fn a_header_that_claims_an_absurd_size_is_refused_without_allocating_it() {
        let huge = idx(&[u32::MAX, 28, 28], &[0; 5]);
        let (error, _) = error_with("train-images-idx3-ubyte", &huge);
        assert!(error.to_string().ends_with("found 5"), "{error}");
        let (error, _) = error_with("train-images-idx3-ubyte", &gzip(&huge));
        assert!(error.to_string().ends_with("found 5"), "{error}");
        let overflowing = idx(&[u32::MAX; 3], &[]);
        let (error, _) = error_with("train-images-idx3-ubyte", &overflowing);
        assert!(error.to_string().contains("its sizes are"), "{error}");
        let (error, _) = error_with("train-images-idx3-ubyte", &idx(&[3, 0, 28], &[]));
        assert!(
            error.to_string().contains("its sizes are [3, 0, 28]"),
            "{error}"
        );
    }

    #[test]
    fn a_file_of_another_format_is_refused() {
        let (error, _) = error_with("train-images-idx3-ubyte", b"<html>404 Not Found</html>");
        assert!(matches!(error, Error::WrongFormat { .. }), "{error}");
        // Labels where images should be.
        let (error, _) = error_with("train-images-idx3-ubyte", &idx(&[12], &[0; 12]));
        assert!(
            error.to_string().contains("not an IDX file of images"),
            "{error}"
        );
        let (error, _) = error_with(
            "train-images-idx3-ubyte",
            &[0x1f, 0x8b, 9, 9, 9, 9, 9, 9, 9, 9, 9],
        );
        assert!(matches!(error, Error::Read { .. }), "{error}");
    }

    #[test]
    fn images_and_labels_must_be_equally_many() {
        let (error, _) = error_with("train-labels-idx1-ubyte", &idx(&[2], &[1, 2]));
        assert!(
            error.to_string().ends_with("3 images against 2 labels"),
            "{error}"
        );
    }

    #[test]
    fn both_sides_must_have_one_image_size() {
        let (error, _) = error_with("t10k-images-idx3-ubyte.gz", &idx(&[1, 2, 3], &[0; 6]));
        assert!(
            error
                .to_string()
                .ends_with("images of 2×2 against images of 2×3"),
            "{error}"
        );
    }

    #[test]
    fn a_label_without_a_class_is_refused_with_its_place() {
        let (error, _) = error_with("train-labels-idx1-ubyte", &idx(&[3], &[1, 10, 2]));
        assert!(
            error.to_string().starts_with("label 10 of item 1 in"),
            "{error}"
        );
    }
}
