//! CIFAR-10 and CIFAR-100, binary version: labels and pixels in records of one length.
//!
//! # Source
//! A. Krizhevsky, <https://www.cs.toronto.edu/~kriz/cifar.html>, section "Binary version".

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;

use flate2::read::GzDecoder;
use shared::dataset::DatasetName;

use crate::dataset::{Dataset, ImageShape, Images};
use crate::error::{self, Error};
use crate::exact;

const SHAPE: ImageShape = ImageShape {
    channels: 3,
    height: 32,
    width: 32,
};

/// What tells the two data sets apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variant {
    name: DatasetName,
    /// The archive as it is offered, and the folder inside it.
    archive: &'static str,
    folder: &'static str,
    train: &'static [&'static str],
    test: &'static str,
    /// Records in each file.
    train_records: usize,
    test_records: usize,
    /// Label bytes at the head of a record; the last of them is the class.
    label_len: usize,
    class_names: &'static [&'static str],
}

pub(crate) const CIFAR_10: Variant = Variant {
    name: DatasetName::Cifar10,
    archive: "cifar-10-binary.tar.gz",
    folder: "cifar-10-batches-bin",
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: "test_batch.bin",
    train_records: 10_000,
    test_records: 10_000,
    label_len: 1,
    class_names: &[
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ],
};

pub(crate) const CIFAR_100: Variant = Variant {
    name: DatasetName::Cifar100,
    archive: "cifar-100-binary.tar.gz",
    folder: "cifar-100-binary",
    train: &["train.bin"],
    test: "test.bin",
    train_records: 50_000,
    test_records: 10_000,
    // The coarse label, then the fine one.
    label_len: 2,
    class_names: &FINE_LABELS,
};

/// As in `fine_label_names.txt`.
#[rustfmt::skip]
const FINE_LABELS: [&str; 100] = [
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur",
    "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
    "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
    "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
];

/// Reads the archive, the unpacked folder, or a folder that holds either.
pub(crate) fn read(variant: &Variant, path: &Path) -> Result<Dataset, Error> {
    let inner = path.join(variant.folder);
    let archive = path.join(variant.archive);
    let has_files = |folder: &Path| folder.join(variant.train[0]).is_file();
    let files = if path.is_file() {
        read_archive(variant, path)?
    } else if has_files(path) {
        read_folder(variant, path)?
    } else if has_files(&inner) {
        read_folder(variant, &inner)?
    } else if archive.is_file() {
        read_archive(variant, &archive)?
    } else {
        let looked_for = format!("{} or {}", variant.train[0], variant.archive);
        return Err(not_found(variant, path, looked_for));
    };
    assemble(variant, files, path)
}

/// The images of each file, by the file's name.
type Files = BTreeMap<&'static str, Images>;

fn assemble(variant: &Variant, mut files: Files, path: &Path) -> Result<Dataset, Error> {
    let mut take = |name: &'static str| {
        files
            .remove(name)
            .ok_or_else(|| not_found(variant, path, name.to_owned()))
    };
    let mut train = Images::default();
    for name in variant.train {
        let mut batch = take(name)?;
        train.pixels.append(&mut batch.pixels);
        train.labels.append(&mut batch.labels);
    }
    let test = take(variant.test)?;
    let class_names = variant
        .class_names
        .iter()
        .map(|&name| name.to_owned())
        .collect();
    Ok(Dataset::new(
        variant.name,
        train,
        Some(test),
        SHAPE,
        class_names,
    ))
}

fn not_found(variant: &Variant, path: &Path, looked_for: String) -> Error {
    let origin = error::origin(variant.name);
    Error::NotFound {
        dataset: variant.name,
        path: path.to_owned(),
        looked_for,
        origin,
    }
}

/// Each file with the number of records it must have.
fn names(variant: &Variant) -> impl Iterator<Item = (&'static str, usize)> {
    let train = variant
        .train
        .iter()
        .map(|&name| (name, variant.train_records));
    train.chain([(variant.test, variant.test_records)])
}

fn read_folder(variant: &Variant, folder: &Path) -> Result<Files, Error> {
    let mut files = Files::new();
    for (name, num_records) in names(variant) {
        let path = folder.join(name);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(not_found(variant, folder, name.to_owned()));
            }
            Err(source) => return Err(Error::Read { path, source }),
        };
        files.insert(name, read_records(variant, &mut file, &path, num_records)?);
    }
    Ok(files)
}

/// Reads the members by their names, in whatever order and folder they come.
fn read_archive(variant: &Variant, path: &Path) -> Result<Files, Error> {
    let read_error = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut reader = BufReader::new(File::open(path).map_err(read_error)?);
    let is_gzip = reader
        .fill_buf()
        .map_err(read_error)?
        .starts_with(&[0x1f, 0x8b]);
    let reader: Box<dyn Read> = if is_gzip {
        Box::new(GzDecoder::new(reader))
    } else {
        Box::new(reader)
    };
    let mut files = Files::new();
    for entry in tar::Archive::new(reader).entries().map_err(read_error)? {
        let mut entry = entry.map_err(read_error)?;
        let member = entry.path().map_err(read_error)?.into_owned();
        let wanted = names(variant).find(|(name, _)| member.file_name() == Some(name.as_ref()));
        if let Some((name, num_records)) = wanted {
            let images = read_records(variant, &mut entry, &path.join(&member), num_records)?;
            files.insert(name, images);
        }
    }
    Ok(files)
}

