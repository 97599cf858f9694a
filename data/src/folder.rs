//! Folders of images: `train/<class>/*.{png,jpg,jpeg}`, with or without a `test/` side.
//!
//! The classes are the names of the folders in `train`, sorted; the items are the files, sorted by class and name.
//! Images are grey where every one of them is, and red, green, blue otherwise; transparency is dropped, 16 bits a
//! channel become 8. Decoded images are kept in the [`cache`].

use std::fs;
use std::io::Cursor;
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use image::imageops::FilterType;
use image::{ColorType, DynamicImage, ImageError, ImageFormat, ImageReader};
use rayon::prelude::*;
use shared::dataset::DatasetName;
use walkdir::WalkDir;

use crate::cache::{self, Key};
use crate::dataset::{Dataset, ImageShape, Images};
use crate::error::{self, BadImage, Error};
use crate::jpeg;

const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Labels are `u16`.
const MAX_CLASSES: usize = 1 << 16;

/// Bad images named in an error; the others are counted.
const NUM_LISTED: usize = 5;

/// One image file.
struct Item {
    path: PathBuf,
    label: u16,
}

/// Reads images to be looked at by a network that was trained on a data set: one file, or all of a folder and its
/// folders, sorted by path. Each is brought to the data set's size and to its colours.
///
/// # Errors
/// Files that cannot be read or decoded, all counted and the first ones named; no image at all.
pub fn read_images(path: &Path, shape: ImageShape) -> Result<(Vec<PathBuf>, Vec<u8>), Error> {
    let mut paths = Vec::new();
    if path.is_dir() {
        let walk = WalkDir::new(path).follow_links(true).sort_by_file_name();
        for entry in walk
            .into_iter()
            .filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry))
        {
            let entry = entry.map_err(|error| walk_error(path, error))?;
            if entry.file_type().is_file() && is_image(entry.path()) {
                paths.push(entry.into_path());
            }
        }
    } else {
        paths.push(path.to_owned());
    }
    if paths.is_empty() {
        return Err(Error::EmptyClass {
            path: path.to_owned(),
        });
    }
    let decoded: Vec<Result<Vec<u8>, String>> = paths
        .par_iter()
        .map(|path| decode_like(path, shape))
        .collect();
    let mut pixels = Vec::with_capacity(paths.len() * shape.image_len());
    let mut bad = Vec::new();
    for (path, decoded) in paths.iter().zip(decoded) {
        match decoded {
            Ok(image) => pixels.extend(image),
            Err(reason) => bad.push(BadImage {
                path: path.clone(),
                reason,
            }),
        }
    }
    if bad.is_empty() {
        return Ok((paths, pixels));
    }
    let (num_images, num_bad) = (paths.len(), bad.len());
    bad.truncate(NUM_LISTED);
    Err(Error::BadImages {
        path: path.to_owned(),
        num_images,
        num_bad,
        first: bad,
    })
}

/// Decodes one image into a given form. `[channels, height, width]`
fn decode_like(path: &Path, shape: ImageShape) -> Result<Vec<u8>, String> {
    let mut image = open(path)?;
    let size = |side: usize| u32::try_from(side).expect("the side of an image");
    let (height, width) = (size(shape.height), size(shape.width));
    if (image.height(), image.width()) != (height, width) {
        image = image.resize_exact(width, height, FilterType::Triangle);
    }
    let is_grey = shape.channels == 1;
    let values = if is_grey {
        image.into_luma8().into_raw()
    } else {
        image.into_rgb8().into_raw()
    };
    let size = Size { height, width };
    let image = Decoded {
        size,
        is_grey,
        values,
    };
    Ok(planes(std::iter::once(image), 1, shape))
}

/// The files of a data set, in order.
struct Files {
    class_names: Vec<String>,
    train: Vec<Item>,
    test: Option<Vec<Item>>,
}

/// Reads a folder, from the cache where it holds just these files.
pub(crate) fn read(
    root: &Path,
    resize: Option<NonZeroU32>,
    cache: Option<&Path>,
) -> Result<Dataset, Error> {
    let mut key = Key::new(root, resize);
    let files = list(root, &mut key)?;
    let entry = cache.map(|folder| cache::Entry::new(folder, key));
    if let Some(dataset) = entry.as_ref().and_then(cache::Entry::load) {
        return Ok(dataset);
    }
    let dataset = decode_all(root, files, resize)?;
    if let Some(entry) = entry {
        entry.store(&dataset);
    }
    Ok(dataset)
}

