//! Data sets that a search names and images that a trained network is asked about: files of other people's formats.

use std::io::{Cursor, Write as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use data::{DataSettings, Dataset, DatasetName, ImageShape};
use flate2::Compression;
use flate2::write::GzEncoder;
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use serde_json::Value;

use super::{parsed, put, temporary};

/// The four files of MNIST.
const IDX: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];
/// The place of the key in the first line of a cache file.
const KEY: &str = "@KEY@";

/// One of the four files, which the first byte says, beside three good ones.
pub(crate) fn run_idx(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else {
        return;
    };
    let folder = temporary();
    for (number, name) in IDX.iter().enumerate() {
        let good = idx_files()[number].clone();
        let is_it = usize::from(*which) % IDX.len() == number;
        put(&folder.path().join(name), if is_it { bytes } else { &good });
    }
    load(DatasetName::Mnist, folder.path());
}

pub(crate) fn idx_seeds() -> Vec<Vec<u8>> {
    let files = idx_files();
    let numbered = (0_u8..).zip(files.iter());
    numbered
        .flat_map(|(number, file)| {
            [file.clone(), gzip(file)].map(|bytes| [vec![number], bytes].concat())
        })
        .collect()
}

fn idx_files() -> [Vec<u8>; 4] {
    let file = |sizes: &[u32], items: Vec<u8>| {
        let mut bytes = vec![0, 0, 8, u8::try_from(sizes.len()).expect("three at most")];
        bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend(items);
        bytes
    };
    [
        file(&[12, 2, 2], (0..48).collect()),
        file(&[12], (0..12).map(|i| i % 10).collect()),
        file(&[2, 2, 2], (0..8).collect()),
        file(&[2], vec![3, 9]),
    ]
}

/// An archive of CIFAR-10 or CIFAR-100, packed or not; a whole one has 180 MB, so none gets as far as a data set.
pub(crate) fn run_cifar(bytes: &[u8]) {
    let folder = temporary();
    let archive = folder.path().join("archive");
    put(&archive, bytes);
    load(DatasetName::Cifar10, &archive);
    load(DatasetName::Cifar100, &archive);
    // The same bytes as one of the files in it.
    put(&folder.path().join("train.bin"), bytes);
    load(DatasetName::Cifar100, folder.path());
}

pub(crate) fn cifar_seeds() -> Vec<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for name in [
        "cifar-10-batches-bin/data_batch_1.bin",
        "cifar-100-binary/train.bin",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(100);
        header.set_mode(0o644);
        let added = archive.append_data(&mut header, name, &[7; 100][..]);
        added.expect("memory takes it");
    }
    let archive = archive.into_inner().expect("memory takes it");
    vec![gzip(&archive), archive, vec![1; 3_074]]
}

/// A picture among others to train on, and one to be looked at.
pub(crate) fn run_picture(bytes: &[u8]) {
    let folder = temporary();
    let images = folder.path().join("images");
    put(
        &images.join("train/cat/0.png"),
        &picture(ImageFormat::Png, true),
    );
    put(&images.join("train/cat/1.png"), bytes);
    put(
        &images.join("train/dog/0.png"),
        &picture(ImageFormat::Png, false),
    );
    let cache = folder.path().join("cache");
    for resize in [None, NonZeroU32::new(5)] {
        let settings = DataSettings {
            path: Some(images.clone()),
            cache: Some(cache.clone()),
            resize,
            ..DataSettings::new(DatasetName::Folder)
        };
        let first = Dataset::read(&settings).ok(); // a bad image
        assert_eq!(
            first,
            Dataset::read(&settings).ok(),
            "read again, from the cache"
        );
    }
    for channels in [1, 3] {
        let shape = ImageShape {
            channels,
            height: 4,
            width: 3,
        };
        if let Ok((_, pixels)) = data::read_images(&images.join("train/cat/1.png"), shape) {
            assert_eq!(pixels.len(), shape.image_len());
        }
    }
}

pub(crate) fn pictures() -> Vec<Vec<u8>> {
    let mut pictures = Vec::new();
    for format in [ImageFormat::Png, ImageFormat::Jpeg] {
        pictures.push(picture(format, true));
        pictures.push(picture(format, false));
    }
    let deep = DynamicImage::from(GrayImage::from_fn(3, 2, |x, y| {
        image::Luma([u8::try_from(x * 7 + y).expect("below 256")])
    }));
    for image in [
        DynamicImage::from(deep.to_luma16()),
        DynamicImage::from(deep.to_luma_alpha8()),
        DynamicImage::from(deep.to_rgba16()),
    ] {
        pictures.push(encoded(&image, ImageFormat::Png));
    }
    pictures
}

fn picture(format: ImageFormat, is_grey: bool) -> Vec<u8> {
    let image: DynamicImage = if is_grey {
        GrayImage::from_pixel(3, 2, image::Luma([7])).into()
    } else {
        RgbImage::from_pixel(3, 2, image::Rgb([9, 8, 7])).into()
    };
    encoded(&image, format)
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let written = image.write_to(&mut bytes, format);
    written.expect("memory takes it");
    bytes.into_inner()
}

/// A file of decoded images in the user's cache folder; its key, which depends on the moment, is put in.
pub(crate) fn run_decoded(bytes: &[u8]) {
    with_cache(|settings, path| {
        let line = first_line(&shared::fs::read(path).expect("written a moment ago"));
        let end = bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(bytes.len());
        let mut header = parsed(&bytes[..end]);
        let mut content = bytes.to_vec();
        if header["key"] == KEY {
            header["key"] = line["key"].clone();
            content = [header.to_string().as_bytes(), &bytes[end..]].concat();
        }
        put(path, &content);
        let again = Dataset::read(settings).expect("the images are good, whatever the cache holds");
        assert_eq!(again.class_names, ["cat", "dog"]);
    });
}

pub(crate) fn decoded_seeds() -> Vec<Vec<u8>> {
    let mut seed = Vec::new();
    with_cache(|_, path| {
        let bytes = shared::fs::read(path).expect("written a moment ago");
        let mut header = first_line(&bytes);
        let end = bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .expect("a line");
        header["key"] = KEY.into();
        seed = [header.to_string().as_bytes(), &bytes[end..]].concat();
    });
    vec![seed]
}

/// A folder of images that was read once, so that there is a cache file.
fn with_cache(act: impl FnOnce(&DataSettings, &Path)) {
    let folder = temporary();
    let images = folder.path().join("images");
    for class in ["cat", "dog"] {
        put(
            &images.join("train").join(class).join("0.png"),
            &picture(ImageFormat::Png, true),
        );
    }
    let settings = DataSettings {
        path: Some(images),
        cache: Some(folder.path().join("cache")),
        ..DataSettings::new(DatasetName::Folder)
    };
    Dataset::read(&settings).expect("the images are good");
    let cache = folder.path().join("cache");
    let names = shared::fs::list(&cache).expect("written a moment ago");
    act(&settings, &cache.join(&names[0]));
}

fn first_line(bytes: &[u8]) -> Value {
    let line = bytes.split(|byte| *byte == b'\n').next();
    parsed(line.unwrap_or_default())
}

/// Reads and divides a data set.
fn load(name: DatasetName, path: &Path) {
    let settings = DataSettings {
        path: Some(PathBuf::from(path)),
        ..DataSettings::new(name)
    };
    let Ok(splits) = Dataset::load(&settings) else {
        return;
    };
    let num = splits.train.len() * splits.shape.image_len();
    assert_eq!(splits.train.pixels.len(), num);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let packed = encoder.write_all(bytes).and_then(|()| encoder.finish());
    packed.expect("memory takes it")
}