/// Reads one file's records: the labels, then the red, the green and the blue plane.
fn read_records(
    variant: &Variant,
    reader: &mut impl Read,
    path: &Path,
    num_records: usize,
) -> Result<Images, Error> {
    let record_len = variant.label_len + SHAPE.image_len();
    let expected = (num_records * record_len) as u64;
    let bytes = exact::read_to_end(reader, path, "records", expected)?;
    let mut images = Images {
        pixels: Vec::with_capacity(num_records * SHAPE.image_len()),
        labels: Vec::with_capacity(num_records),
    };
    for (item, record) in bytes.chunks_exact(record_len).enumerate() {
        let (labels, pixels) = record.split_at(variant.label_len);
        let label = u16::from(labels[variant.label_len - 1]);
        let num_classes = variant.class_names.len();
        if usize::from(label) >= num_classes {
            return Err(Error::UnknownLabel {
                path: path.to_owned(),
                item,
                label,
                num_classes,
            });
        }
        images.pixels.extend_from_slice(pixels);
        images.labels.push(label);
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use shared::dataset::DataSettings;
    use tempfile::TempDir;

    use super::*;
    use crate::fixture::{gzip, write};

    /// The data sets as published, with few images a file.
    const TINY_10: Variant = Variant {
        train_records: 3,
        test_records: 2,
        ..CIFAR_10
    };
    const TINY_100: Variant = Variant {
        train_records: 3,
        test_records: 2,
        ..CIFAR_100
    };

    /// The bytes of each file. Record i of file f has the class 5·f + i and the pixels 10·f + i.
    fn contents(variant: &Variant) -> Vec<(&'static str, Vec<u8>)> {
        let file = |(f, (name, num)): (u8, (&'static str, usize))| {
            let records = (0..u8::try_from(num).unwrap()).flat_map(|i| {
                // The coarse label is one that would be no class of CIFAR-10.
                let mut record = vec![200; variant.label_len];
                record[variant.label_len - 1] = (5 * f + i) % 10;
                record.resize(variant.label_len + SHAPE.image_len(), 10 * f + i);
                record
            });
            (name, records.collect())
        };
        (0..).zip(names(variant)).map(file).collect()
    }

    fn write_folder(variant: &Variant, folder: &Path) {
        for (name, bytes) in contents(variant) {
            write(&folder.join(name), &bytes);
        }
    }

    /// An archive with the members in reverse order, and another file between them.
    fn tar(variant: &Variant) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut files = contents(variant);
        files.reverse();
        files.insert(1, ("batches.meta.txt", b"airplane\n".to_vec()));
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            let path = format!("{}/{name}", variant.folder);
            builder.append_data(&mut header, path, &bytes[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn expected(variant: &Variant) -> Dataset {
        let folder = TempDir::new().unwrap();
        write_folder(variant, folder.path());
        read(variant, folder.path()).unwrap()
    }

    #[test]
    fn cifar_10_comes_in_the_order_of_its_batches() {
        let set = expected(&TINY_10);
        assert_eq!(
            set.train.labels,
            [0, 1, 2, 5, 6, 7, 0, 1, 2, 5, 6, 7, 0, 1, 2]
        );
        let first_pixels = set.train.pixels.iter().step_by(SHAPE.image_len());
        let expected: Vec<u8> = (0..5)
            .flat_map(|f| [10 * f, 10 * f + 1, 10 * f + 2])
            .collect();
        assert_eq!(first_pixels.copied().collect::<Vec<_>>(), expected);
        assert_eq!(set.test.unwrap().labels, [5, 6]);
        assert_eq!(set.shape, SHAPE);
        assert_eq!(set.class_names[9], "truck");
    }

    #[test]
    fn cifar_100_takes_the_fine_label() {
        let set = expected(&TINY_100);
        assert_eq!(set.train.labels, [0, 1, 2]);
        assert_eq!(set.train.pixels[SHAPE.image_len()], 1);
        assert_eq!(set.test.unwrap().labels, [5, 6]);
        assert_eq!(set.class_names.len(), 100);
        assert!(set.class_names.is_sorted());
    }

    #[test]
    fn planes_are_red_green_and_blue_in_this_order() {
        let mut record = vec![3];
        for plane in [10, 20, 30] {
            record.resize(record.len() + 1024, plane);
        }
        let images = read_records(&CIFAR_10, &mut &record[..], Path::new("file"), 1).unwrap();
        let planes = [images.pixels[0], images.pixels[1024], images.pixels[2048]];
        assert_eq!((images.labels[0], planes), (3, [10, 20, 30]));
    }

    #[test]
    fn folder_archive_and_what_holds_them_are_the_same_data_set() {
        for variant in [TINY_10, TINY_100] {
            let expected = expected(&variant);
            let folder = TempDir::new().unwrap();
            let archive = folder.path().join(variant.archive);
            write(&archive, &gzip(&tar(&variant)));
            assert_eq!(read(&variant, &archive).unwrap(), expected);
            assert_eq!(read(&variant, folder.path()).unwrap(), expected);
            let plain = folder.path().join("cifar.tar");
            write(&plain, &tar(&variant));
            assert_eq!(read(&variant, &plain).unwrap(), expected);
            let above = TempDir::new().unwrap();
            write_folder(&variant, &above.path().join(variant.folder));
            assert_eq!(read(&variant, above.path()).unwrap(), expected);
        }
    }

    #[test]
    fn a_missing_data_set_is_named_with_where_to_get_it() {
        let folder = TempDir::new().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("nothing")] {
            let settings = DataSettings {
                path: Some(path.clone()),
                ..DataSettings::new(DatasetName::Cifar10)
            };
            let text = Dataset::load(&settings).unwrap_err().to_string();
            let path = path.display().to_string();
            for part in [
                "`cifar-10`",
                "data_batch_1.bin",
                "https://www.cs.toronto.edu",
                &path,
            ] {
                assert!(text.contains(part), "{part} is not in: {text}");
            }
        }
    }

    #[test]
    fn a_missing_batch_is_named_in_folder_and_archive() {
        let folder = TempDir::new().unwrap();
        let files = contents(&TINY_10);
        for (name, bytes) in files.iter().filter(|(name, _)| *name != "data_batch_4.bin") {
            write(&folder.path().join(name), bytes);
        }
        let text = read(&TINY_10, folder.path()).unwrap_err().to_string();
        assert!(text.contains("no data_batch_4.bin at"), "{text}");
        let archive = folder.path().join("other.tar");
        write(
            &archive,
            &tar(&Variant {
                train: &CIFAR_10.train[..3],
                ..TINY_10
            }),
        );
        let text = read(&TINY_10, &archive).unwrap_err().to_string();
        assert!(text.contains("no data_batch_4.bin at"), "{text}");
    }

    #[test]
    fn a_truncated_batch_is_refused_with_both_sizes_even_between_records() {
        let folder = TempDir::new().unwrap();
        write_folder(&TINY_10, folder.path());
        let path = folder.path().join("data_batch_2.bin");
        for len in [2 * 3073, 3 * 3073 - 1] {
            write(&path, &vec![0; len]);
            let text = read(&TINY_10, folder.path()).unwrap_err().to_string();
            let path = path.display();
            assert_eq!(
                text,
                format!("`{path}` has the wrong size: expected 9219 bytes of records, found {len}")
            );
        }
        write(&path, &vec![0; 3 * 3073 + 1]);
        let text = read(&TINY_10, folder.path()).unwrap_err().to_string();
        assert!(
            text.ends_with("expected 9219 bytes of records, found more"),
            "{text}"
        );
    }

    #[test]
    fn batches_of_another_number_of_images_than_published_are_refused() {
        let folder = TempDir::new().unwrap();
        write_folder(&TINY_10, folder.path());
        let path = Some(folder.path().to_owned());
        let settings = DataSettings {
            path,
            ..DataSettings::new(DatasetName::Cifar10)
        };
        let text = Dataset::load(&settings).unwrap_err().to_string();
        assert!(
            text.ends_with("expected 30730000 bytes of records, found 9219"),
            "{text}"
        );
    }

    #[test]
    fn a_truncated_archive_is_refused_with_the_member() {
        let folder = TempDir::new().unwrap();
        let archive = folder.path().join("cifar.tar");
        let whole = tar(&TINY_10);
        // The test batch comes first: a header of 512 bytes, then its records.
        write(&archive, &whole[..512 + 100]);
        let text = read(&TINY_10, &archive).unwrap_err().to_string();
        let member: PathBuf = archive.join("cifar-10-batches-bin/test_batch.bin");
        let member = member.display();
        assert_eq!(
            text,
            format!("`{member}` has the wrong size: expected 6146 bytes of records, found 100")
        );
        let zipped = gzip(&whole);
        write(&archive, &zipped[..zipped.len() / 2]);
        assert!(read(&TINY_10, &archive).is_err());
        write(&archive, b"no archive at all");
        let error = read(&TINY_10, &archive).unwrap_err();
        assert!(
            error.to_string().contains(&archive.display().to_string()),
            "{error}"
        );
    }

    #[test]
    fn a_label_without_a_class_is_refused_with_its_place() {
        let folder = TempDir::new().unwrap();
        write_folder(&TINY_10, folder.path());
        let mut bytes = contents(&TINY_10)[0].1.clone();
        bytes[3073] = 10;
        write(&folder.path().join("data_batch_1.bin"), &bytes);
        let text = read(&TINY_10, folder.path()).unwrap_err().to_string();
        assert!(text.starts_with("label 10 of item 1 in"), "{text}");
        assert!(
            text.ends_with("not below 10, the number of classes"),
            "{text}"
        );
    }
}