/// Lists the files of both sides and tells the cache's key about each.
fn list(root: &Path, key: &mut Key) -> Result<Files, Error> {
    let not_found = |looked_for: &str| {
        let dataset = DatasetName::Folder;
        let origin = error::origin(dataset);
        Error::NotFound {
            dataset,
            path: root.to_owned(),
            looked_for: looked_for.to_owned(),
            origin,
        }
    };
    let folder = root.join("train");
    if !folder.is_dir() {
        return Err(not_found("folder train"));
    }
    let class_names = class_names(&folder)?;
    if class_names.is_empty() {
        return Err(not_found("class folder in train"));
    }
    if class_names.len() > MAX_CLASSES {
        let (found, limit) = (class_names.len(), MAX_CLASSES);
        return Err(Error::TooManyClasses {
            path: folder,
            found,
            limit,
        });
    }
    let train = list_side(root, "train", &class_names, key)?;
    let test_folder = root.join("test");
    let test = if test_folder.is_dir() {
        for name in self::class_names(&test_folder)? {
            if class_names.binary_search(&name).is_err() {
                return Err(Error::UnknownClass {
                    path: test_folder.join(name),
                    classes: class_names,
                });
            }
        }
        Some(list_side(root, "test", &class_names, key)?)
    } else {
        None
    };
    for (label, name) in (0..=u16::MAX).zip(&class_names) {
        // Sorted by label, so the search is a binary one.
        if train
            .binary_search_by_key(&label, |item| item.label)
            .is_err()
        {
            return Err(Error::EmptyClass {
                path: folder.join(name),
            });
        }
    }
    Ok(Files {
        class_names,
        train,
        test,
    })
}

/// The names of the folders in a side, sorted.
fn class_names(side: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in entries(side) {
        let entry = entry.map_err(|error| walk_error(side, error))?;
        if entry.file_type().is_dir() && !is_hidden(&entry) {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    // By bytes, which is how the search for a name compares.
    names.sort_unstable();
    Ok(names)
}

/// The images of one side; classes without a folder have none.
fn list_side(
    root: &Path,
    side: &str,
    class_names: &[String],
    key: &mut Key,
) -> Result<Vec<Item>, Error> {
    let side = root.join(side);
    let mut items = Vec::new();
    let mut passed_over = 0_usize;
    for (label, name) in (0..=u16::MAX).zip(class_names) {
        let folder = side.join(name);
        if !folder.is_dir() {
            continue;
        }
        for entry in entries(&folder) {
            let entry = entry.map_err(|error| walk_error(&folder, error))?;
            if is_hidden(&entry) {
                continue;
            }
            if !is_image(entry.path()) || !entry.file_type().is_file() {
                passed_over += 1;
                continue;
            }
            let metadata = entry
                .metadata()
                .map_err(|error| walk_error(entry.path(), error))?;
            let modified = (metadata.mtime(), metadata.mtime_nsec());
            // From the root on, so that the key is the same by whatever path the root is reached.
            let path = entry.path().strip_prefix(root).unwrap_or(entry.path());
            key.add_file(path, metadata.size(), modified);
            items.push(Item {
                path: entry.into_path(),
                label,
            });
        }
    }
    if passed_over > 0 {
        let folder = side.display();
        tracing::warn!(
            "passed over {passed_over} files in {folder} that are not .png, .jpg or .jpeg"
        );
    }
    Ok(items)
}

fn entries(folder: &Path) -> walkdir::IntoIter {
    let walk = WalkDir::new(folder).min_depth(1).max_depth(1);
    walk.follow_links(true).sort_by_file_name().into_iter()
}

fn walk_error(folder: &Path, error: walkdir::Error) -> Error {
    let path = error.path().unwrap_or(folder).to_owned();
    Error::Read {
        path,
        source: error.into(),
    }
}

fn is_hidden(entry: &walkdir::DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    EXTENSIONS
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

/// Rows and columns of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    height: u32,
    width: u32,
}

/// One decoded image: grey, or red, green and blue for each pixel in turn.
struct Decoded {
    size: Size,
    is_grey: bool,
    values: Vec<u8>,
}

fn decode_all(root: &Path, files: Files, resize: Option<NonZeroU32>) -> Result<Dataset, Error> {
    let Files {
        class_names,
        train,
        test,
    } = files;
    let items: Vec<&Item> = train.iter().chain(test.iter().flatten()).collect();
    tracing::info!("decoding {} images in {}", items.len(), root.display());
    // In the order of the items, whichever thread decodes which.
    let decoded: Vec<Result<Decoded, String>> = items
        .par_iter()
        .map(|item| decode(&item.path, resize))
        .collect();
    let size = usual_size(&decoded);
    let mut images = Vec::with_capacity(items.len());
    let mut bad = Vec::new();
    for (item, decoded) in items.iter().zip(decoded) {
        let usable = decoded.and_then(|image| match size {
            Some(size) if size != image.size => Err(format!(
                "its size is {}×{}, that of the others {}×{} (`resize` brings all to one size)",
                image.size.height, image.size.width, size.height, size.width
            )),
            _ => Ok(image),
        });
        match usable {
            Ok(image) => images.push(image),
            Err(reason) => bad.push(BadImage {
                path: item.path.clone(),
                reason,
            }),
        }
    }
    let (num_images, num_bad) = (items.len(), bad.len());
    let Some(size) = size.filter(|_| bad.is_empty()) else {
        bad.truncate(NUM_LISTED);
        return Err(Error::BadImages {
            path: root.to_owned(),
            num_images,
            num_bad,
            first: bad,
        });
    };
    let shape = ImageShape {
        channels: if images.iter().all(|image| image.is_grey) {
            1
        } else {
            3
        },
        height: usize::try_from(size.height).expect("pixels fit the address space"),
        width: usize::try_from(size.width).expect("pixels fit the address space"),
    };
    let mut images = images.into_iter();
    let mut side = |items: &[Item]| Images {
        pixels: planes(images.by_ref().take(items.len()), items.len(), shape),
        labels: items.iter().map(|item| item.label).collect(),
    };
    let train = side(&train);
    let test = test.map(|items| side(&items));
    Ok(Dataset::new(
        DatasetName::Folder,
        train,
        test,
        shape,
        class_names,
    ))
}

/// Opens one image; what its content is decides how, not its name.
fn open(path: &Path) -> Result<DynamicImage, String> {
    // The decoder's messages end with a line break.
    let reason = |error: ImageError| error.to_string().trim_end().to_owned();
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let format = image::guess_format(&bytes).map_err(reason)?;
    if format == ImageFormat::Jpeg && !jpeg::is_whole(&bytes) {
        return Err("it is cut off before the end of the image".to_owned());
    }
    ImageReader::with_format(Cursor::new(bytes), format)
        .decode()
        .map_err(reason)
}

/// Decodes one image.
fn decode(path: &Path, resize: Option<NonZeroU32>) -> Result<Decoded, String> {
    let mut image = open(path)?;
    if let Some(side) = resize.map(NonZeroU32::get)
        && (image.height(), image.width()) != (side, side)
    {
        image = image.resize_exact(side, side, FilterType::Triangle);
    }
    let size = Size {
        height: image.height(),
        width: image.width(),
    };
    let is_grey = matches!(
        image.color(),
        ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16
    );
    let values = if is_grey {
        image.into_luma8().into_raw()
    } else {
        image.into_rgb8().into_raw()
    };
    Ok(Decoded {
        size,
        is_grey,
        values,
    })
}

/// The size most images have; of two equally common ones the first to come.
fn usual_size(images: &[Result<Decoded, String>]) -> Option<Size> {
    let mut counts: Vec<(Size, usize)> = Vec::new();
    for image in images.iter().flatten() {
        match counts.iter_mut().find(|(size, _)| *size == image.size) {
            Some((_, count)) => *count += 1,
            None => counts.push((image.size, 1)),
        }
    }
    // `max_by_key` keeps the last of equals, hence from the back.
    counts
        .into_iter()
        .rev()
        .max_by_key(|(_, count)| *count)
        .map(|(size, _)| size)
}

/// Lays images out as `[n, channels, height, width]`.
fn planes(images: impl Iterator<Item = Decoded>, num_images: usize, shape: ImageShape) -> Vec<u8> {
    let mut all = Vec::with_capacity(num_images * shape.image_len());
    for image in images {
        for channel in 0..shape.channels {
            if image.is_grey {
                all.extend_from_slice(&image.values);
            } else {
                all.extend(image.values.iter().skip(channel).step_by(3));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests;
